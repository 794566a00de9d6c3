"""Stored examples: what is kept of old data, how it is chosen and drawn."""
