"""Sums into a residual stream of fp32 and its norm, with a norm of what is added before; one launch.

For blocks whose sums and norms do not ride on linears: norms behind sub-blocks, scaled streams,
attention beside the MLP, layer norms. One program a row.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

from .._launch import check_out, launch, power_of_2
from ..quantize.rows import row_warps
from .reference import RowNorm, StreamKind

RMS = tl.constexpr(0)
RMS_FLOAT = tl.constexpr(1)
LAYER = tl.constexpr(2)
KINDS: dict[StreamKind, int] = {
    "rms": RMS.value,
    "rms_float": RMS_FLOAT.value,
    "layer": LAYER.value,
}


@triton.jit
def _normed(x, weight, bias, m_k, K, eps, KIND: tl.constexpr, BIAS: tl.constexpr, DTYPE):
    if KIND == LAYER:
        x = tl.where(m_k, x - tl.sum(x, 0) / K, 0.0)
    x = x * (1.0 / tl.sqrt(tl.sum(x * x, 0) / K + eps))
    if KIND == RMS:
        x = x.to(DTYPE).to(tl.float32)
        weight = weight.to(DTYPE).to(tl.float32)
    y = x * weight
    if BIAS:
        y += bias
    return y.to(DTYPE)


@triton.jit
def stream_norm_kernel(
    residual_ptr,
    made_ptr,
    beside_ptr,
    behind_ptr,
    behind_bias_ptr,
    ahead_ptr,
    ahead_bias_ptr,
    y_ptr,
    K,
    eps,
    scale,
    BK: tl.constexpr,
    KIND: tl.constexpr,
    FRESH: tl.constexpr,
    SUMS: tl.constexpr,
    BEHIND: tl.constexpr,
    BEHIND_BIAS: tl.constexpr,
    AHEAD: tl.constexpr,
    AHEAD_BIAS: tl.constexpr,
    PDL: tl.constexpr,
):
    DTYPE: tl.constexpr = y_ptr.dtype.element_ty
    row = tl.program_id(0).to(tl.int64)
    k = tl.arange(0, BK)
    m_k = k < K
    o_x = row * K + k
    if PDL:
        gdc_launch_dependents()
    behind = 0.0
    behind_bias = 0.0
    ahead = 0.0
    ahead_bias = 0.0
    if BEHIND:
        behind = tl.load(behind_ptr + k, mask=m_k, other=0.0)
    if BEHIND_BIAS:
        behind_bias = tl.load(behind_bias_ptr + k, mask=m_k, other=0.0)
    if AHEAD:
        ahead = tl.load(ahead_ptr + k, mask=m_k, other=0.0)
    if AHEAD_BIAS:
        ahead_bias = tl.load(ahead_bias_ptr + k, mask=m_k, other=0.0)
    if PDL:
        gdc_wait()
    if SUMS > 0:
        x = tl.load(made_ptr + o_x, mask=m_k, other=0.0).to(tl.float32)
        if SUMS > 1:
            x += tl.load(beside_ptr + o_x, mask=m_k, other=0.0).to(tl.float32)
        if BEHIND:
            x = _normed(x, behind, behind_bias, m_k, K, eps, KIND, BEHIND_BIAS, DTYPE)
            x = x.to(tl.float32)
        x = x * scale
        if not FRESH:
            x += tl.load(residual_ptr + o_x, mask=m_k, other=0.0)
        tl.store(residual_ptr + o_x, x, mask=m_k)
    else:
        x = tl.load(residual_ptr + o_x, mask=m_k, other=0.0)
    if AHEAD:
        y = _normed(x, ahead, ahead_bias, m_k, K, eps, KIND, AHEAD_BIAS, DTYPE)
    else:
        y = x.to(DTYPE)
    tl.store(y_ptr + o_x, y, mask=m_k)


def _check_norm(norm: RowNorm | None, columns: int) -> None:
    for vector in () if norm is None else (norm.weight, norm.bias):
        if vector is not None:
            assert vector.shape == (columns,) and vector.dtype == torch.float32
            assert vector.is_contiguous()


def stream_norm(
    residual: torch.Tensor,
    made: tuple[torch.Tensor, ...],
    *,
    kind: StreamKind,
    eps: float,
    dtype: torch.dtype,
    behind: RowNorm | None = None,
    ahead: RowNorm | None = None,
    scale: float = 1.0,
    fresh: bool = False,
    dependent: bool = False,
) -> torch.Tensor:
    """residual += scale * norm(sum of made); -> its norm in `dtype` [M, K]; as in reference.py.

    residual fp32 [M, K], changed in place, or written for the first time where `fresh`. made: none,
    one or two [M, K] of any float type, the first two of one type. Norms' vectors are fp32 [K];
    `behind` norms what was made, `ahead` the new residual; without one it is rounded alone.
    """
    rows, columns = residual.shape
    check_out(residual, (rows, columns), torch.float32)
    assert len(made) <= 2 and (made or not (fresh or behind))
    for each in made:
        check_out(each, (rows, columns), each.dtype)
    _check_norm(behind, columns)
    _check_norm(ahead, columns)
    out = torch.empty(rows, columns, dtype=dtype, device=residual.device)
    block = power_of_2(columns)
    behind_bias = None if behind is None else behind.bias
    ahead_bias = None if ahead is None else ahead.bias
    launch(
        stream_norm_kernel,
        (rows, 1, 1),
        residual,
        made[0] if made else None,
        made[1] if len(made) > 1 else None,
        None if behind is None else behind.weight,
        behind_bias,
        None if ahead is None else ahead.weight,
        ahead_bias,
        out,
        columns,
        eps,
        scale,
        BK=block,
        KIND=KINDS[kind],
        FRESH=fresh,
        SUMS=len(made),
        BEHIND=behind is not None,
        BEHIND_BIAS=behind_bias is not None,
        AHEAD=ahead is not None,
        AHEAD_BIAS=ahead_bias is not None,
        PDL=dependent,
        warps=row_warps(block),
        dependent=dependent,
    )
    return out
