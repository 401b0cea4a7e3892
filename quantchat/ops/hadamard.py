"""Rotation of heads by a Hadamard matrix, in torch: spreads outlier channels before 4-bit codes.

The matrix of order n is H[i, j] = (-1)^popcount(i & j) / sqrt(n) (Sylvester): symmetric, its own
inverse, so that q and k rotated together keep their products (QuaRot, arXiv 2404.00456, its R3).
"""

from __future__ import annotations

import functools

import torch


def has_hadamard(size: int) -> bool:
    """Whether vectors of that many values can be rotated here: powers of two."""
    return size > 0 and size & (size - 1) == 0


@functools.cache
def hadamard(size: int, device: torch.device) -> torch.Tensor:
    """The normalised matrix, float32 [size, size]; kept, since every layer asks for it."""
    assert has_hadamard(size), size
    matrix = torch.full((1, 1), size**-0.5)
    while matrix.shape[0] < size:
        matrix = torch.cat((torch.cat((matrix, matrix), 1), torch.cat((matrix, -matrix), 1)))
    return matrix.to(device)


def rotated(x: torch.Tensor) -> torch.Tensor:
    """x [..., D] times the matrix of order D: float32 inside, rounded once to x's dtype."""
    turned: torch.Tensor = x.float() @ hadamard(x.shape[-1], x.device)
    return turned.to(x.dtype)
