"""Cached vectors in the registers where tensor cores want them: layouts, reads and unpacking.

A warp has tokens of its own. A lane reads pieces of eight values of a vector (sixteen of int4: as
many of each half), K for the tokens of its row in a product, V for those of its column, so that
unpacking leaves every value in its lane. Columns of a head are its values, DP of them; where int4
needs it, each half is padded by itself. V comes out in columns of another order, see `in_order`.
Shapes: W warps, T tokens of a warp at once, R rows of query heads.
"""

from __future__ import annotations

from triton.experimental import gluon
from triton.experimental.gluon import language as gl

DENSE = gl.constexpr(0)
FP8 = gl.constexpr(1)
INT8 = gl.constexpr(2)
INT4 = gl.constexpr(3)
LEAST_COLUMNS = 64
"""Of a head, so that all lanes have a piece of V."""


@gluon.constexpr_function
def _bits(first: int, end: int) -> list[int]:
    """Powers of two from first up to but without end."""
    return [1 << i for i in range(first.bit_length() - 1, end.bit_length() - 1)]


@gluon.constexpr_function
def _layout(
    registers: list[list[int]], lanes: list[list[int]], warps: int, shape: list[int]
) -> gl.DistributedLinearLayout:
    by_warp = [[w] + [0] * (len(shape) - 1) for w in _bits(1, warps)]
    return gl.DistributedLinearLayout(registers, lanes, by_warp, [], shape)


@gluon.constexpr_function
def words_of(kv: int, columns: int) -> int:
    """Words of a stored vector of that many columns."""
    return columns // (2, 4, 4, 8)[kv]


@gluon.constexpr_function
def piece_of(kv: int, columns: int) -> int:
    """Values of one half that a lane reads together for V."""
    return min(8, columns // 16) if kv == 3 else 8


@gluon.constexpr_function
def rows_layout(warps: int, rows: int, words: int, piece: int) -> gl.DistributedLinearLayout:
    """[W, rows, words]: a lane has `piece` words at a time of every eighth row."""
    registers = [[0, 0, b] for b in _bits(1, piece)]
    registers += [[0, 0, b] for b in _bits(4 * piece, words)]
    registers += [[0, b, 0] for b in _bits(8, rows)]
    lanes = [[0, 0, piece], [0, 0, 2 * piece], [0, 1, 0], [0, 2, 0], [0, 4, 0]]
    return _layout(registers, lanes, warps, [warps, rows, words])


@gluon.constexpr_function
def columns_layout(warps: int, tokens: int, words: int, piece: int) -> gl.DistributedLinearLayout:
    """[W, tokens, words]: a lane has `piece` words at a time of pairs of tokens."""
    registers = [[0, 0, b] for b in _bits(1, piece)]
    registers += [[0, 1, 0]]
    registers += [[0, 0, b] for b in _bits(8 * piece, words)]
    registers += [[0, b, 0] for b in _bits(8, tokens)]
    lanes = [[0, 2, 0], [0, 4, 0], [0, 0, piece], [0, 0, 2 * piece], [0, 0, 4 * piece]]
    return _layout(registers, lanes, warps, [warps, tokens, words])


@gluon.jit
def pages_of(p_table, t, capacity, PAGE: gl.constexpr):
    """Page of each token t, wherever the table has a place for it."""
    return gl.load(p_table + t // PAGE, mask=t < capacity, other=0)


@gluon.jit
def read(
    p_words,
    vector,
    inside,
    D: gl.constexpr,
    DP: gl.constexpr,
    KV: gl.constexpr,
    L: gl.constexpr,
):
    """Raw words [W, T, words] of the vectors [W, T] (layout of L's slice), 0 where not inside."""
    WORDS: gl.constexpr = words_of(KV, DP)
    REAL: gl.constexpr = words_of(KV, D)
    LI: gl.constexpr = gl.SliceLayout(0, gl.SliceLayout(1, L))
    i = gl.arange(0, WORDS, LI)[None, None, :]
    pointers = p_words + (vector.to(gl.int64) * REAL)[:, :, None] + i
    mask = inside[:, :, None] & (i < REAL)
    return gl.load(pointers, mask=mask, other=0)


@gluon.jit
def read_params(params_ptr, vector, inside, KV: gl.constexpr):
    """Raw fp16 scale, or int32 pair of scale and minimum, of each vector."""
    if KV == DENSE:
        raw = vector * 0
    elif KV == FP8:
        raw = gl.load(params_ptr + vector, mask=inside, other=0.0)
    else:
        raw = gl.load(params_ptr + vector, mask=inside, other=0)
    return raw


@gluon.jit
def pair_params(pair):
    """Scale and minimum in fp32 of each pair."""
    scale = pair.to(gl.int16).to(gl.float16, bitcast=True).to(gl.float32)
    minimum = (pair >> 16).to(gl.int16).to(gl.float16, bitcast=True).to(gl.float32)
    return scale, minimum


@gluon.jit
def head_column(column, D: gl.constexpr, DP: gl.constexpr, KV: gl.constexpr):
    """Value of a head that a column stands for, and whether there is one."""
    if KV == INT4 and D != DP:
        within = column % (DP // 2)
        d = column // (DP // 2) * (D // 2) + within
        real = within < D // 2
    else:
        d = column
        real = column < D
    return d, real


_MAGIC = gl.constexpr("""
    {
    .reg .b32 u;
    mov.b32 u, 0x64806480;
    prmt.b32 $0, $2, 0x64646464, 0x4140;
    prmt.b32 $1, $2, 0x64646464, 0x4342;
    sub.rn.f16x2 $0, $0, u;
    sub.rn.f16x2 $1, $1, u;
    }""")
_CONVERTED = gl.constexpr("""
    {
    .reg .b16 p, q;
    mov.b32 {p, q}, $2;
    cvt.rn.f16x2.e4m3x2 $0, p;
    cvt.rn.f16x2.e4m3x2 $1, q;
    }""")
# Exponent and mantissa one place down are a half 2**8 too small; the sign stays.
_MOVED = gl.constexpr("""
    {
    .reg .b32 a, b, c, d;
    prmt.b32 a, $2, 0, 0x1404;
    prmt.b32 b, $2, 0, 0x3424;
    and.b32 c, a, 0x80008000;
    and.b32 d, b, 0x80008000;
    and.b32 a, a, 0x7f007f00;
    and.b32 b, b, 0x7f007f00;
    shr.u32 a, a, 1;
    shr.u32 b, b, 1;
    or.b32 a, a, c;
    or.b32 b, b, d;
    mov.b32 c, 0x5c005c00;
    mul.rn.f16x2 $0, a, c;
    mul.rn.f16x2 $1, b, c;
    }""")
# Lower nibbles of the four bytes, then the upper ones; codes less eight.
_NIBBLES = gl.constexpr("""
    {
    .reg .b32 l, h, u;
    mov.b32 u, 0x64086408;
    and.b32 l, $4, 0x0f0f0f0f;
    shr.u32 h, $4, 4;
    and.b32 h, h, 0x0f0f0f0f;
    prmt.b32 $0, l, 0x64646464, 0x4140;
    prmt.b32 $1, l, 0x64646464, 0x4342;
    prmt.b32 $2, h, 0x64646464, 0x4140;
    prmt.b32 $3, h, 0x64646464, 0x4342;
    sub.rn.f16x2 $0, $0, u;
    sub.rn.f16x2 $1, $1, u;
    sub.rn.f16x2 $2, $2, u;
    sub.rn.f16x2 $3, $3, u;
    }""")


@gluon.jit
def halves_of(pair, DTYPE: gl.constexpr):
    """The two 16-bit values of each word."""
    low = pair.to(gl.int16).to(DTYPE, bitcast=True)
    high = (pair >> 16).to(gl.int16).to(DTYPE, bitcast=True)
    return low, high


@gluon.jit
def _four(a, b, W: gl.constexpr, T: gl.constexpr, N: gl.constexpr):
    """Words of two halves each, a before b, as fp16 [W, T, N]."""
    a_low, a_high = halves_of(a, gl.float16)
    b_low, b_high = halves_of(b, gl.float16)
    joined = gl.join(gl.join(a_low, b_low), gl.join(a_high, b_high))
    return gl.reshape(joined, [W, T, N])


@gluon.jit
def unpack(
    raw,
    W: gl.constexpr,
    T: gl.constexpr,
    DP: gl.constexpr,
    KV: gl.constexpr,
    DTYPE: gl.constexpr,
    FP8_UNIT: gl.constexpr,
):
    """Words as columns [W, T, DP]: DTYPE values, fp16 values of fp8, or codes less their middle."""
    if KV == DENSE:
        low, high = halves_of(raw, DTYPE)
        tile = gl.reshape(gl.join(low, high), [W, T, DP])
    elif KV == INT4:
        a, b, c, d = gl.inline_asm_elementwise(
            _NIBBLES, "=&r,=&r,=&r,=&r,r", [raw], (gl.int32, gl.int32, gl.int32, gl.int32), True, 1
        )
        below = _four(a, b, W, T, DP // 2)
        above = _four(c, d, W, T, DP // 2)
        tile = gl.reshape(gl.permute(gl.join(below, above), (0, 1, 3, 2)), [W, T, DP])
    else:
        ASM: gl.constexpr = _MAGIC if KV == INT8 else (_CONVERTED if FP8_UNIT else _MOVED)
        a, b = gl.inline_asm_elementwise(ASM, "=&r,=&r,r", [raw], (gl.int32, gl.int32), True, 1)
        tile = _four(a, b, W, T, DP)
    return tile


@gluon.jit
def out_of_order(v, W: gl.constexpr, T: gl.constexpr, DP: gl.constexpr, PIECE: gl.constexpr):
    """[W, T, DP] with the pieces of eight lanes interleaved, as a product's columns are dealt."""
    pieces = gl.reshape(v, [W, T, DP // (8 * PIECE), 8, PIECE])
    return gl.reshape(gl.permute(pieces, (0, 1, 2, 4, 3)), [W, T, DP])


@gluon.jit
def in_order(y, W: gl.constexpr, R: gl.constexpr, DP: gl.constexpr, PIECE: gl.constexpr):
    """Columns of a product [W, R, DP] as columns of the head."""
    pieces = gl.reshape(y, [W, R, DP // (8 * PIECE), PIECE, 8])
    return gl.reshape(gl.permute(pieces, (0, 1, 2, 4, 3)), [W, R, DP])


@gluon.jit
def sixteen(x, W: gl.constexpr, N: gl.constexpr):
    """[W, 8, N] with as many rows of zeros below."""
    both = gl.permute(gl.join(x, gl.zeros_like(x)), (0, 3, 1, 2))
    return gl.reshape(both, [W, 16, N])


@gluon.jit
def first_rows(x, W: gl.constexpr, ROWS: gl.constexpr):
    """The first rows of [W, 16]."""
    if ROWS == 8:
        x, _ = gl.split(gl.permute(gl.reshape(x, [W, 2, 8]), (0, 2, 1)))
    return x


@gluon.jit
def one_warp(shared, w: gl.constexpr, GP: gl.constexpr, L: gl.constexpr, LG: gl.constexpr):
    """What warp w has stored for the first GP rows."""
    one = shared.slice(w, 1, dim=0).slice(0, GP, dim=1).load(gl.SliceLayout(2, L))
    return gl.convert_layout(gl.sum(one, 0), LG, assert_trivial=True)


@gluon.jit
def own_tokens(W: gl.constexpr, T: gl.constexpr, L: gl.constexpr):
    """Place of every token [W, T] in a tile."""
    return gl.set_auto_layout(gl.arange(0, W)[:, None] * T + gl.arange(0, T)[None, :], L)
