"""Codes that index tables of 16-bit values to fragments of a matrix product, and the product.

Tables stand in registers, the low bytes of their values apart from the high ones: a byte
permutation looks four codes up among eight entries, a second one among the other eight, a third
chooses by the code's top bit. Two more put low and high bytes together, four values of one row in
two registers. Codes of three bits come as two planes and need no choice.

Eight nibbles of a word: four k of row r, then four of row r + 8.
"""

from __future__ import annotations

from triton.experimental import gluon
from triton.experimental.gluon import language as gl

from .codes import mma, program, quad

_REGISTERS = "a0, a1, a2, a3, s, c, p, q, l, h"
# Two values of each byte plane side by side: fragments of k 0 and 1, and of k 2 and 3.
_JOIN = """
    prmt.b32 {first}, l, h, 0x5140;
    prmt.b32 {second}, l, h, 0x7362;"""
_OF_16 = (
    """
    prmt.b32 p, {l0}, {l1}, s;
    prmt.b32 q, {l2}, {l3}, s;
    prmt.b32 l, p, q, c;
    prmt.b32 p, {h0}, {h1}, s;
    prmt.b32 q, {h2}, {h3}, s;
    prmt.b32 h, p, q, c;"""
    + _JOIN
)
_OF_8 = (
    """
    prmt.b32 l, {l0}, {l1}, s;
    prmt.b32 h, {h0}, {h1}, s;"""
    + _JOIN
)
_CHOICES = """
    and.b32 s, {w}, 0x77777777;
    shr.u32 c, {w}, 1;
    lop3.b32 c, c, 0x44444444, 0x32103210, 0xea;"""
_LOWER_ROW = """
    shr.u32 s, s, 16;"""
_LOWER_CHOICES = """
    shr.u32 c, c, 16;"""
_PLANES_TO_CODES = """
    {low_shift}
    and.b32 p, p, 0x33333333;
    {top_shift}
    lop3.b32 s, q, 0x44444444, p, 0xea;"""


def _words_16(table: int) -> dict[str, str]:
    """Registers of one row's table: low bytes in four, high bytes in four."""
    return {
        f"{plane}{i}": f"${table + 4 * n + i}" for n, plane in enumerate("lh") for i in range(4)
    }


def _words_8(table: int) -> dict[str, str]:
    return {
        f"{plane}{i}": f"${table + 2 * n + i}" for n, plane in enumerate("lh") for i in range(2)
    }


def _look_up_16(word: int, top: int, bottom: int) -> list[str]:
    """Fragments a0 to a3 of the codes in one word."""
    return [
        _CHOICES.format(w=f"${word}"),
        _OF_16.format(first="a0", second="a2", **_words_16(top)),
        _LOWER_ROW + _LOWER_CHOICES,
        _OF_16.format(first="a1", second="a3", **_words_16(bottom)),
    ]


def _lut4_program(bf16: bool) -> str:
    """Output: sums [4]; inputs: words, x, x, tables of r (8) and r + 8 (8), sums so far."""
    lines = [f"mov.f32 ${i}, ${32 + i};" for i in range(4)]
    for step in range(4):
        lines += _look_up_16(4 + step, 16, 24)
        b = (f"${8 + 2 * step}", f"${9 + 2 * step}")
        lines.append(mma(bf16, quad(0), ("a0", "a1", "a2", "a3"), b))
    return program(lines, _REGISTERS)


def _codebook_program(bf16: bool) -> str:
    """Output: sums [4]; inputs: words, x, x, table (8), scales of r and r + 8 (4 each, one in
    use), sums so far."""
    lines = [f"mov.f32 z{i}, 0f00000000;" for i in range(4)]
    for step in range(4):
        lines += _look_up_16(4 + step, 16, 16)
        b = (f"${8 + 2 * step}", f"${9 + 2 * step}")
        lines.append(mma(bf16, "z0, z1, z2, z3", ("a0", "a1", "a2", "a3"), b))
    lines += [f"fma.rn.f32 ${i}, z{i}, ${24 + i // 2 * 4}, ${32 + i};" for i in range(4)]
    return program([".reg .f32 z0, z1, z2, z3;", *lines], _REGISTERS)


def _lut3_program(bf16: bool) -> str:
    """Output: sums [4]; inputs: low planes (4), top planes of two units (4 each, one in use),
    x of four 32 k (4 each), tables of r (4) and r + 8 (4), sums so far.
    """
    lines = [f"mov.f32 ${i}, ${40 + i};" for i in range(4)]
    top_shifts = (
        "shl.b32 q, {b}, 2;",
        "shl.b32 q, {b}, 1;",
        "mov.b32 q, {b};",
        "shr.u32 q, {b}, 1;",
    )
    for step in range(8):
        unit, within = divmod(step, 4)
        low, top = f"${4 + step // 2}", f"${8 + 4 * unit}"
        lines.append(
            _PLANES_TO_CODES.format(
                low_shift=f"shr.u32 p, {low}, 2;" if step % 2 else f"mov.b32 p, {low};",
                top_shift=top_shifts[within].format(b=top),
            )
        )
        lines.append(_OF_8.format(first="a0", second="a2", **_words_8(32)))
        lines.append(_LOWER_ROW)
        lines.append(_OF_8.format(first="a1", second="a3", **_words_8(36)))
        b = (f"${16 + 2 * step}", f"${17 + 2 * step}")
        lines.append(mma(bf16, quad(0), ("a0", "a1", "a2", "a3"), b))
    return program(lines, _REGISTERS)


def _constraints(inputs: str) -> str:
    return "=&f,=&f,=&f,=&f," + ",".join(inputs)


_LUT4 = gl.constexpr((_lut4_program(False), _lut4_program(True)))
_CODEBOOK = gl.constexpr((_codebook_program(False), _codebook_program(True)))
_LUT3 = gl.constexpr((_lut3_program(False), _lut3_program(True)))
_LUT4_OPERANDS = gl.constexpr(_constraints("r" * 28 + "f" * 4))
_CODEBOOK_OPERANDS = gl.constexpr(_constraints("r" * 20 + "f" * 12))
_LUT3_OPERANDS = gl.constexpr(_constraints("r" * 36 + "f" * 4))
# Lane c of the four of a row hands its value to the others.
_SHARED_BY_FOUR = gl.constexpr(
    "\n".join(f"shfl.sync.idx.b32 ${i}, $4, {i}, 0x1c1f, 0xffffffff;" for i in range(4))
)


@gluon.jit
def unit_lut4(words, xa, xb, low0, high0, low1, high1, acc, BF16: gl.constexpr):
    """acc plus sums of x times looked up values over 64 k; tables of rows r (0) and r + 8 (1)."""
    ASM: gl.constexpr = _LUT4[1 if BF16 else 0]
    return gl.inline_asm_elementwise(
        ASM, _LUT4_OPERANDS, [words, xa, xb, low0, high0, low1, high1, acc], gl.float32, True, 4
    )


@gluon.jit
def unit_codebook(words, xa, xb, low, high, top, bottom, acc, BF16: gl.constexpr):
    """acc plus scaled sums of x times looked up values over 64 k; scales of rows r and r + 8."""
    ASM: gl.constexpr = _CODEBOOK[1 if BF16 else 0]
    return gl.inline_asm_elementwise(
        ASM, _CODEBOOK_OPERANDS, [words, xa, xb, low, high, top, bottom, acc], gl.float32, True, 4
    )


@gluon.jit
def block_lut3(low, top0, top1, xa, xb, xc, xd, table0, table1, acc, BF16: gl.constexpr):
    """acc plus sums of x times looked up values over 128 k: two units' planes of bits."""
    ASM: gl.constexpr = _LUT3[1 if BF16 else 0]
    return gl.inline_asm_elementwise(
        ASM,
        _LUT3_OPERANDS,
        [low, top0, top1, xa, xb, xc, xd, table0, table1, acc],
        gl.float32,
        True,
        4,
    )


@gluon.jit
def shared_by_four(value):
    """The values of the four lanes of a row, fp32 [..., 4, 1], each in all four lanes."""
    return gl.inline_asm_elementwise(
        _SHARED_BY_FOUR,
        "=&f,=&f,=&f,=&f,f",
        [value],
        (gl.float32, gl.float32, gl.float32, gl.float32),
        True,
        1,
    )
