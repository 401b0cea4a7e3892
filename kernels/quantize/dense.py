"""8-bit rows to dense 16-bit weights, for the library's matmul in 16 bits."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from .._launch import ceil_div, check_out, launch
from .codes import fp8_values

_BLOCK_ROWS = 4
_BLOCK_COLUMNS = 1024


@triton.jit
def dequantize_weight_kernel(
    w_ptr, s_ptr, y_ptr, N, K, BN: tl.constexpr, BK: tl.constexpr, FP8: tl.constexpr
):
    n = tl.program_id(0) * BN + tl.arange(0, BN)[:, None]
    k = tl.program_id(1) * BK + tl.arange(0, BK)[None, :]
    m_y = (n < N) & (k < K)
    o_y = n.to(tl.int64) * K + k
    codes = tl.load(w_ptr + o_y, mask=m_y, other=0)
    s = tl.load(s_ptr + n, mask=n < N, other=0.0)
    values = fp8_values(codes.to(tl.int32)) if FP8 else codes.to(tl.float32)
    tl.store(y_ptr + o_y, (values * s).to(y_ptr.dtype.element_ty), mask=m_y)


def dequantize_weight(
    codes: torch.Tensor,
    scale: torch.Tensor,
    dtype: torch.dtype,
    *,
    out: torch.Tensor | None = None,
) -> torch.Tensor:
    """Dense weights [N, K] in dtype of codes int8, or uint8 with E4M3FN bits, and scale fp32 [N]."""
    assert codes.dtype in (torch.int8, torch.uint8) and codes.is_contiguous()
    rows, columns = codes.shape
    assert scale.shape == (rows,) and scale.dtype == torch.float32 and scale.is_contiguous()
    if out is None:
        out = torch.empty(rows, columns, dtype=dtype, device=codes.device)
    check_out(out, (rows, columns), dtype)
    grid = (ceil_div(rows, _BLOCK_ROWS), ceil_div(columns, _BLOCK_COLUMNS), 1)
    launch(
        dequantize_weight_kernel,
        grid,
        codes,
        scale,
        out,
        rows,
        columns,
        BN=_BLOCK_ROWS,
        BK=_BLOCK_COLUMNS,
        FP8=codes.dtype == torch.uint8,
        warps=8,
    )
    return out
