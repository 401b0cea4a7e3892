"""W4A16 for a few rows on tensor cores: weights dequantised in registers, on the side of M.

Weights are rounded to the activations' dtype, as in prefill. Sums run over K in the order of the
packed words, pair by pair, which a sum does not mind.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from .._bits import field_as_float
from .._launch import launch_options
from .gemv import plane_offset
from .tiles import DotTile

_ROWS = 16


@triton.jit
def _half(pair, HIGH: tl.constexpr, BF16: tl.constexpr):
    bits = ((pair >> 16) if HIGH else pair).to(tl.int16)
    return bits.to(tl.bfloat16 if BF16 else tl.float16, bitcast=True)


@triton.jit
def _weight(word, s, o_256, BF16: tl.constexpr, USE_ASM: tl.constexpr):
    """The nibble at bits 15 to 18 as a weight; o_256 is the offset less 256 scales."""
    code = field_as_float(word, 0x00078000, 0x43800000, USE_ASM)
    return (code * s + o_256).to(tl.bfloat16 if BF16 else tl.float16)


@triton.jit
def wna16_dot_kernel(
    x_ptr,
    w_ptr,
    s_ptr,
    o_ptr,
    bias_ptr,
    residual_ptr,
    y_ptr,
    rows,
    N,
    K: tl.constexpr,
    GROUP: tl.constexpr,
    MP: tl.constexpr,
    BN: tl.constexpr,
    KW: tl.constexpr,
    BF16: tl.constexpr,
    USE_ASM: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    HAS_RESIDUAL: tl.constexpr,
):
    """x_ptr and w_ptr are seen as int32: pairs of activations, words of codes."""
    W: tl.constexpr = GROUP // 8
    NG: tl.constexpr = K // GROUP
    WORDS: tl.constexpr = K // 8
    n = tl.program_id(0) * BN + tl.arange(0, BN)
    n_safe = tl.minimum(n, N - 1)[:, None]
    m = tl.arange(0, MP)[None, :]
    acc = tl.zeros([BN, MP], tl.float32)
    for first in range(0, WORDS, KW):
        word = first + tl.arange(0, KW)
        m_w = word < WORDS
        g = word // W
        w = tl.load(
            w_ptr + n_safe.to(tl.int64) * WORDS + word[None, :],
            mask=m_w[None, :] & (n_safe >= 0),
            other=0,
            eviction_policy="evict_first",
        )
        p_s = n_safe * NG + g[None, :]
        s = tl.load(s_ptr + p_s, mask=m_w[None, :], other=0.0).to(tl.float32)
        o = tl.load(o_ptr + p_s, mask=m_w[None, :], other=0.0).to(tl.float32)
        o -= 256.0 * s
        for plane in tl.static_range(4):
            pair = g * (GROUP // 2) + plane_offset(g, plane, GROUP) + word % W
            x = tl.load(
                x_ptr + pair[:, None] + m * (K // 2),
                mask=m_w[:, None] & (m < rows),
                other=0,
            )  # [KW, MP]
            low = w << (15 - 4 * plane)
            high = w >> (4 * plane + 1)
            acc = tl.dot(_weight(low, s, o, BF16, USE_ASM), _half(x, False, BF16), acc)
            acc = tl.dot(_weight(high, s, o, BF16, USE_ASM), _half(x, True, BF16), acc)
    m_n = n < N
    if HAS_BIAS:
        acc += tl.load(bias_ptr + n, mask=m_n, other=0.0).to(tl.float32)[:, None]
    o_y = m.to(tl.int64) * N + n[:, None]
    m_y = (m < rows) & m_n[:, None]
    if HAS_RESIDUAL:
        acc += tl.load(residual_ptr + o_y, mask=m_y, other=0.0).to(tl.float32)
    tl.store(y_ptr + o_y, acc.to(y_ptr.dtype.element_ty), mask=m_y)


def launch(
    x: torch.Tensor,
    words: torch.Tensor,
    scale: torch.Tensor,
    offset: torch.Tensor,
    group_size: int,
    bias: torch.Tensor | None,
    residual: torch.Tensor | None,
    out: torch.Tensor,
    tile: DotTile,
    use_asm: bool,
) -> None:
    """Writes out [M, N]; arguments are those of gemv.gemv, which has checked them."""
    rows, columns = x.shape
    outputs = words.shape[0]
    wna16_dot_kernel[(triton.cdiv(outputs, tile.outputs),)](
        x.view(torch.int32),
        words,
        scale,
        offset,
        bias,
        residual,
        out,
        rows,
        outputs,
        K=columns,
        GROUP=group_size,
        MP=_ROWS,
        BN=tile.outputs,
        KW=tile.words,
        BF16=x.dtype == torch.bfloat16,
        USE_ASM=use_asm,
        HAS_BIAS=bias is not None,
        HAS_RESIDUAL=residual is not None,
        num_warps=tile.warps,
        num_stages=tile.stages,
        **launch_options(),
    )
