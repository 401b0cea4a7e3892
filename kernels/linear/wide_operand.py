"""int4 tiles made dense in the registers that the tensor cores of SM 90 read their weights from.

Owns how words of pack.py become 64 k of 16-bit weights; copies nothing and multiplies nothing.
"""

from __future__ import annotations

from triton.experimental import gluon
from triton.experimental.gluon import language as gl

WORDS = gl.constexpr(
    gl.DistributedLinearLayout(
        [[0, 1], [0, 2]],
        [[0, 4], [0, 8], [0, 16], [0, 32], [0, 64]],
        [[1, 0], [2, 0], [4, 0]],
        [],
        [8, 128],
    )
)
"""A warp has a tile of 16 outputs, a lane its four words of 64 k."""
PAIRS = gl.constexpr(
    gl.DistributedLinearLayout(
        [[0, 1]],
        [[0, 0], [0, 0], [0, 2], [0, 4], [0, 8]],
        [[1, 0], [2, 0], [4, 0]],
        [],
        [8, 16],
    )
)
"""The same lanes' scales and offsets: rows r and r + 8."""
_EIGHTS = gl.constexpr(
    gl.DistributedLinearLayout(
        [[0, 0, 1], [0, 0, 2], [0, 0, 4], [0, 1, 0], [0, 2, 0]],
        [[0, 4, 0], [0, 8, 0], [1, 0, 0], [2, 0, 0], [4, 0, 0]],
        [[8, 0, 0], [16, 0, 0], [32, 0, 0]],
        [],
        [64, 16, 8],
    )
)
"""Eight weights of each word."""

# Lane c of four has eight k in a row; the tensor cores want pair c of every eight from it.
_TURN = gl.constexpr("""{
    .reg .b32 a, b, c, d, v, w, x, y;
    .reg .pred p;
    setp.ne.s32 p, $24, 0;
    selp.b32 a, $5, $4, p;
    selp.b32 b, $4, $5, p;
    selp.b32 c, $7, $6, p;
    selp.b32 d, $6, $7, p;
    prmt.b32 v, a, c, $8;
    prmt.b32 w, a, c, $12;
    prmt.b32 x, b, d, $8;
    prmt.b32 y, b, d, $12;
    shfl.sync.bfly.b32 w, w, 1, 0x1f, 0xffffffff;
    shfl.sync.bfly.b32 x, x, 2, 0x1f, 0xffffffff;
    shfl.sync.bfly.b32 y, y, 3, 0x1f, 0xffffffff;
    prmt.b32 a, v, w, $16;
    prmt.b32 b, x, y, $16;
    prmt.b32 c, v, w, $20;
    prmt.b32 d, x, y, $20;
    selp.b32 $0, b, a, p;
    selp.b32 $1, a, b, p;
    selp.b32 $2, d, c, p;
    selp.b32 $3, c, d, p;
}""")
_TURN_REGISTERS = gl.constexpr(",".join(["=&r"] * 4 + ["r"] * 24))
# A code under an exponent is 1024 + code, or 64 + code where it stands four bits up.
_TO_FP16 = gl.constexpr("""{
    .reg .b32 v, one, six;
    mov.b32 one, 0x64006400;
    mov.b32 six, 0x54005400;
    shr.u32 v, $4, 8;
    lop3.b32 $0, $4, 0x000f000f, one, 0xea;
    lop3.b32 $1, $4, 0x00f000f0, six, 0xea;
    lop3.b32 $2, v, 0x000f000f, one, 0xea;
    lop3.b32 $3, v, 0x00f000f0, six, 0xea;
    sub.rn.f16x2 $0, $0, one;
    sub.rn.f16x2 $1, $1, six;
    sub.rn.f16x2 $2, $2, one;
    sub.rn.f16x2 $3, $3, six;
    fma.rn.f16x2 $0, $0, $12, $20;
    fma.rn.f16x2 $1, $1, $28, $36;
    fma.rn.f16x2 $2, $2, $12, $20;
    fma.rn.f16x2 $3, $3, $28, $36;
}""")
_FP16_REGISTERS = gl.constexpr(",".join(["=&r"] * 4 + ["r"] * 40))


def _to_bf16() -> str:
    """The same by way of fp32; offsets are less by 1024 scales, or 64."""
    lines = [
        "{",
        ".reg .b32 v, w, one, six;",
        ".reg .b16 l, h;",
        ".reg .f32 a, b;",
        "mov.b32 one, 0x64006400;",
        "mov.b32 six, 0x54005400;",
        "shr.u32 v, $4, 8;",
    ]
    for i in range(4):
        mask, base = (("0x000f000f", "one"), ("0x00f000f0", "six"))[i % 2]
        scale, offset = (("$12", "$20"), ("$28", "$36"))[i % 2]
        lines += [
            f"lop3.b32 w, {'$4' if i < 2 else 'v'}, {mask}, {base}, 0xea;",
            "mov.b32 {l, h}, w;",
            "cvt.f32.f16 a, l;",
            "cvt.f32.f16 b, h;",
            f"fma.rn.f32 a, a, {scale}, {offset};",
            f"fma.rn.f32 b, b, {scale}, {offset};",
            f"cvt.rn.bf16x2.f32 ${i}, b, a;",
        ]
    return "\n".join([*lines, "}"])


_TO_BF16 = gl.constexpr(_to_bf16())
_BF16_REGISTERS = gl.constexpr(",".join(["=&r"] * 4 + ["r"] * 8 + ["f"] * 32))


@gluon.jit
def fetch(words, pairs, part: gl.constexpr):
    """Words and pairs of eight tiles out of shared memory."""
    return words.slice(part * 8, 8, 0).load(WORDS), pairs.slice(part * 8, 8, 0).load(PAIRS)


@gluon.jit
def turn(words):
    """Words whose steps are sixteen k in a row, as the tensor cores count them."""
    lane = gl.arange(0, 128, gl.SliceLayout(0, WORDS))[None, :] // 4
    odd = lane % 2 != 0
    first = gl.where(odd, 0x7351, 0x6240)
    second = gl.where(odd, 0x6240, 0x7351)
    low = gl.where(odd, 0x2604, 0x6240)
    high = gl.where(odd, 0x3715, 0x7351)
    args = [words, first, second, low, high, lane // 2 % 2]
    return gl.inline_asm_elementwise(_TURN, _TURN_REGISTERS, args, gl.int32, True, 4)


@gluon.jit
def _half(pair):
    """The lower half of a pair as fp32."""
    return pair.to(gl.int16).to(gl.float16, bitcast=True).to(gl.float32)


@gluon.jit
def dense(words, pairs, OPERAND: gl.constexpr, BF16: gl.constexpr):
    """Turned words and their pairs -> weights [128, 64], not yet in shared memory nor ever."""
    ROWS: gl.constexpr = gl.SliceLayout(2, _EIGHTS)
    words = gl.convert_layout(gl.reshape(words, [64, 16]), ROWS, assert_trivial=True)
    words, _ = gl.broadcast(gl.expand_dims(words, 2), gl.zeros([64, 16, 8], gl.int32, _EIGHTS))
    upper, lower = gl.split(gl.reshape(pairs, [64, 2]))
    upper = gl.convert_layout(upper, gl.SliceLayout(1, ROWS), assert_trivial=True)[:, None, None]
    lower = gl.convert_layout(lower, gl.SliceLayout(1, ROWS), assert_trivial=True)[:, None, None]
    if BF16:
        s0 = _half(upper)
        s1 = _half(lower)
        args = [words, s0, _half(upper >> 16) - 1024 * s0, s1, _half(lower >> 16) - 64 * s1]
        made = gl.inline_asm_elementwise(_TO_BF16, _BF16_REGISTERS, args, gl.bfloat16, True, 8)
    else:
        s0 = (upper & 0xFFFF) * 0x10001
        s1 = (lower & 0xFFFF) * 0x10001
        o0 = ((upper >> 16) & 0xFFFF) * 0x10001
        o1 = ((lower >> 16) & 0xFFFF) * 0x10001
        args = [words, s0, o0, s1, o1]
        made = gl.inline_asm_elementwise(_TO_FP16, _FP16_REGISTERS, args, gl.float16, True, 8)
    # tile, r, lane of four, 32-block, step, eight, half, element
    made = gl.permute(gl.reshape(made, [8, 8, 4, 2, 2, 2, 2, 2]), [0, 6, 1, 3, 4, 5, 2, 7])
    return gl.convert_layout(gl.reshape(made, [128, 64]), OPERAND, assert_trivial=True)
