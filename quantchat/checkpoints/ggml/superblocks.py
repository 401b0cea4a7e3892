"""The 256-element super-block types of ggml (K-quants, IQ4_XS), decoded.

Each function: uint8 [n, block bytes] -> float32 [n, 256]. A super-block holds 8 or 16 sub-blocks,
each with a small integer scale (and minimum) times the super-block's float16 one. Field order and
formulas are those of ggml-common.h and ggml-quants.c (`dequantize_row_*`).
"""

from __future__ import annotations

import torch

from quantchat.checkpoints.ggml.blocks import half, iq4_values


def _shifts(device: torch.device, *places: int) -> torch.Tensor:
    return torch.tensor(places, dtype=torch.uint8, device=device)


def _two_bits(packed: torch.Tensor) -> torch.Tensor:
    """uint8 [n, 32 h] -> uint8 [n, h, 4, 32]: bit pairs, plane after plane of each 32 bytes."""
    planes = _shifts(packed.device, 0, 2, 4, 6)[:, None]
    return (packed.reshape(packed.shape[0], -1, 1, 32) >> planes) & 3


def _four_bits(packed: torch.Tensor, width: int) -> torch.Tensor:
    """uint8 [n, width g] -> uint8 [n, g, 2, width]: low nibbles of each run, then high ones."""
    planes = _shifts(packed.device, 0, 4)[:, None]
    return (packed.reshape(packed.shape[0], -1, 1, width) >> planes) & 15


def _scales_and_minima(packed: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """uint8 [n, 12] -> two uint8 [n, 8] of six bits (Q4_K, Q5_K)."""
    first, second, mixed = packed[:, 0:4], packed[:, 4:8], packed[:, 8:12]
    scales = torch.cat((first & 63, (mixed & 15) | ((first >> 6) << 4)), dim=1)
    minima = torch.cat((second & 63, (mixed >> 4) | ((second >> 6) << 4)), dim=1)
    return scales, minima


def _affine(
    codes: torch.Tensor,
    d: torch.Tensor,
    scales: torch.Tensor,
    dmin: torch.Tensor,
    minima: torch.Tensor,
) -> torch.Tensor:
    """(d scale) q - (dmin minimum) over sub-blocks: codes [n, 256], scales [n, s]."""
    count, subblocks = scales.shape
    values = codes.reshape(count, subblocks, -1).float()
    values.mul_((d * scales.float())[:, :, None]).sub_((dmin * minima.float())[:, :, None])
    return values.reshape(count, 256)


def _scaled(codes: torch.Tensor, d: torch.Tensor, scales: torch.Tensor) -> torch.Tensor:
    """(d scale) q over sub-blocks: float codes [n, 256], scales [n, s]."""
    count, subblocks = scales.shape
    values = codes.reshape(count, subblocks, -1).mul_((d * scales.float())[:, :, None])
    return values.reshape(count, 256)


def q2_k(blocks: torch.Tensor) -> torch.Tensor:
    """scales[16], qs[64], d, dmin: 16 sub-blocks, low nibble scale, high nibble minimum."""
    scales = blocks[:, :16]
    codes = _two_bits(blocks[:, 16:80])
    return _affine(codes, half(blocks, 80), scales & 15, half(blocks, 82), scales >> 4)


def q3_k(blocks: torch.Tensor) -> torch.Tensor:
    """hmask[32], qs[64], scales[12], d: q = two bits, less 4 where the mask's bit is clear."""
    count = blocks.shape[0]
    places = _shifts(blocks.device, 0, 1, 2, 3, 4, 5, 6, 7)[:, None]
    high = (blocks[:, None, :32] >> places) & 1
    codes = _two_bits(blocks[:, 32:96]).reshape(count, 256) | (high.reshape(count, 256) << 2)
    low = _four_bits(blocks[:, 96:104], 8).reshape(count, 16)
    top = (blocks[:, None, 104:108] >> _shifts(blocks.device, 0, 2, 4, 6)[:, None]) & 3
    scales = (low | (top.reshape(count, 16) << 4)).to(torch.int8) - 32
    return _scaled(codes.float().sub_(4), half(blocks, 108), scales)


def q4_k(blocks: torch.Tensor) -> torch.Tensor:
    """d, dmin, scales[12], qs[128]: 8 sub-blocks, low then high nibbles of each 32 bytes."""
    scales, minima = _scales_and_minima(blocks[:, 4:16])
    return _affine(_four_bits(blocks[:, 16:], 32), half(blocks, 0), scales, half(blocks, 2), minima)


def q4_k_parts(blocks: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Codes uint8 [n, 256], scale and offset float32 [n, 8] of Q4_K: w = q scale + offset."""
    scales, minima = _scales_and_minima(blocks[:, 4:16])
    codes = _four_bits(blocks[:, 16:], 32).reshape(-1, 256)
    return codes, half(blocks, 0) * scales.float(), -half(blocks, 2) * minima.float()


def q5_k(blocks: torch.Tensor) -> torch.Tensor:
    """d, dmin, scales[12], qh[32], qs[128]: Q4_K with a fifth bit, bit i of qh for sub-block i."""
    scales, minima = _scales_and_minima(blocks[:, 4:16])
    places = _shifts(blocks.device, 0, 1, 2, 3, 4, 5, 6, 7)[:, None]
    high = ((blocks[:, None, 16:48] >> places) & 1) << 4
    codes = _four_bits(blocks[:, 48:], 32).reshape(-1, 8, 32) | high
    return _affine(codes, half(blocks, 0), scales, half(blocks, 2), minima)


def q6_k(blocks: torch.Tensor) -> torch.Tensor:
    """ql[128], qh[64], int8 scales[16], d: q = four low bits, two high bits, less 32."""
    low = _four_bits(blocks[:, :128], 64).reshape(-1, 256)
    high = _two_bits(blocks[:, 128:192]).reshape(-1, 256)
    codes = (low | (high << 4)).float().sub_(32)
    return _scaled(codes, half(blocks, 208), blocks[:, 192:208].view(torch.int8))


def iq4_xs(blocks: torch.Tensor) -> torch.Tensor:
    """d, scales_h (16 bits), scales_l[4], qs[128]: 8 sub-blocks coded by the table of IQ4_NL."""
    count = blocks.shape[0]
    low = (blocks[:, 4:8, None] >> _shifts(blocks.device, 0, 4)) & 15
    high = (blocks[:, 2:4, None] >> _shifts(blocks.device, 0, 2, 4, 6)) & 3
    scales = (low.reshape(count, 8) | (high.reshape(count, 8) << 4)).to(torch.int8) - 32
    codes = _four_bits(blocks[:, 8:], 16).reshape(count, 256)
    return _scaled(iq4_values(codes), half(blocks, 0), scales)
