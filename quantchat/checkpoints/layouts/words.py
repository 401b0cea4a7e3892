"""Codes out of 32-bit words and bytes, as quantizers pack them. All little endian."""

from __future__ import annotations

import torch

AWQ_ORDER = (0, 4, 1, 5, 2, 6, 3, 7)
"""Nibbles of a word in the order of the columns that they stand for."""
PACKED_BITS = (2, 3, 4, 8)


def unpack_words(words: torch.Tensor, bits: int) -> torch.Tensor:
    """int32 [R, C] -> uint8 [R, C * 32 / bits], low bits first along the last dimension.

    Three bits run on from word to word: 32 codes in three words.
    """
    assert words.dtype == torch.int32 and bits in PACKED_BITS
    rows = words.shape[0]
    data = words.contiguous().view(-1).view(torch.uint8).view(rows, -1)
    if bits == 8:
        return data
    if bits == 4:
        return torch.stack((data & 15, data >> 4), dim=-1).view(rows, -1)
    if bits == 2:
        parts = [data & 3, (data >> 2) & 3, (data >> 4) & 3, data >> 6]
        return torch.stack(parts, dim=-1).view(rows, -1)
    three = data.view(rows, -1, 3).to(torch.int32)
    joined = three[..., 0] | (three[..., 1] << 8) | (three[..., 2] << 16)
    shifts = torch.arange(0, 24, 3, device=words.device, dtype=torch.int32)
    return ((joined[..., None] >> shifts) & 7).to(torch.uint8).view(rows, -1)


def words_for(count: int, bits: int) -> int:
    """Words that so many codes take."""
    return -(-count * bits // 32)


def unpack_awq(words: torch.Tensor) -> torch.Tensor:
    """int32 [R, C] -> uint8 [R, 8 C] in the order of AutoAWQ's GEMM layout."""
    nibbles = unpack_words(words, 4).view(*words.shape, 8)
    order = torch.tensor(AWQ_ORDER, device=words.device)
    return nibbles.index_select(-1, order).view(words.shape[0], -1)


def swap_nibbles(packed: torch.Tensor) -> torch.Tensor:
    """uint8, high nibble first -> low nibble first."""
    return (packed >> 4) | (packed << 4)
