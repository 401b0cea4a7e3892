"""RMS norm of rows, alone or of a sum that becomes the new residual; one program a row."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from .._launch import check_activation, check_out, launch_options, power_of_2


@triton.jit
def rms_norm_kernel(
    x_ptr,
    residual_ptr,
    weight_ptr,
    y_ptr,
    total_ptr,
    K,
    eps,
    BK: tl.constexpr,
    HAS_RESIDUAL: tl.constexpr,
):
    k = tl.arange(0, BK)
    m_k = k < K
    o_x = tl.program_id(0).to(tl.int64) * K + k
    x = tl.load(x_ptr + o_x, mask=m_k, other=0.0).to(tl.float32)
    if HAS_RESIDUAL:
        x += tl.load(residual_ptr + o_x, mask=m_k, other=0.0).to(tl.float32)
        total = x.to(y_ptr.dtype.element_ty)
        tl.store(total_ptr + o_x, total, mask=m_k)
        x = total.to(tl.float32)
    inverse = 1.0 / tl.sqrt(tl.sum(x * x, 0) / K + eps)
    normed = (x * inverse).to(y_ptr.dtype.element_ty).to(tl.float32)
    weight = tl.load(weight_ptr + k, mask=m_k, other=0.0).to(tl.float32)
    tl.store(y_ptr + o_x, (normed * weight).to(y_ptr.dtype.element_ty), mask=m_k)


def _launch(
    x: torch.Tensor,
    residual: torch.Tensor | None,
    weight: torch.Tensor,
    eps: float,
    out: torch.Tensor | None,
    total: torch.Tensor | None,
) -> torch.Tensor:
    check_activation(x)
    rows, columns = x.shape
    assert weight.shape == (columns,) and weight.is_contiguous()
    if out is None:
        out = torch.empty_like(x)
    check_out(out, (rows, columns), x.dtype)
    block = power_of_2(columns)
    rms_norm_kernel[(rows,)](
        x,
        residual,
        weight,
        out,
        total,
        columns,
        eps,
        BK=block,
        HAS_RESIDUAL=residual is not None,
        num_warps=min(16, max(1, block // 512)),
        num_stages=1,
        **launch_options(),
    )
    return out


def rms_norm(
    x: torch.Tensor, weight: torch.Tensor, eps: float, *, out: torch.Tensor | None = None
) -> torch.Tensor:
    """x [M, K] over the root of its mean square, times weight [K] -> [M, K]; as in reference.py."""
    return _launch(x, None, weight, eps, out, None)


def add_rms_norm(
    x: torch.Tensor,
    residual: torch.Tensor,
    weight: torch.Tensor,
    eps: float,
    *,
    out: torch.Tensor | None = None,
    total: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """(rms_norm of x + residual, x + residual), all [M, K]; `total` may be `residual`."""
    check_out(residual, tuple(x.shape), x.dtype)
    if total is None:
        total = torch.empty_like(x)
    check_out(total, tuple(x.shape), x.dtype)
    return _launch(x, residual, weight, eps, out, total), total
