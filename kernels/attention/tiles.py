"""Tiles of cached vectors: how they are read, and how codes become halves for the tensor cores.

On a card a vector is read as 32-bit words, so that a tile that is fetched ahead costs as many
registers as it has bytes; a word then yields its values by PRMT under the exponent of 1024. Codes
are centred on zero: tensor cores truncate their sums, and a common offset would turn that into a
drift along the context. Interpreted, elements are read one by one, as they are.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def code_offset(KV: tl.constexpr, USE_ASM: tl.constexpr):
    """What unpacked codes are too large by."""
    CENTRE: tl.constexpr = 128.0 if KV == "int8" else (8.0 if KV == "int4" else 0.0)
    OFFSET: tl.constexpr = -CENTRE if USE_ASM else 0.0
    return OFFSET


@triton.jit
def settled(x, USE_ASM: tl.constexpr):
    """x, computed once: the compiler would repeat all that leads to it in a second layout."""
    if USE_ASM:
        x = tl.inline_asm_elementwise("mov.b32 $0, $1;", "=r,r", [x], tl.float32, False, 1)
    return x


@triton.jit
def load_pages(table_ptr, t, capacity, PAGE: tl.constexpr):
    """Page of each token t [T], wherever the table has a place for it."""
    return tl.load(table_ptr + t // PAGE, mask=t < capacity, other=0).to(tl.int64)


@triton.jit
def load_tile(
    cache_ptr,
    vector,
    m_t,
    D: tl.constexpr,
    DP: tl.constexpr,
    KV: tl.constexpr,
    USE_ASM: tl.constexpr,
    ZEROED: tl.constexpr,
):
    """Raw vectors [T, words or elements]; nothing is read where m_t is false.

    There it is 0 if ZEROED, else whatever a register held, which saves clearing it.
    """
    BYTES: tl.constexpr = D * 2 if KV == "16bit" else (D // 2 if KV == "int4" else D)
    PADDED: tl.constexpr = DP * 2 if KV == "16bit" else (DP // 2 if KV == "int4" else DP)
    # Bytes of a piece that is read at once, and in the pointer's own elements.
    PIECE: tl.constexpr = 4 if USE_ASM else (2 if KV == "16bit" else 1)
    WIDTH: tl.constexpr = BYTES // PIECE
    i = tl.arange(0, PADDED // PIECE)
    p_pieces = cache_ptr.to(tl.pointer_type(tl.int32)) if USE_ASM else cache_ptr
    mask = m_t[:, None] & (i < WIDTH)[None, :]
    pointers = p_pieces + vector[:, None] * WIDTH + i[None, :]
    raw = tl.load(pointers, mask=mask, other=0) if ZEROED else tl.load(pointers, mask=mask)
    return raw


@triton.jit
def load_params(params_ptr, vector, m_t, KV: tl.constexpr, USE_ASM: tl.constexpr):
    """Scale and minimum [T] in fp32; 0 where m_t is false and where the format has none."""
    if KV == "16bit":
        scale = tl.zeros_like(vector).to(tl.float32)
        minimum = scale
    elif KV == "fp8":
        scale = tl.load(params_ptr + vector, mask=m_t, other=0.0).to(tl.float32)
        minimum = tl.zeros_like(scale)
    elif USE_ASM:
        p_pair = params_ptr.to(tl.pointer_type(tl.int32)) + vector
        pair = tl.load(p_pair, mask=m_t, other=0)
        scale = pair.to(tl.int16).to(tl.float16, bitcast=True).to(tl.float32)
        minimum = (pair >> 16).to(tl.int16).to(tl.float16, bitcast=True).to(tl.float32)
    else:
        scale = tl.load(params_ptr + vector * 2, mask=m_t, other=0.0).to(tl.float32)
        minimum = tl.load(params_ptr + vector * 2 + 1, mask=m_t, other=0.0).to(tl.float32)
    return scale, minimum


@triton.jit
def _bytes_asm(words, KV: tl.constexpr, FP8_UNIT: tl.constexpr):
    """Four fp16 of each word's bytes."""
    MAGIC: tl.constexpr = (
        "{ .reg .b32 a, b, u; mov.b32 u, 0x64806480; prmt.b32 a, $4, 0x64646464, 0x4140;"
        " prmt.b32 b, $4, 0x64646464, 0x4342;"
        " sub.rn.f16x2 a, a, u; sub.rn.f16x2 b, b, u;"
        " mov.b32 {$0, $1}, a; mov.b32 {$2, $3}, b; }"
    )
    CONVERTED: tl.constexpr = (
        "{ .reg .b32 a, b; .reg .b16 p, q; mov.b32 {p, q}, $4;"
        " cvt.rn.f16x2.e4m3x2 a, p; cvt.rn.f16x2.e4m3x2 b, q;"
        " mov.b32 {$0, $1}, a; mov.b32 {$2, $3}, b; }"
    )
    # Exponent and mantissa one place down are a half 2**8 too small; the sign stays.
    MOVED: tl.constexpr = (
        "{ .reg .b32 a, b, c, d; prmt.b32 a, $4, 0, 0x1404; prmt.b32 b, $4, 0, 0x3424;"
        " and.b32 c, a, 0x80008000; and.b32 d, b, 0x80008000;"
        " and.b32 a, a, 0x7f007f00; and.b32 b, b, 0x7f007f00;"
        " shr.u32 a, a, 1; shr.u32 b, b, 1; or.b32 a, a, c; or.b32 b, b, d;"
        " mov.b32 c, 0x5c005c00; mul.rn.f16x2 a, a, c; mul.rn.f16x2 b, b, c;"
        " mov.b32 {$0, $1}, a; mov.b32 {$2, $3}, b; }"
    )
    CODE: tl.constexpr = MAGIC if KV == "int8" else (CONVERTED if FP8_UNIT else MOVED)
    return tl.inline_asm_elementwise(
        CODE,
        "=h,=h,=h,=h,r",
        [words],
        (tl.float16, tl.float16, tl.float16, tl.float16),
        True,
        1,
    )


@triton.jit
def _nibbles_asm(words):
    """Eight fp16 of each word: the lower nibbles of its bytes, then the upper ones."""
    return tl.inline_asm_elementwise(
        "{ .reg .b32 l, h, a, b, u; mov.b32 u, 0x64086408; and.b32 l, $8, 0x0f0f0f0f;"
        " shr.u32 h, $8, 4; and.b32 h, h, 0x0f0f0f0f;"
        " prmt.b32 a, l, 0x64646464, 0x4140; prmt.b32 b, l, 0x64646464, 0x4342;"
        " sub.rn.f16x2 a, a, u; sub.rn.f16x2 b, b, u;"
        " mov.b32 {$0, $1}, a; mov.b32 {$2, $3}, b;"
        " prmt.b32 a, h, 0x64646464, 0x4140; prmt.b32 b, h, 0x64646464, 0x4342;"
        " sub.rn.f16x2 a, a, u; sub.rn.f16x2 b, b, u;"
        " mov.b32 {$4, $5}, a; mov.b32 {$6, $7}, b; }",
        "=h,=h,=h,=h,=h,=h,=h,=h,r",
        [words],
        (
            tl.float16,
            tl.float16,
            tl.float16,
            tl.float16,
            tl.float16,
            tl.float16,
            tl.float16,
            tl.float16,
        ),
        True,
        1,
    )


@triton.jit
def _in_line(a, b, c, d, T: tl.constexpr, WIDTH: tl.constexpr):
    """Four [T, W] side by side, element by element: [T, 4 W]."""
    return tl.reshape(tl.join(tl.join(a, c), tl.join(b, d)), (T, WIDTH))


@triton.jit
def unpack_tile(
    raw,
    T: tl.constexpr,
    DP: tl.constexpr,
    KV: tl.constexpr,
    DTYPE: tl.constexpr,
    USE_ASM: tl.constexpr,
    FP8_UNIT: tl.constexpr,
):
    """Raw vectors as DTYPE (16bit) or as fp16 values (fp8) and codes + code_offset: [T, DP]."""
    if KV == "16bit":
        if USE_ASM:
            low = raw.to(tl.int16).to(DTYPE, bitcast=True)
            high = (raw >> 16).to(tl.int16).to(DTYPE, bitcast=True)
            tile = tl.reshape(tl.join(low, high), (T, DP))
        else:
            tile = raw
    elif KV == "int4":
        if USE_ASM:
            a, b, c, d, e, f, g, h = _nibbles_asm(raw)
            below = _in_line(a, b, c, d, T, DP // 2)
            above = _in_line(e, f, g, h, T, DP // 2)
        else:
            below = (raw & 15).to(tl.float16)
            above = (raw >> 4).to(tl.float16)
        tile = tl.reshape(tl.permute(tl.join(below, above), (0, 2, 1)), (T, DP))
    elif USE_ASM:
        a, b, c, d = _bytes_asm(raw, KV, FP8_UNIT)
        tile = _in_line(a, b, c, d, T, DP)
    elif KV == "fp8":
        wide = raw.to(tl.int32)
        half = ((wide & 128) << 8) | ((wide & 127) << 7)
        tile = (half.to(tl.int16).to(tl.float16, bitcast=True).to(tl.float32) * 256.0).to(
            tl.float16
        )
    else:
        tile = raw.to(tl.float16)
    return tile
