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
    words = packed.to(torch.int16)
    return ((words & 15) | ((words >> 4) << 8)).contiguous().view(torch.uint8)


def pack_triples(codes: torch.Tensor) -> torch.Tensor:
    """uint8 [..., K] with values 0..7 -> uint8 [..., 3 K/8], from the lowest bit up; K % 8 == 0."""
    assert codes.dtype == torch.uint8 and codes.shape[-1] % 8 == 0
    eight = codes.view(*codes.shape[:-1], -1, 8).to(torch.int32)
    shifts = torch.arange(0, 24, 3, device=codes.device, dtype=torch.int32)
    word = (eight << shifts).sum(dim=-1, dtype=torch.int32)
    parts = (word & 255, (word >> 8) & 255, word >> 16)
    return torch.stack(parts, dim=-1).to(torch.uint8).flatten(-2)


def unpack_triples(packed: torch.Tensor) -> torch.Tensor:
    """uint8 [..., 3 K/8] -> uint8 [..., K], the inverse of pack_triples."""
    assert packed.dtype == torch.uint8 and packed.shape[-1] % 3 == 0
    three = packed.view(*packed.shape[:-1], -1, 3).to(torch.int32)
    word = three[..., 0] | (three[..., 1] << 8) | (three[..., 2] << 16)
    shifts = torch.arange(0, 24, 3, device=packed.device, dtype=torch.int32)
    return ((word[..., None] >> shifts) & 7).to(torch.uint8).flatten(-2)
