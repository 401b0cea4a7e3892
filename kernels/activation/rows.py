"""Activations of the fused gate and up projections, or of one projection without a gate.

What leaves is 16-bit, in pieces of a row, or codes with one scale a row, a program holding a row.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

from .._launch import ceil_div, check_activation, check_out, launch, power_of_2
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
from .reference import Activation

_BLOCK = 1024
PLAIN = tl.constexpr(-1)
"""In place of a code format: the output is 16-bit."""
SILU = tl.constexpr(0)
GELU_TANH = tl.constexpr(1)
ACTIVATIONS: dict[Activation, int] = {"silu": SILU.value, "gelu_tanh": GELU_TANH.value, "gelu": 2}


@triton.jit
def _activate(x, ACT: tl.constexpr):
    if ACT == SILU:
        return x / (1.0 + tl.exp(-x))
    if ACT == GELU_TANH:
        # half of 1 + tanh(u) is the sigmoid of 2 u, with u = sqrt(2 / pi) (x + 0.044715 x^3)
        return x / (1.0 + tl.exp(-1.5957691216057308 * (x + 0.044715 * x * x * x)))
    return 0.5 * x * (1.0 + tl.erf(x * 0.7071067811865476))


@triton.jit
def activation_kernel(
    x_ptr,
    y_ptr,
    scale_ptr,
    given_ptr,
    I,  # noqa: E741
    BI: tl.constexpr,
    ACT: tl.constexpr,
    GATED: tl.constexpr,
    FORM: tl.constexpr,
    CAST: tl.constexpr,
    GIVEN: tl.constexpr,
    PDL: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    i = tl.program_id(1) * BI + tl.arange(0, BI)
    m_i = i < I
    if PDL:
        gdc_launch_dependents()
        gdc_wait()
    p_x = x_ptr + row * I * (2 if GATED else 1) + i
    y = _activate(tl.load(p_x, mask=m_i, other=0.0).to(tl.float32), ACT)
    if GATED:
        y *= tl.load(p_x + I, mask=m_i, other=0.0).to(tl.float32)
    rounded = y.to(x_ptr.dtype.element_ty)
    if FORM == PLAIN:
        tl.store(y_ptr + row * I + i, rounded, mask=m_i)
    else:
        values = rounded.to(tl.float32)
        o_y = row * I + i
        store_quantized(values, y_ptr, scale_ptr, given_ptr, row, o_y, m_i, FORM, CAST, GIVEN)


def _launch(
    x: torch.Tensor,
    out: torch.Tensor,
    scale: torch.Tensor | None,
    *,
    given: torch.Tensor | None,
    activation: Activation,
    gated: bool,
    form: CodeFormat | None,
    dependent: bool,
    cast: bool | None,
    warps: int | None,
) -> None:
    rows, width = out.shape
    block = _BLOCK if form is None else power_of_2(width)
    default = 4 if form is None else row_warps(block)
    launch(
        activation_kernel,
        (rows, ceil_div(width, block), 1),
        x,
        out if form is None else bits_of(out),
        scale,
        given,
        width,
        BI=block,
        ACT=ACTIVATIONS[activation],
        GATED=gated,
        FORM=PLAIN.value if form is None else FORMS[form],
        CAST=form is not None and (can_cast(x.device) if cast is None else cast),
        GIVEN=given is not None,
        PDL=dependent,
        warps=default if warps is None else warps,
        dependent=dependent,
    )


def _width(x: torch.Tensor, gated: bool) -> int:
    check_activation(x)
    width = x.shape[1]
    assert not gated or width % 2 == 0, f"gate and up have an odd width {width}"
    return width // 2 if gated else width


def activate(
    x: torch.Tensor,
    activation: Activation,
    *,
    gated: bool = True,
    out: torch.Tensor | None = None,
    dependent: bool = False,
) -> torch.Tensor:
    """x [M, 2 I] gated, or [M, I] -> [M, I] of x's dtype; as in reference.py."""
    shape = (x.shape[0], _width(x, gated))
    if out is None:
        out = torch.empty(shape, dtype=x.dtype, device=x.device)
    check_out(out, shape, x.dtype)
    _launch(
        x,
        out,
        None,
        given=None,
        activation=activation,
        gated=gated,
        form=None,
        dependent=dependent,
        cast=None,
        warps=None,
    )
    return out


def activate_quantized(
    x: torch.Tensor,
    activation: Activation,
    form: CodeFormat,
    *,
    gated: bool = True,
    given: torch.Tensor | None = None,
    codes: torch.Tensor | None = None,
    scale: torch.Tensor | None = None,
    dependent: bool = False,
    cast: bool | None = None,
    warps: int | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """x [M, 2 I] gated, or [M, I] -> codes [M, I] and scale fp32 [M], rounded to 16 bits between.

    `given` fp32 []: the scale of all rows, instead of one measured for each.
    """
    check_given(given)
    shape = (x.shape[0], _width(x, gated))
    codes, scale = prepare_codes(shape, form, x.device, codes, scale)
    _launch(
        x,
        codes,
        scale,
        given=given,
        activation=activation,
        gated=gated,
        form=form,
        dependent=dependent,
        cast=cast,
        warps=warps,
    )
    return codes, scale
