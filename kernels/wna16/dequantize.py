"""int4 words to dense 16-bit weights, for prefill through the library's matmul."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from .._launch import check_out, launch_options
from .gemv import plane_offset
from .pack import GROUP_SIZES

_BLOCK_ROWS = 4
_BLOCK_WORDS = 128


@triton.jit
def wna16_dequantize_kernel(
    w_ptr, s_ptr, o_ptr, y_ptr, N, NG, GROUP: tl.constexpr, BN: tl.constexpr, G: tl.constexpr
):
    """Writes pair by pair: two neighbouring weights of every plane."""
    W: tl.constexpr = GROUP // 8
    n = tl.program_id(0) * BN + tl.arange(0, BN)[:, None, None]
    g = tl.program_id(1) * G + tl.arange(0, G)[None, :, None]
    j = tl.arange(0, W)[None, None, :]
    m_g = (n < N) & (g < NG)
    m_w = m_g & (j < W)
    w = tl.load(w_ptr + n.to(tl.int64) * (NG * W) + (g * W + j), mask=m_w, other=0)
    s = tl.load(s_ptr + n * NG + g, mask=m_g, other=0.0).to(tl.float32)
    o = tl.load(o_ptr + n * NG + g, mask=m_g, other=0.0).to(tl.float32)
    p_y = y_ptr + n.to(tl.int64) * (NG * GROUP) + g * GROUP
    for plane in tl.static_range(4):
        p_pair = p_y + (plane_offset(g, plane, GROUP) + j) * 2
        low = ((w >> (4 * plane)) & 15).to(tl.float32) * s + o
        high = ((w >> (4 * plane + 16)) & 15).to(tl.float32) * s + o
        pair = tl.join(low, high).to(y_ptr.dtype.element_ty)
        e = tl.arange(0, 2)[None, None, None, :]
        tl.store(p_pair[:, :, :, None] + e, pair, mask=m_w[:, :, :, None] & (e < 2))


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
    if out is None:
        out = torch.empty(rows, columns, dtype=dtype, device=words.device)
    check_out(out, (rows, columns), dtype)
    step = _BLOCK_WORDS * 8 // group_size
    grid = (triton.cdiv(rows, _BLOCK_ROWS), triton.cdiv(groups, step))
    wna16_dequantize_kernel[grid](
        words,
        scale,
        offset,
        out,
        rows,
        groups,
        GROUP=group_size,
        BN=_BLOCK_ROWS,
        G=step,
        num_warps=4,
        num_stages=1,
        **launch_options(),
    )
    return out
