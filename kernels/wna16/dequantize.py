"""int4 words to dense 16-bit weights, for prefill through the library's matmul."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from .._launch import check_out, launch
from .gemv import plane_swizzle_of
from .pack import GROUP_SIZES

_BLOCK_PAIRS = 2048


@triton.jit
def _half_bits(x, BF16: tl.constexpr):
    """The bits of fp32 x rounded to the nearest fp16 or bf16, as int32 below 2**16."""
    if BF16:
        bits = x.to(tl.int32, bitcast=True)
        return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16) & 0xFFFF
    return x.to(tl.float16).to(tl.int16, bitcast=True).to(tl.int32) & 0xFFFF


@triton.jit
def wna16_dequantize_kernel(
    w_ptr,
    s_ptr,
    o_ptr,
    y_ptr,
    PAIRS,
    NG,
    GROUP: tl.constexpr,
    BLOCK: tl.constexpr,
    BF16: tl.constexpr,
):
    """One row's pairs of neighbouring weights in the order they are written, a word read four times."""
    W: tl.constexpr = GROUP // 8
    row = tl.program_id(0).to(tl.int64)
    pair = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = pair < PAIRS
    g = pair // (GROUP // 2)
    within = pair % (GROUP // 2)
    shift = 4 * ((within // W) ^ plane_swizzle_of(g, GROUP))
    w = tl.load(w_ptr + row * (NG * W) + (g * W + within % W), mask=inside, other=0)
    s = tl.load(s_ptr + row * NG + g, mask=inside, other=0.0).to(tl.float32)
    o = tl.load(o_ptr + row * NG + g, mask=inside, other=0.0).to(tl.float32)
    low = ((w >> shift) & 15).to(tl.float32) * s + o
    high = ((w >> (shift + 16)) & 15).to(tl.float32) * s + o
    packed = _half_bits(low, BF16) | (_half_bits(high, BF16) << 16)
    tl.store(y_ptr + row * PAIRS + pair, packed, mask=inside)


def dequantize(
    words: torch.Tensor,
    scale: torch.Tensor,
    offset: torch.Tensor,
    group_size: int,
    dtype: torch.dtype,
    *,
    out: torch.Tensor | None = None,
) -> torch.Tensor:
    """Dense weights [N, K] in dtype of words int32 [N, K // 8], scale and offset [N, K // group]."""
    assert group_size in GROUP_SIZES, f"group size {group_size} is none of {GROUP_SIZES}"
    assert words.dtype == torch.int32 and words.is_contiguous()
    rows, columns = words.shape[0], words.shape[1] * 8
    assert columns % group_size == 0, f"group size {group_size} does not divide {columns}"
    groups = columns // group_size
    for parameter in (scale, offset):
        assert parameter.shape == (rows, groups) and parameter.is_contiguous()
        assert parameter.dtype == torch.float16, f"scale and offset are fp16: {parameter.dtype}"
    assert dtype in (torch.float16, torch.bfloat16), f"{dtype} is not written"
    if out is None:
        out = torch.empty(rows, columns, dtype=dtype, device=words.device)
    check_out(out, (rows, columns), dtype)
    pairs = columns // 2
    launch(
        wna16_dequantize_kernel,
        (rows, triton.cdiv(pairs, _BLOCK_PAIRS), 1),
        words,
        scale,
        offset,
        out.view(torch.int32),
        pairs,
        groups,
        GROUP=group_size,
        BLOCK=_BLOCK_PAIRS,
        BF16=dtype == torch.bfloat16,
        warps=4,
    )
    return out
