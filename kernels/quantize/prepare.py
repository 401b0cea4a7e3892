"""Rows of activations as integers in 16 bits: what int8 x int8 multiplies, for 16-bit tensor cores.

Integers up to 127 are exact in fp16 and bf16, and so are int8 codes: a product of both, summed in
fp32 and scaled afterwards, is that of int8 x int8. One program a row.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

from .._launch import check_activation, check_out, launch, power_of_2
from ..linear.reference import PARTIAL_COLUMNS
from .codes import LOWEST_AMAX
from .reference import OUTLIER_SPAN

_SPAN = tl.constexpr(OUTLIER_SPAN)
_PARTIAL_COLUMNS = tl.constexpr(PARTIAL_COLUMNS)


@triton.jit
def prepare_rows_kernel(
    x_ptr,
    squares_ptr,
    y_ptr,
    scale_ptr,
    K,
    eps,
    threshold,
    BK: tl.constexpr,
    BP: tl.constexpr,
    NORMED: tl.constexpr,
    OUTLIERS: tl.constexpr,
    RESTORE: tl.constexpr,
    PDL: tl.constexpr,
):
    """RESTORE stores values at their own scale and no scale; BP: partial sums, a power of two."""
    row = tl.program_id(0).to(tl.int64)
    k = tl.arange(0, BK)
    m_k = k < K
    if PDL:
        gdc_launch_dependents()
        gdc_wait()
    x = tl.load(x_ptr + row * K + k, mask=m_k, other=0.0).to(tl.float32)
    if NORMED:
        parts = tl.cdiv(K, _PARTIAL_COLUMNS)
        p = tl.arange(0, BP)
        squares = tl.load(squares_ptr + row * parts + p, mask=p < parts, other=0.0)
        x *= 1.0 / tl.sqrt(tl.sum(squares, 0) / K + eps)
    magnitude = tl.abs(x)
    if OUTLIERS:
        kept = magnitude < threshold
        # An outlier has a part in the scale where its own size would leave fp16 otherwise.
        part = tl.where(kept, magnitude, magnitude * (127.0 / _SPAN))
        amax = tl.max(part, 0)
    else:
        amax = tl.max(magnitude, 0)
    amax = tl.maximum(amax, LOWEST_AMAX)
    values = x * tl.div_rn(127.0, amax)
    # 1.5 * 2^23: the sum has no bits behind the point, rounded to even by the addition itself.
    y = (values + 12582912.0) - 12582912.0
    if OUTLIERS:
        y = tl.where(kept, y, values)
    scale = tl.div_rn(amax, 127.0)
    if RESTORE:
        y *= scale
    else:
        tl.store(scale_ptr + row, scale)
    tl.store(y_ptr + row * K + k, y.to(y_ptr.dtype.element_ty), mask=m_k)


def prepare_warps(block: int) -> int:
    """Warps of a program that holds a row of at most `block` columns, as measured on an H100."""
    return 16 if block > 8192 else min(8, max(1, block // 128))


def _launch(
    x: torch.Tensor,
    out: torch.Tensor,
    scale: torch.Tensor | None,
    *,
    squares: torch.Tensor | None,
    eps: float,
    threshold: float | None,
    dependent: bool,
    warps: int | None,
) -> None:
    check_activation(x)
    rows, columns = x.shape
    check_out(out, (rows, columns), x.dtype)
    parts = -(-columns // PARTIAL_COLUMNS)
    if squares is not None:
        check_out(squares, (rows, parts), torch.float32)
    block = power_of_2(columns)
    launch(
        prepare_rows_kernel,
        (rows, 1, 1),
        x,
        squares,
        out,
        scale,
        columns,
        eps,
        0.0 if threshold is None else threshold,
        BK=block,
        BP=power_of_2(parts),
        NORMED=squares is not None,
        OUTLIERS=threshold is not None,
        RESTORE=scale is None,
        PDL=dependent,
        warps=prepare_warps(block) if warps is None else warps,
        dependent=dependent,
    )


def prepare_rows(
    x: torch.Tensor,
    *,
    squares: torch.Tensor | None = None,
    eps: float = 0.0,
    threshold: float | None = None,
    out: torch.Tensor | None = None,
    scale: torch.Tensor | None = None,
    dependent: bool = False,
    warps: int | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """x [M, K] fp16 or bf16 -> integers up to 127 in x's dtype [M, K], scale fp32 [M].

    `squares` fp32 [M, ceil(K / 16)]: x is first divided by the root mean square they sum to. From
    `threshold` on magnitudes stay unrounded, over the scale of the rest. As in reference.py.
    `dependent` starts it while the kernel before it still runs (SM 90 and up).
    """
    out = torch.empty_like(x) if out is None else out
    if scale is None:
        scale = torch.empty(x.shape[0], dtype=torch.float32, device=x.device)
    check_out(scale, (x.shape[0],), torch.float32)
    _launch(
        x,
        out,
        scale,
        squares=squares,
        eps=eps,
        threshold=threshold,
        dependent=dependent,
        warps=warps,
    )
    return out, scale


def round_rows(
    x: torch.Tensor, *, threshold: float | None = None, out: torch.Tensor | None = None
) -> torch.Tensor:
    """The values [M, K] that `prepare_rows` stands for, at their own scale, in x's dtype."""
    out = torch.empty_like(x) if out is None else out
    _launch(
        x,
        out,
        None,
        squares=None,
        eps=0.0,
        threshold=threshold,
        dependent=False,
        warps=None,
    )
    return out
