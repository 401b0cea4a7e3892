"""Entries kept apart from a stored weight: their product with few rows, and their way into a dense one."""
