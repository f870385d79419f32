"""Runs the whole of AI-OTS on one machine without containers, and keeps it running."""
