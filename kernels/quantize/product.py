"""int32 products to 16 bits: times the row's scale and the column's, plus the bias."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from .._launch import ceil_div, launch

_BLOCK = 1024


@triton.jit
def scale_product_kernel(
    product_ptr,
    row_scale_ptr,
    column_scale_ptr,
    bias_ptr,
    y_ptr,
    N,
    product_stride,
    y_stride,
    BN: tl.constexpr,
    HAS_BIAS: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    n = tl.program_id(1) * BN + tl.arange(0, BN)
    m_n = n < N
    # Read once and never again: the next product may take its place in the cache.
    total = tl.load(
        product_ptr + row * product_stride + n, mask=m_n, other=0, eviction_policy="evict_first"
    ).to(tl.float32)
    total *= tl.load(row_scale_ptr + row)
    total *= tl.load(column_scale_ptr + n, mask=m_n, other=0.0)
    if HAS_BIAS:
        total += tl.load(bias_ptr + n, mask=m_n, other=0.0).to(tl.float32)
    tl.store(y_ptr + row * y_stride + n, total.to(y_ptr.dtype.element_ty), mask=m_n)


def scale_product(
    product: torch.Tensor,
    row_scale: torch.Tensor,
    column_scale: torch.Tensor,
    out: torch.Tensor,
    *,
    bias: torch.Tensor | None = None,
) -> torch.Tensor:
    """product int32 [M, N] times row_scale [M] and column_scale [N], plus bias [N], into `out`.

    `out` [M, N] fp16 or bf16 may be columns of a wider matrix; scales are fp32.
    """
    rows, columns = product.shape
    assert product.dtype == torch.int32 and product.stride(1) == 1
    assert tuple(out.shape) == (rows, columns) and out.stride(1) == 1
    assert out.dtype in (torch.float16, torch.bfloat16)
    assert row_scale.shape == (rows,) and row_scale.is_contiguous()
    assert column_scale.shape == (columns,) and column_scale.is_contiguous()
    assert row_scale.dtype == column_scale.dtype == torch.float32
    assert bias is None or (bias.shape == (columns,) and bias.is_contiguous())
    launch(
        scale_product_kernel,
        (rows, ceil_div(columns, _BLOCK), 1),
        product,
        row_scale,
        column_scale,
        bias,
        out,
        columns,
        product.stride(0),
        out.stride(0),
        BN=_BLOCK,
        HAS_BIAS=bias is not None,
        warps=4,
    )
    return out
