"""Schemes, stored formats and the rounding that fills them."""
