"""Rows of activations to 8-bit codes with one scale each; one program a row."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

from .._launch import check_activation, check_out, launch, power_of_2, sm_version
from .codes import FP8, INT8, LOWEST_AMAX, code_limit, encode
from .reference import DTYPES, CodeFormat

LOWEST_CAST_SM = 89
"""First card that converts to fp8 by itself."""
FORMS: dict[CodeFormat, int] = {"int8": INT8.value, "fp8": FP8.value}


@triton.jit
def store_quantized(
    y,
    codes_ptr,
    scale_ptr,
    given_ptr,
    row,
    offsets,
    mask,
    FORM: tl.constexpr,
    CAST: tl.constexpr,
    GIVEN: tl.constexpr,
):
    """Store a row of fp32 values, zero where masked, as codes and its scale, or the GIVEN one."""
    if GIVEN:
        scale = tl.load(given_ptr)
        values = tl.div_rn(y, tl.full(y.shape, 0.0, tl.float32) + scale)
    else:
        limit = code_limit(FORM)
        amax = tl.maximum(tl.max(tl.abs(y), 0), LOWEST_AMAX)
        values = y * tl.div_rn(limit, amax)
        scale = tl.div_rn(amax, limit)
    tl.store(codes_ptr + offsets, encode(values, FORM, CAST), mask=mask)
    tl.store(scale_ptr + row, scale)


@triton.jit
def quantize_rows_kernel(
    x_ptr,
    codes_ptr,
    scale_ptr,
    given_ptr,
    K,
    BK: tl.constexpr,
    FORM: tl.constexpr,
    CAST: tl.constexpr,
    GIVEN: tl.constexpr,
    PDL: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    k = tl.arange(0, BK)
    m_k = k < K
    if PDL:
        gdc_launch_dependents()
        gdc_wait()
    x = tl.load(x_ptr + row * K + k, mask=m_k, other=0.0).to(tl.float32)
    offsets = row * K + k
    store_quantized(x, codes_ptr, scale_ptr, given_ptr, row, offsets, m_k, FORM, CAST, GIVEN)


def row_warps(block: int) -> int:
    """Warps of a program that holds a row: sixteen values a thread, up to the largest program."""
    return min(32, max(1, block // 512))


def prepare_codes(
    shape: tuple[int, int],
    form: CodeFormat,
    device: torch.device,
    codes: torch.Tensor | None,
    scale: torch.Tensor | None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Buffers for codes [M, K] and scale fp32 [M], checked where they were handed in."""
    if codes is None:
        codes = torch.empty(shape, dtype=DTYPES[form], device=device)
    else:
        check_out(codes, shape, DTYPES[form])
    if scale is None:
        scale = torch.empty(shape[0], dtype=torch.float32, device=device)
    else:
        check_out(scale, shape[:1], torch.float32)
    return codes, scale


def check_given(given: torch.Tensor | None) -> None:
    """Asserts a scale of all rows, fp32 []."""
    assert given is None or (given.dtype == torch.float32 and given.numel() == 1)


def bits_of(codes: torch.Tensor) -> torch.Tensor:
    """Codes as a kernel takes them: int8, or uint8 for fp8 bits."""
    return codes if codes.dtype == torch.int8 else codes.view(torch.uint8)


def can_cast(device: torch.device) -> bool:
    """Whether the card converts to fp8 by itself."""
    return sm_version(device) >= LOWEST_CAST_SM


def quantize_rows(
    x: torch.Tensor,
    form: CodeFormat,
    *,
    given: torch.Tensor | None = None,
    codes: torch.Tensor | None = None,
    scale: torch.Tensor | None = None,
    dependent: bool = False,
    cast: bool | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """x [M, K] fp16 or bf16 -> codes [M, K] int8 or float8_e4m3fn, scale fp32 [M]; as in reference.py.

    `given` fp32 []: the scale of all rows, instead of one measured for each.
    """
    check_activation(x)
    check_given(given)
    rows, columns = x.shape
    codes, scale = prepare_codes((rows, columns), form, x.device, codes, scale)
    block = power_of_2(columns)
    launch(
        quantize_rows_kernel,
        (rows, 1, 1),
        x,
        bits_of(codes),
        scale,
        given,
        columns,
        BK=block,
        FORM=FORMS[form],
        CAST=can_cast(x.device) if cast is None else cast,
        GIVEN=given is not None,
        PDL=dependent,
        warps=row_warps(block),
        dependent=dependent,
    )
    return codes, scale
