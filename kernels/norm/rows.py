"""RMS norm of rows, alone or of a sum that becomes the new residual; one program a row.

What leaves is 16-bit, or codes with one scale a row for a product in 8 bits.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

from .._launch import check_activation, check_out, launch, power_of_2
from ..quantize.reference import CodeFormat
from ..quantize.rows import (
    FORMS,
    bits_of,
    can_cast,
    check_given,
    prepare_codes,
    row_warps,
    store_quantized,
)

PLAIN = tl.constexpr(-1)
"""In place of a code format: the output is 16-bit."""


class Normed(NamedTuple):
    """Output of a norm."""

    values: torch.Tensor
    """[M, K] in x's dtype, or codes."""
    scale: torch.Tensor | None
    """fp32 [M] of codes."""
    total: torch.Tensor | None
    """x + residual [M, K], where there was a residual."""


@triton.jit
def norm_kernel(
    x_ptr,
    residual_ptr,
    weight_ptr,
    y_ptr,
    scale_ptr,
    total_ptr,
    given_ptr,
    K,
    eps,
    BK: tl.constexpr,
    HAS_RESIDUAL: tl.constexpr,
    FORM: tl.constexpr,
    CAST: tl.constexpr,
    GIVEN: tl.constexpr,
    PDL: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    k = tl.arange(0, BK)
    m_k = k < K
    o_x = row * K + k
    if PDL:
        gdc_launch_dependents()
    weight = tl.load(weight_ptr + k, mask=m_k, other=0.0).to(tl.float32)
    if PDL:
        gdc_wait()
    x = tl.load(x_ptr + o_x, mask=m_k, other=0.0).to(tl.float32)
    if HAS_RESIDUAL:
        x += tl.load(residual_ptr + o_x, mask=m_k, other=0.0).to(tl.float32)
        total = x.to(x_ptr.dtype.element_ty)
        tl.store(total_ptr + o_x, total, mask=m_k)
        x = total.to(tl.float32)
    normed = x * (1.0 / tl.sqrt(tl.sum(x * x, 0) / K + eps))
    normed = normed.to(x_ptr.dtype.element_ty).to(tl.float32)
    rounded = (normed * weight).to(x_ptr.dtype.element_ty)
    if FORM == PLAIN:
        tl.store(y_ptr + o_x, rounded, mask=m_k)
    else:
        values = rounded.to(tl.float32)
        store_quantized(values, y_ptr, scale_ptr, given_ptr, row, o_x, m_k, FORM, CAST, GIVEN)


def norm_rows(
    x: torch.Tensor,
    weight: torch.Tensor,
    eps: float,
    *,
    residual: torch.Tensor | None = None,
    form: CodeFormat | None = None,
    given: torch.Tensor | None = None,
    out: torch.Tensor | None = None,
    scale: torch.Tensor | None = None,
    total: torch.Tensor | None = None,
    dependent: bool = False,
    cast: bool | None = None,
    warps: int | None = None,
) -> Normed:
    """Norm of x, or of x + residual, [M, K] fp16 or bf16; as in reference.py.

    With `form` the output is quantised as quantize/rows.py does it, into `out` and `scale`, by the
    scale `given` fp32 [] where there is one. `total` may be `residual`. `dependent` starts it while
    the kernel before it in the stream still runs (SM 90 and up). `cast` and `warps` are for tests
    and tuning.
    """
    check_activation(x)
    check_given(given)
    rows, columns = x.shape
    assert weight.shape == (columns,) and weight.is_contiguous()
    if residual is not None:
        check_out(residual, (rows, columns), x.dtype)
        total = torch.empty_like(x) if total is None else total
        check_out(total, (rows, columns), x.dtype)
    if form is not None:
        out, scale = prepare_codes((rows, columns), form, x.device, out, scale)
    else:
        out = torch.empty_like(x) if out is None else out
        check_out(out, (rows, columns), x.dtype)
    block = power_of_2(columns)
    launch(
        norm_kernel,
        (rows, 1, 1),
        x,
        residual,
        weight,
        out if form is None else bits_of(out),
        scale,
        total,
        given,
        columns,
        eps,
        BK=block,
        HAS_RESIDUAL=residual is not None,
        FORM=PLAIN.value if form is None else FORMS[form],
        CAST=form is not None and (can_cast(x.device) if cast is None else cast),
        GIVEN=given is not None,
        PDL=dependent,
        warps=row_warps(block) if warps is None else warps,
        dependent=dependent,
    )
    return Normed(out, scale, total)
