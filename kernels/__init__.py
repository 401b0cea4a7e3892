"""Kernels, one folder per op, each beside its torch reference. Imports nothing."""
