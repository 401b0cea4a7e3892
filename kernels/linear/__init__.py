"""Linears of a decode step on tensor cores, one to 64 rows, weights as stored."""
