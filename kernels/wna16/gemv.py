"""W4A16 for one to eight rows without tensor cores: for SM 75 and the interpreter.

y = sum_g scale * sum_k x (q - 8) + (offset + 8 scale) * sum_k x, so that what cancels is small.
Weights are read once. fp16 activations multiply as packed pairs (four products a lane and word in
fp16, fp32 across words); bf16 activations and the interpreter go by fp32 throughout.
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
from .pack import GROUP_SIZES
from .tiles import MAX_ROWS, Tile, tile_for

# (q - 8) / 16 of every nibble by magic exponents: 64 + q / 16 below, 4 + q / 16 above.
_UNPACK = tl.constexpr("""
    {
    .reg .b32 v;
    shr.u32 v, $4, 8;
    lop3.b32 $0, $4, 0x000f000f, 0x54005400, 0xea;
    lop3.b32 $1, $4, 0x00f000f0, 0x44004400, 0xea;
    lop3.b32 $2, v, 0x000f000f, 0x54005400, 0xea;
    lop3.b32 $3, v, 0x00f000f0, 0x44004400, 0xea;
    .reg .b32 lo, hi;
    mov.b32 lo, 0x54085408;
    mov.b32 hi, 0x44804480;
    sub.rn.f16x2 $0, $0, lo;
    sub.rn.f16x2 $1, $1, hi;
    sub.rn.f16x2 $2, $2, lo;
    sub.rn.f16x2 $3, $3, hi;
    }""")
_PRODUCT = tl.constexpr("""
    {
    .reg .b32 t;
    .reg .b16 h0, h1;
    .reg .f32 f0, f1;
    mul.rn.f16x2 t, $1, $5;
    fma.rn.f16x2 t, $2, $6, t;
    fma.rn.f16x2 t, $3, $7, t;
    fma.rn.f16x2 t, $4, $8, t;
    mov.b32 {h0, h1}, t;
    cvt.f32.f16 f0, h0;
    cvt.f32.f16 f1, h1;
    add.f32 $0, f0, f1;
    }""")
# A quarter of the sum of eight activations, so that it cannot overflow before one of them does.
_QUARTER_SUM = tl.constexpr("""
    {
    .reg .b32 t, k;
    .reg .b16 h0, h1;
    .reg .f32 f0, f1;
    mov.b32 k, 0x34003400;
    mul.rn.f16x2 t, $1, k;
    fma.rn.f16x2 t, $2, k, t;
    fma.rn.f16x2 t, $3, k, t;
    fma.rn.f16x2 t, $4, k, t;
    mov.b32 {h0, h1}, t;
    cvt.f32.f16 f0, h0;
    cvt.f32.f16 f1, h1;
    add.f32 $0, f0, f1;
    }""")


@triton.jit
def nibble_256(word, USE_ASM: tl.constexpr):
    """256 + the nibble at bits 15 to 18."""
    return field_as_float(word, 0x00078000, 0x43800000, USE_ASM)


@triton.jit
def nibble_16(word, USE_ASM: tl.constexpr):
    """16 + the nibble at bits 19 to 22."""
    return field_as_float(word, 0x00780000, 0x41800000, USE_ASM)


@triton.jit
def plane_swizzle_of(g, GROUP: tl.constexpr):
    """What plane numbers of group g are XORed with; see pack.py."""
    if GROUP == 128:
        swizzle = g & 1
    elif GROUP == 64:
        swizzle = g & 3
    else:
        swizzle = (g >> 1) & 3
    return swizzle


@triton.jit
def plane_offset(g, plane: tl.constexpr, GROUP: tl.constexpr):
    """Where in a group's pairs the plane of nibble number `plane` begins; see pack.py."""
    return (plane ^ plane_swizzle_of(g, GROUP)) * (GROUP // 8)


@triton.jit
def _load_weights(
    w_ptr, s_ptr, o_ptr, n, g, j, NG: tl.constexpr, GROUP: tl.constexpr, MASKED: tl.constexpr
):
    W: tl.constexpr = GROUP // 8
    p_w = w_ptr + n.to(tl.int64) * (NG * W) + (g * W + j)  # [1, BN, G, W]
    p_s = n * NG + g  # [1, BN, G, 1]
    if MASKED:
        m_g = g < NG
        w = tl.load(p_w, mask=m_g & (j < W), other=0, eviction_policy="evict_first")
        s = tl.load(s_ptr + p_s, mask=m_g, other=0.0)
        o = tl.load(o_ptr + p_s, mask=m_g, other=0.0)
    else:
        w = tl.load(p_w, eviction_policy="evict_first")
        s = tl.load(s_ptr + p_s)
        o = tl.load(o_ptr + p_s)
    return w, s.to(tl.float32), o.to(tl.float32)


@triton.jit
def _load_plane(
    x_ptr,
    row,
    rows,
    g,
    j,
    plane: tl.constexpr,
    NG: tl.constexpr,
    GROUP: tl.constexpr,
    M: tl.constexpr,
    MASKED: tl.constexpr,
):
    p_x = x_ptr + row * (NG * GROUP // 2) + (g * (GROUP // 2) + plane_offset(g, plane, GROUP) + j)
    if MASKED:
        return tl.load(p_x, mask=(g < NG) & (row < rows), other=0)
    if M > 1:
        return tl.load(p_x, mask=(row < rows) & (j >= 0), other=0)
    return tl.load(p_x)


@triton.jit
def _accumulate(acc, w, s, o, x0, x1, x2, x3, BF16: tl.constexpr, USE_ASM: tl.constexpr):
    """acc [M, BN, G, W] plus every word's share of the row's sum."""
    if USE_ASM and not BF16:
        q0, q1, q2, q3 = tl.inline_asm_elementwise(
            _UNPACK, "=&r,=&r,=&r,=&r,r", [w], (tl.int32, tl.int32, tl.int32, tl.int32), True, 1
        )
        product = tl.inline_asm_elementwise(
            _PRODUCT, "=f,r,r,r,r,r,r,r,r", [q0, q1, q2, q3, x0, x1, x2, x3], tl.float32, True, 1
        )
        x_sum = tl.inline_asm_elementwise(
            _QUARTER_SUM, "=f,r,r,r,r", [x0, x1, x2, x3], tl.float32, True, 1
        )
        return acc + product * (16.0 * s) + x_sum * (4.0 * (o + 8.0 * s))
    a0 = pair_low(x0, BF16)
    a1 = pair_low(x1, BF16)
    a2 = pair_low(x2, BF16)
    a3 = pair_low(x3, BF16)
    b0 = pair_high(x0, BF16)
    b1 = pair_high(x1, BF16)
    b2 = pair_high(x2, BF16)
    b3 = pair_high(x3, BF16)
    at_256 = (a0 + a2) + (b0 + b2)
    at_16 = (a1 + a3) + (b1 + b3)
    w0 = w << 15
    w2 = w << 7
    w4 = w >> 1
    w6 = w >> 9
    product = -264.0 * at_256 - 24.0 * at_16
    product = product + a0 * nibble_256(w0, USE_ASM)
    product = product + a2 * nibble_256(w2, USE_ASM)
    product = product + b0 * nibble_256(w4, USE_ASM)
    product = product + b2 * nibble_256(w6, USE_ASM)
    product = product + a1 * nibble_16(w0, USE_ASM)
    product = product + a3 * nibble_16(w2, USE_ASM)
    product = product + b1 * nibble_16(w4, USE_ASM)
    product = product + b3 * nibble_16(w6, USE_ASM)
    return acc + product * s + (at_256 + at_16) * (o + 8.0 * s)


@triton.jit
def _step(
    acc,
    x_ptr,
    w,
    s,
    o,
    row,
    rows,
    g,
    j,
    NG: tl.constexpr,
    GROUP: tl.constexpr,
    M: tl.constexpr,
    MASKED: tl.constexpr,
    BF16: tl.constexpr,
    USE_ASM: tl.constexpr,
):
    x0 = _load_plane(x_ptr, row, rows, g, j, 0, NG, GROUP, M, MASKED)
    x1 = _load_plane(x_ptr, row, rows, g, j, 1, NG, GROUP, M, MASKED)
    x2 = _load_plane(x_ptr, row, rows, g, j, 2, NG, GROUP, M, MASKED)
    x3 = _load_plane(x_ptr, row, rows, g, j, 3, NG, GROUP, M, MASKED)
    return _accumulate(acc, w, s, o, x0, x1, x2, x3, BF16, USE_ASM)


@triton.jit
def wna16_gemv_kernel(
    x_ptr,
    w_ptr,
    s_ptr,
    o_ptr,
    bias_ptr,
    y_ptr,
    rows,
    N,
    K: tl.constexpr,
    GROUP: tl.constexpr,
    M: tl.constexpr,
    BN: tl.constexpr,
    G: tl.constexpr,
    BF16: tl.constexpr,
    USE_ASM: tl.constexpr,
    HAS_BIAS: tl.constexpr,
):
    """x_ptr and w_ptr are seen as int32: pairs of activations, words of codes."""
    W: tl.constexpr = GROUP // 8
    NG: tl.constexpr = K // GROUP
    STEPS: tl.constexpr = (NG + G - 1) // G
    TAIL: tl.constexpr = NG % G != 0
    n = tl.program_id(0) * BN + tl.arange(0, BN)
    m_n = n < N
    row = tl.arange(0, M)[:, None, None, None]
    n4 = tl.minimum(n, N - 1)[None, :, None, None]
    g = tl.arange(0, G)[None, None, :, None]
    j = tl.arange(0, W)[None, None, None, :]
    acc = tl.zeros([M, BN, G, W], tl.float32)
    w, s, o = _load_weights(w_ptr, s_ptr, o_ptr, n4, g, j, NG, GROUP, TAIL)
    # One row: three or four steps unrolled gain a tenth; with more, code growth loses.
    if M == 1 and STEPS >= 3 and STEPS <= 4:
        for i in tl.static_range(0, STEPS - 1):
            w_next, s_next, o_next = _load_weights(
                w_ptr, s_ptr, o_ptr, n4, g + (i + 1) * G, j, NG, GROUP, TAIL
            )
            acc = _step(
                acc, x_ptr, w, s, o, row, rows, g + i * G, j, NG, GROUP, M, False, BF16, USE_ASM
            )
            w = w_next
            s = s_next
            o = o_next
    else:
        for i in range(0, STEPS - 1):
            w_next, s_next, o_next = _load_weights(
                w_ptr, s_ptr, o_ptr, n4, g + (i + 1) * G, j, NG, GROUP, TAIL
            )
            acc = _step(
                acc, x_ptr, w, s, o, row, rows, g + i * G, j, NG, GROUP, M, False, BF16, USE_ASM
            )
            w = w_next
            s = s_next
            o = o_next
    acc = _step(
        acc, x_ptr, w, s, o, row, rows, g + (STEPS - 1) * G, j, NG, GROUP, M, TAIL, BF16, USE_ASM
    )
    total = tl.sum(tl.sum(acc, 3), 2)  # [M, BN]
    if HAS_BIAS:
        total += tl.load(bias_ptr + n, mask=m_n, other=0.0).to(tl.float32)[None, :]
    m = tl.arange(0, M)[:, None]
    o_y = m.to(tl.int64) * N + n[None, :]
    m_y = (m < rows) & m_n[None, :]
    tl.store(y_ptr + o_y, total.to(y_ptr.dtype.element_ty), mask=m_y)


def gemv(
    x: torch.Tensor,
    words: torch.Tensor,
    scale: torch.Tensor,
    offset: torch.Tensor,
    *,
    group_size: int,
    bias: torch.Tensor | None = None,
    out: torch.Tensor | None = None,
    tile: Tile | None = None,
    use_asm: bool | None = None,
) -> torch.Tensor:
    """x [M, K] times int4 group weights, plus bias [N] -> [M, N]; M <= 8.

    x and the result are fp16 or bf16; words int32 [N, K // 8] from pack; scale and offset fp16
    [N, K // group_size]. `tile` and `use_asm` are for tests; by default they follow from the
    shapes and the card.
    """
    check_activation(x)
    rows, columns = x.shape
    outputs = words.shape[0]
    assert 1 <= rows <= MAX_ROWS, f"gemv takes 1 to {MAX_ROWS} rows, not {rows}"
    assert group_size in GROUP_SIZES, f"group size {group_size} is none of {GROUP_SIZES}"
    assert columns % group_size == 0, f"group size {group_size} does not divide {columns}"
    assert words.dtype == torch.int32 and words.is_contiguous()
    assert words.shape[1] * 8 == columns, f"x has {columns} columns, words {words.shape[1] * 8}"
    for parameter in (scale, offset):
        assert parameter.shape == (outputs, columns // group_size) and parameter.is_contiguous()
        assert parameter.dtype == torch.float16, f"scale and offset are fp16: {parameter.dtype}"
    if bias is not None:
        assert bias.shape == (outputs,) and bias.is_contiguous()
    if out is None:
        out = torch.empty(rows, outputs, dtype=x.dtype, device=x.device)
    check_out(out, (rows, outputs), x.dtype)
    bf16 = x.dtype == torch.bfloat16
    if tile is None:
        tile = tile_for(rows, outputs, columns, group_size, bf16=bf16)
    if use_asm is None:
        use_asm = sm_version(x.device) >= LOWEST_ASM_SM
    launch(
        wna16_gemv_kernel,
        (triton.cdiv(outputs, tile.outputs), 1, 1),
        x.view(torch.int32),
        words,
        scale,
        offset,
        bias,
        out,
        rows,
        outputs,
        K=columns,
        GROUP=group_size,
        M=power_of_2(rows),
        BN=tile.outputs,
        G=tile.groups,
        BF16=bf16,
        USE_ASM=use_asm,
        HAS_BIAS=bias is not None,
        warps=tile.warps,
    )
    return out
