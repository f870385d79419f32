"""Candidates for intraday option moves, each beside its baseline and its cost, and what became of them."""
