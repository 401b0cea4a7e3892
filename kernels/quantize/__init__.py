"""Rows of activations to 8-bit codes with one scale each, and what brings products back."""
