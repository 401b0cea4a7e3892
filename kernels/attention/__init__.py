"""Decode attention over the paged cache."""
