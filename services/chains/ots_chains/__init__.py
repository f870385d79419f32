"""Stored quotes to option chains: what was quoted at a moment, with rates, volatilities, Greeks and a surface.

For whoever prices a chain in process; the same moment of the same stored data gives the same chain everywhere.
"""
