"""The 32-element block types of ggml, decoded.

Each function: uint8 [n, block bytes] -> float32 [n, 32]. Field order and formulas are those of
ggml-common.h and ggml-quants.c (`dequantize_row_*`): scale `d`, offset `m`, codes `q`, low nibbles
holding elements 0-15 and high nibbles 16-31.
"""

from __future__ import annotations

import torch

IQ4_VALUES = (-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113)
"""What the 16 codes of IQ4_NL and IQ4_XS stand for."""
MXFP4_HALVES = (0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12)
"""Twice the values of E2M1."""


def half(blocks: torch.Tensor, offset: int) -> torch.Tensor:
    """The float16 at a byte offset of every block, as float32 [n, 1]."""
    field = blocks[:, offset : offset + 2].clone(memory_format=torch.contiguous_format)
    return field.view(torch.float16).float()


def nibbles(packed: torch.Tensor) -> torch.Tensor:
    """uint8 [n, w] -> uint8 [n, 2 w]: all low nibbles, then all high ones."""
    return torch.cat((packed & 15, packed >> 4), dim=1)


def fifth_bits(blocks: torch.Tensor, offset: int) -> torch.Tensor:
    """32 bits from a byte offset on, each worth 16: uint8 [n, 32]."""
    places = torch.arange(8, dtype=torch.uint8, device=blocks.device)
    bits = (blocks[:, offset : offset + 4, None] >> places) & 1
    return bits.reshape(-1, 32) << 4


def iq4_values(codes: torch.Tensor) -> torch.Tensor:
    """Codes 0..15 -> the table's values, float32, same shape."""
    table = torch.tensor(IQ4_VALUES, dtype=torch.float32, device=codes.device)
    return table[codes.int()]


def q4_0(blocks: torch.Tensor) -> torch.Tensor:
    """d (q - 8)."""
    return nibbles(blocks[:, 2:]).float().sub_(8).mul_(half(blocks, 0))


def q4_1(blocks: torch.Tensor) -> torch.Tensor:
    """d q + m."""
    return nibbles(blocks[:, 4:]).float().mul_(half(blocks, 0)).add_(half(blocks, 2))


def q5_0(blocks: torch.Tensor) -> torch.Tensor:
    """d (q - 16); bit e of a 32-bit word is the fifth bit of element e."""
    codes = nibbles(blocks[:, 6:]) | fifth_bits(blocks, 2)
    return codes.float().sub_(16).mul_(half(blocks, 0))


def q5_1(blocks: torch.Tensor) -> torch.Tensor:
    """d q + m, fifth bits as Q5_0."""
    codes = nibbles(blocks[:, 8:]) | fifth_bits(blocks, 4)
    return codes.float().mul_(half(blocks, 0)).add_(half(blocks, 2))


def q8_0(blocks: torch.Tensor) -> torch.Tensor:
    """d q, q signed."""
    return blocks[:, 2:].view(torch.int8).float().mul_(half(blocks, 0))


def iq4_nl(blocks: torch.Tensor) -> torch.Tensor:
    """d T[q], T a fixed table."""
    return iq4_values(nibbles(blocks[:, 2:])).mul_(half(blocks, 0))


def mxfp4(blocks: torch.Tensor) -> torch.Tensor:
    """2^(e - 127) T[q], e a byte before the codes; the table holds twice the values."""
    table = torch.tensor(MXFP4_HALVES, dtype=torch.float32, device=blocks.device)
    exponent = blocks[:, :1].to(torch.int32)
    # As ggml has it: half of 2^(e - 127), in bits, without a denormal's detour.
    bits = torch.where(exponent < 2, 0x00200000 << exponent.clamp(max=1), (exponent - 1) << 23)
    return table[nibbles(blocks[:, 1:]).int()].mul_(bits.view(torch.float32))
