"""W8A16 for one to eight rows without tensor cores: for SM 75 and the interpreter.

Codes are read once, products and sums are in fp32. A byte becomes 256 + q + 128 by one AND with a
magic exponent; what that adds is taken off at the start of each word's sum, which costs one
operation a word and no precision that 16 bits show.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from .._bits import field_as_float, pair_high, pair_low
from .._launch import (
    LOWEST_ASM_SM,
    check_activation,
    check_out,
    launch,
    power_of_2,
    sm_version,
)
from .tiles import MAX_ROWS, Tile, tile_for


@triton.jit
def byte_256(word, USE_ASM: tl.constexpr):
    """256 + the byte at bits 15 to 22."""
    return field_as_float(word, 0x007F8000, 0x43800000, USE_ASM)


@triton.jit
def _load_words(w_ptr, n, kw, K: tl.constexpr, MASKED: tl.constexpr):
    p_w = w_ptr + n.to(tl.int64) * (K // 4) + kw
    if MASKED:
        return tl.load(p_w, mask=kw < K // 4, other=0, eviction_policy="evict_first")
    return tl.load(p_w, eviction_policy="evict_first")


@triton.jit
def _step(
    acc,
    x_ptr,
    w,
    row,
    rows,
    kw,
    K: tl.constexpr,
    M: tl.constexpr,
    MASKED: tl.constexpr,
    BF16: tl.constexpr,
    USE_ASM: tl.constexpr,
):
    p_x = x_ptr + row * (K // 4) + kw
    if MASKED:
        x = tl.load(p_x, mask=(kw < K // 4) & (row < rows), other=0)
    elif M > 1:
        x = tl.load(p_x, mask=(kw >= 0) & (row < rows), other=0)
    else:
        x = tl.load(p_x)
    x01 = x.to(tl.int32)
    x23 = (x >> 32).to(tl.int32)
    a0 = pair_low(x01, BF16)
    a1 = pair_high(x01, BF16)
    a2 = pair_low(x23, BF16)
    a3 = pair_high(x23, BF16)
    u = w ^ -2139062144  # every byte's sign bit flipped: q + 128, unsigned
    total = -384.0 * ((a0 + a1) + (a2 + a3))
    total = total + a0 * byte_256(u << 15, USE_ASM)
    total = total + a1 * byte_256(u << 7, USE_ASM)
    total = total + a2 * byte_256(u >> 1, USE_ASM)
    total = total + a3 * byte_256(u >> 9, USE_ASM)
    return acc + total


@triton.jit
def w8a16_gemv_kernel(
    x_ptr,
    w_ptr,
    s_ptr,
    bias_ptr,
    y_ptr,
    rows,
    N,
    K: tl.constexpr,
    M: tl.constexpr,
    BN: tl.constexpr,
    KW: tl.constexpr,
    BF16: tl.constexpr,
    USE_ASM: tl.constexpr,
    HAS_BIAS: tl.constexpr,
):
    """x_ptr is seen as int64 and w_ptr as int32: four activations, four codes."""
    WORDS: tl.constexpr = K // 4
    STEPS: tl.constexpr = (WORDS + KW - 1) // KW
    TAIL: tl.constexpr = WORDS % KW != 0
    n = tl.program_id(0) * BN + tl.arange(0, BN)
    m_n = n < N
    row = tl.arange(0, M)[:, None, None]
    n3 = tl.minimum(n, N - 1)[None, :, None]
    kw = tl.arange(0, KW)[None, None, :]
    acc = tl.zeros([M, BN, KW], tl.float32)
    w = _load_words(w_ptr, n3, kw, K, TAIL)
    for i in range(0, STEPS - 1):
        w_next = _load_words(w_ptr, n3, kw + (i + 1) * KW, K, TAIL)
        acc = _step(acc, x_ptr, w, row, rows, kw + i * KW, K, M, False, BF16, USE_ASM)
        w = w_next
    acc = _step(acc, x_ptr, w, row, rows, kw + (STEPS - 1) * KW, K, M, TAIL, BF16, USE_ASM)
    total = tl.sum(acc, 2)  # [M, BN]
    total *= tl.load(s_ptr + n, mask=m_n, other=0.0)[None, :]
    if HAS_BIAS:
        total += tl.load(bias_ptr + n, mask=m_n, other=0.0).to(tl.float32)[None, :]
    m = tl.arange(0, M)[:, None]
    o_y = m.to(tl.int64) * N + n[None, :]
    m_y = (m < rows) & m_n[None, :]
    tl.store(y_ptr + o_y, total.to(y_ptr.dtype.element_ty), mask=m_y)


def gemv(
    x: torch.Tensor,
    codes: torch.Tensor,
    scale: torch.Tensor,
    *,
    bias: torch.Tensor | None = None,
    out: torch.Tensor | None = None,
    tile: Tile | None = None,
    use_asm: bool | None = None,
) -> torch.Tensor:
    """x [M, K] times int8 weights, plus bias [N] -> [M, N]; M <= 8, K % 16 == 0.

    x and the result are fp16 or bf16; codes int8 [N, K]; scale fp32 [N]. `tile` and `use_asm` are
    for tests; by default they follow from the shapes and the card.
    """
    check_activation(x)
    rows, columns = x.shape
    outputs = codes.shape[0]
    assert 1 <= rows <= MAX_ROWS, f"gemv takes 1 to {MAX_ROWS} rows, not {rows}"
    assert columns % 16 == 0, f"K must be a multiple of 16, not {columns}"
    assert codes.dtype == torch.int8 and codes.is_contiguous()
    assert codes.shape[1] == columns, f"x has {columns} columns, codes {codes.shape[1]}"
    assert scale.shape == (outputs,) and scale.dtype == torch.float32 and scale.is_contiguous()
    if bias is not None:
        assert bias.shape == (outputs,) and bias.is_contiguous()
    if out is None:
        out = torch.empty(rows, outputs, dtype=x.dtype, device=x.device)
    check_out(out, (rows, outputs), x.dtype)
    if tile is None:
        tile = tile_for(rows, columns)
    launch(
        w8a16_gemv_kernel,
        (triton.cdiv(outputs, tile.outputs), 1, 1),
        x.view(torch.int64),
        codes.view(torch.int32),
        scale,
        bias,
        out,
        rows,
        outputs,
        K=columns,
        M=power_of_2(rows),
        BN=tile.outputs,
        KW=tile.words,
        BF16=x.dtype == torch.bfloat16,
        USE_ASM=sm_version(x.device) >= LOWEST_ASM_SM if use_asm is None else use_asm,
        HAS_BIAS=bias is not None,
        warps=tile.warps,
    )
    return out
