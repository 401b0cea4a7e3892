"""Packing of small codes into bytes along the input dimension."""

from __future__ import annotations

import torch


def pack_nibbles(codes: torch.Tensor) -> torch.Tensor:
    """uint8 [..., K] with values 0..15 -> uint8 [..., K/2], low nibble first."""
    assert codes.dtype == torch.uint8 and codes.shape[-1] % 2 == 0
    return codes[..., 0::2] | (codes[..., 1::2] << 4)


def unpack_nibbles(packed: torch.Tensor) -> torch.Tensor:
    """uint8 [..., K/2] -> uint8 [..., K], the inverse of pack_nibbles."""
    assert packed.dtype == torch.uint8
    return torch.stack((packed & 15, packed >> 4), dim=-1).flatten(-2)
