"""Stored market data to indicators, over HTTP."""
