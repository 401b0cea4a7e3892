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
OUTLIER_SPAN = 32768.0
"""Prepared outliers stay within this: the scale of the rest alone could take them out of fp16."""


def quantize_rows(
    x: torch.Tensor, form: CodeFormat, given: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """x [M, K] float -> codes [M, K] int8 or float8_e4m3fn, scale fp32 [M]; x ~ codes * scale.

    `given` fp32 []: the scale of all rows; what is beyond its largest code is clipped.
    """
    wide = x.float()
    limit = LIMITS[form]
    if given is None:
        amax = wide.abs().amax(dim=-1, keepdim=True).clamp_min(LOWEST_AMAX)
        values, scale = wide * (limit / amax), (amax / limit).squeeze(-1)
    else:
        values, scale = wide / given, given.expand(wide.shape[0]).contiguous()
    if form == "int8":
        values = values.round()
    return values.clamp(-limit, limit).to(DTYPES[form]), scale


def prepare_rows(
    x: torch.Tensor,
    *,
    squares: torch.Tensor | None = None,
    eps: float = 0.0,
    threshold: float | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """x [M, K] float -> integers up to 127 in x's dtype [M, K], scale fp32 [M]; x ~ both multiplied.

    With `squares` fp32 [M, ceil(K / 16)] x is first divided by the root mean square they sum to.
    Values of at least `threshold` are not rounded and have no part in the scale (LLM.int8(),
    2208.07339, but found for each row alone, where the paper takes the columns of all rows): a
    row's result does not depend on the rows beside it.
    """
    wide = x.float()
    if squares is not None:
        wide = wide * torch.rsqrt(squares.sum(-1, keepdim=True) / x.shape[1] + eps)
    if threshold is None:
        amax = torch.linalg.vector_norm(wide, torch.inf, dim=-1, keepdim=True)
        amax.clamp_min_(LOWEST_AMAX)
        return (wide * (127 / amax)).round_().to(x.dtype), (amax / 127).squeeze(-1)
    magnitude = wide.abs()
    kept = magnitude < threshold
    part = torch.where(kept, magnitude, magnitude * (127 / OUTLIER_SPAN))
    amax = part.amax(-1, keepdim=True).clamp_min_(LOWEST_AMAX)
    values = wide * (127 / amax)
    return torch.where(kept, values.round(), values).to(x.dtype), (amax / 127).squeeze(-1)


def round_rows(x: torch.Tensor, *, threshold: float | None = None) -> torch.Tensor:
    """The values [M, K] that `prepare_rows` of x stands for, rounded once to x's dtype."""
    prepared, scale = prepare_rows(x.float(), threshold=threshold)
    return (prepared * scale[:, None]).to(x.dtype)


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
