"""Per-token quantisation in plain torch: the truth that the kernels are held to.

A row's scale is its largest magnitude over the largest code, so that nothing is clipped; a row of
zeros has a tiny scale and zero codes. Codes are the nearest, halves to even.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import torch

CodeFormat: TypeAlias = Literal["int8", "fp8"]

LIMITS: dict[CodeFormat, float] = {"int8": 127.0, "fp8": 448.0}
"""Largest code; fp8 is E4M3FN."""
DTYPES: dict[CodeFormat, torch.dtype] = {"int8": torch.int8, "fp8": torch.float8_e4m3fn}
LOWEST_AMAX = 1e-12


def quantize_rows(x: torch.Tensor, form: CodeFormat) -> tuple[torch.Tensor, torch.Tensor]:
    """x [M, K] float -> codes [M, K] int8 or float8_e4m3fn, scale fp32 [M]; x ~ codes * scale."""
    wide = x.float()
    limit = LIMITS[form]
    amax = wide.abs().amax(dim=-1, keepdim=True).clamp_min(LOWEST_AMAX)
    values = wide * (limit / amax)
    if form == "int8":
        values = values.round()
    codes = values.clamp(-limit, limit).to(DTYPES[form])
    return codes, (amax / limit).squeeze(-1)


def dequantize_rows(codes: torch.Tensor, scale: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """The values [M, K] that codes and scale [M] stand for."""
    return (codes.float() * scale[:, None]).to(dtype)


def scale_product(
    product: torch.Tensor,
    row_scale: torch.Tensor,
    column_scale: torch.Tensor,
    bias: torch.Tensor | None,
    dtype: torch.dtype,
) -> torch.Tensor:
    """product [M, N] int32 times both scales, plus bias [N] -> [M, N] in dtype; fp32, rounded once."""
    total = product.float() * row_scale[:, None] * column_scale[None, :]
    return (total if bias is None else total + bias.float()).to(dtype)


def dequantize_weight(codes: torch.Tensor, scale: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Dense weights [N, K] of codes int8, or uint8 with E4M3FN bits, and scale fp32 [N]."""
    values = codes.view(torch.float8_e4m3fn) if codes.dtype == torch.uint8 else codes
    return dequantize_rows(values, scale, dtype)
