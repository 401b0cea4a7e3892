"""Order of 4-bit codes inside 32-bit words; owns pack and unpack, knows nothing of scales.

A group of S weights is S/8 words. Seen as 16-bit pairs (2i, 2i+1), its activations form four
planes of S/8 pairs each; word j holds pair j of every plane: nibble p the even and nibble p + 4
the odd weight of the pair in plane p ^ swizzle(g). So activations in their natural order load
with the 16-byte pattern of the words, and one AND yields a pair of halves. The swizzle spreads
the planes that eight neighbouring lanes read over all banks.
"""

from __future__ import annotations

import torch

GROUP_SIZES = (32, 64, 128)


def plane_swizzle(groups: torch.Tensor, group_size: int) -> torch.Tensor:
    """What plane numbers of each group are XORed with; groups int64 [...] -> int64 [...]."""
    assert group_size in GROUP_SIZES, f"group size {group_size} is none of {GROUP_SIZES}"
    if group_size == 128:
        return groups & 1
    return groups & 3 if group_size == 64 else (groups >> 1) & 3


def _planes(group_count: int, group_size: int, device: torch.device) -> torch.Tensor:
    groups = torch.arange(group_count, device=device)
    planes = torch.arange(4, device=device)
    return planes[None, :] ^ plane_swizzle(groups, group_size)[:, None]


def pack(codes: torch.Tensor, group_size: int) -> torch.Tensor:
    """Packs codes uint8 [N, K] in 0..15 into words int32 [N, K // 8]."""
    rows, columns = codes.shape
    assert codes.dtype == torch.uint8, f"codes must be uint8: {codes.dtype}"
    assert columns % group_size == 0, f"group size {group_size} does not divide {columns}"
    groups = columns // group_size
    planes = _planes(groups, group_size, codes.device)
    index = torch.arange(groups, device=codes.device)[:, None]
    pairs = codes.reshape(rows, groups, 4, group_size // 8, 2)[:, index, planes]
    words = torch.zeros(rows, groups, group_size // 8, dtype=torch.int32, device=codes.device)
    for plane in range(4):
        words |= pairs[:, :, plane, :, 0].to(torch.int32) << (4 * plane)
        words |= pairs[:, :, plane, :, 1].to(torch.int32) << (4 * plane + 16)
    return words.view(rows, columns // 8)


def unpack(words: torch.Tensor, group_size: int) -> torch.Tensor:
    """Inverse of pack: words int32 [N, K // 8] -> codes uint8 [N, K]."""
    rows, columns = words.shape[0], words.shape[1] * 8
    assert words.dtype == torch.int32, f"words must be int32: {words.dtype}"
    assert columns % group_size == 0, f"group size {group_size} does not divide {columns}"
    groups = columns // group_size
    grouped = words.reshape(rows, groups, group_size // 8)
    pairs = torch.empty(rows, groups, 4, group_size // 8, 2, dtype=torch.uint8, device=words.device)
    for plane in range(4):
        pairs[:, :, plane, :, 0] = ((grouped >> (4 * plane)) & 15).to(torch.uint8)
        pairs[:, :, plane, :, 1] = ((grouped >> (4 * plane + 16)) & 15).to(torch.uint8)
    planes = _planes(groups, group_size, words.device)
    index = torch.arange(groups, device=words.device)[:, None]
    return pairs[:, index, planes].reshape(rows, columns)
