"""Stored codes to fragments of a 16-bit matrix product, and the product, in one sequence a unit.

A unit is what 32 lanes hold of 16 output rows: 16 bytes a lane of int4 (64 k), 16 bytes of each of
two rows of int8 or fp8 (64 k) or of 16-bit weights (32 k); codes that index tables are
table_codes's. Four registers are a lane's part of the
weights' side of mma.m16n8k16: rows r and r + 8 of one k pair, then of another. Accumulators are
rows r and r + 8 by two columns, in this order: [2, 2] a lane.
"""

from __future__ import annotations

from triton.experimental import gluon
from triton.experimental.gluon import language as gl

INT4 = gl.constexpr(0)
INT8 = gl.constexpr(1)
FP8 = gl.constexpr(2)
DENSE = gl.constexpr(3)
CODEBOOK4 = gl.constexpr(4)
NESTED4 = gl.constexpr(5)
LUT4 = gl.constexpr(6)
LUT3 = gl.constexpr(7)

INT4_TOP_MAGIC_FP16 = gl.constexpr(1024.0)
INT4_BOTTOM_MAGIC_FP16 = gl.constexpr(64.0)
INT4_MAGIC_BF16 = gl.constexpr(128.0)
FP8_FACTOR_FP16 = gl.constexpr(256.0)
"""What sums of fp8 products are short of with fp16 activations; bf16 ones have the whole value."""

# Nibbles p and p + 4 are a pair. fp16: 1024 + q of nibbles 0 and 2, 64 + q of nibbles 1 and 3.
_INT4_FP16 = """
    shr.u32 v, {w}, 8;
    lop3.b32 a0, {w}, 0x000f000f, 0x64006400, 0xea;
    lop3.b32 a1, {w}, 0x00f000f0, 0x54005400, 0xea;
    lop3.b32 a2, v, 0x000f000f, 0x64006400, 0xea;
    lop3.b32 a3, v, 0x00f000f0, 0x54005400, 0xea;"""
# bf16 has seven bits of mantissa: 128 + q everywhere.
_INT4_BF16 = """
    lop3.b32 a0, {w}, 0x000f000f, 0x43004300, 0xea;
    shr.u32 v, {w}, 4;
    lop3.b32 a1, v, 0x000f000f, 0x43004300, 0xea;
    shr.u32 v, {w}, 8;
    lop3.b32 a2, v, 0x000f000f, 0x43004300, 0xea;
    shr.u32 v, {w}, 12;
    lop3.b32 a3, v, 0x000f000f, 0x43004300, 0xea;"""
# Signed bytes, biased to unsigned, become 1024 + u by their place; 1152 comes off.
_INT8_FP16 = """
    xor.b32 v, {w}, 0x80808080;
    mov.b32 u, 0x64806480;
    prmt.b32 {low}, v, 0x64646464, 0x4140;
    prmt.b32 {high}, v, 0x64646464, 0x4342;
    sub.rn.f16x2 {low}, {low}, u;
    sub.rn.f16x2 {high}, {high}, u;"""
# 128 + the low seven bits, less 128 or, where the sign is set, 256: exact in eight bits.
_INT8_BF16 = """
    mov.b32 u, 0xbf80bf80;
    prmt.b32 {low}, {w}, 0, 0x4140;
    lop3.b32 v, {low}, 0x00800080, 0x43004300, 0xea;
    lop3.b32 {low}, {low}, 0x007f007f, 0x43004300, 0xea;
    fma.rn.bf16x2 {low}, v, u, {low};
    prmt.b32 {high}, {w}, 0, 0x4342;
    lop3.b32 v, {high}, 0x00800080, 0x43004300, 0xea;
    lop3.b32 {high}, {high}, 0x007f007f, 0x43004300, 0xea;
    fma.rn.bf16x2 {high}, v, u, {high};"""
# E4M3 in the upper bytes; exponent and mantissa one bit down are the value times 2**-8.
_FP8_FP16 = """
    prmt.b32 {low}, {w}, 0, 0x1404;
    and.b32 v, {low}, 0x80008000;
    shr.u32 {low}, {low}, 1;
    lop3.b32 {low}, {low}, 0x3f803f80, v, 0xea;
    prmt.b32 {high}, {w}, 0, 0x3424;
    and.b32 v, {high}, 0x80008000;
    shr.u32 {high}, {high}, 1;
    lop3.b32 {high}, {high}, 0x3f803f80, v, 0xea;"""
# Four bits down it is the value times 2**-120.
_FP8_BF16 = """
    mov.b32 u, 0x7b807b80;
    mov.b32 z, 0x80008000;
    prmt.b32 {low}, {w}, 0, 0x1404;
    and.b32 v, {low}, 0x80008000;
    shr.u32 {low}, {low}, 4;
    lop3.b32 {low}, {low}, 0x07f007f0, v, 0xea;
    fma.rn.bf16x2 {low}, {low}, u, z;
    prmt.b32 {high}, {w}, 0, 0x3424;
    and.b32 v, {high}, 0x80008000;
    shr.u32 {high}, {high}, 4;
    lop3.b32 {high}, {high}, 0x07f007f0, v, 0xea;
    fma.rn.bf16x2 {high}, {high}, u, z;"""


def mma(bf16: bool, acc: str, a: tuple[str, ...], b: tuple[str, str]) -> str:
    """One product m16n8k16 of registers, added to its accumulators."""
    kind = "bf16" if bf16 else "f16"
    return (
        f"mma.sync.aligned.m16n8k16.row.col.f32.{kind}.{kind}.f32 "
        f"{{{acc}}}, {{{','.join(a)}}}, {{{b[0]},{b[1]}}}, {{{acc}}};"
    )


def quad(first: int) -> str:
    """Four operands that follow each other."""
    return ",".join(f"${first + i}" for i in range(4))


def program(lines: list[str], registers: str) -> str:
    """Inline assembly of lines with 32-bit registers of its own."""
    return "{\n.reg .b32 " + registers + ";\n" + "\n".join(lines) + "\n}"


def _start(outputs: int) -> list[str]:
    """Accumulators start where the inputs tied to them stand, or at zero."""
    return [f"mov.f32 ${i}, 0f00000000;" for i in range(outputs)]


def _int4_program(bf16: bool, halves: int) -> str:
    """Output: sums of x times biased codes, [halves][4]; inputs: words, x, x."""
    outputs = 4 * halves
    lines = _start(outputs)
    for step in range(4):
        b = (f"${outputs + 4 + 2 * step}", f"${outputs + 5 + 2 * step}")
        lines.append((_INT4_BF16 if bf16 else _INT4_FP16).format(w=f"${outputs + step}"))
        lines.append(mma(bf16, quad(step * halves // 4 * 4), ("a0", "a1", "a2", "a3"), b))
    return program(lines, "a0, a1, a2, a3, v")


def _sum_program(bf16: bool) -> str:
    """Output: sums of x over 32 k [4]; inputs: x, sums so far."""
    lines = [f"mov.f32 ${i}, ${8 + i};" for i in range(4)]
    lines.append(f"mov.b32 u, {'0x3f803f80' if bf16 else '0x3c003c00'};")
    for step in range(2):
        lines.append(mma(bf16, quad(0), ("u",) * 4, (f"${4 + 2 * step}", f"${5 + 2 * step}")))
    return program(lines, "u")


def _byte_program(unpack: str, bf16: bool) -> str:
    """Output: sums [4]; inputs: words of r, words of r + 8, x, x, sums so far."""
    lines = [f"mov.f32 ${i}, ${20 + i};" for i in range(4)]
    for step in range(4):
        lines.append(unpack.format(w=f"${4 + step}", low="a0", high="a2"))
        lines.append(unpack.format(w=f"${8 + step}", low="a1", high="a3"))
        b = (f"${12 + 2 * step}", f"${13 + 2 * step}")
        lines.append(mma(bf16, quad(0), ("a0", "a1", "a2", "a3"), b))
    return program(lines, "a0, a1, a2, a3, u, v, z")


def _dense_program(bf16: bool) -> str:
    """Output: sums [4]; inputs: words of r, words of r + 8, x, sums so far."""
    lines = [f"mov.f32 ${i}, ${16 + i};" for i in range(4)]
    for step in range(2):
        a = tuple(f"${j + 2 * step}" for j in (4, 8, 5, 9))
        lines.append(mma(bf16, quad(0), a, (f"${12 + 2 * step}", f"${13 + 2 * step}")))
    return "{\n" + "\n".join(lines) + "\n}"


_INT4 = gl.constexpr((_int4_program(False, 1), _int4_program(True, 1)))
_INT4_HALVES = gl.constexpr((_int4_program(False, 2), _int4_program(True, 2)))
_SUM = gl.constexpr((_sum_program(False), _sum_program(True)))
_BYTE = gl.constexpr(
    (
        _byte_program(_INT8_FP16, False),
        _byte_program(_INT8_BF16, True),
        _byte_program(_FP8_FP16, False),
        _byte_program(_FP8_BF16, True),
    )
)
_DENSE = gl.constexpr((_dense_program(False), _dense_program(True)))


@gluon.jit
def unit_int4(words, xa, xb, BF16: gl.constexpr):
    """Sums of x times biased codes over 64 k."""
    ASM: gl.constexpr = _INT4[1 if BF16 else 0]
    return gl.inline_asm_elementwise(
        ASM, "=&f,=&f,=&f,=&f,r,r,r,r,r,r,r,r,r,r,r,r", [words, xa, xb], gl.float32, True, 4
    )


@gluon.jit
def unit_int4_halves(words, xa, xb, BF16: gl.constexpr):
    """As unit_int4 for each 32 k."""
    ASM: gl.constexpr = _INT4_HALVES[1 if BF16 else 0]
    return gl.inline_asm_elementwise(
        ASM,
        "=&f,=&f,=&f,=&f,=&f,=&f,=&f,=&f,r,r,r,r,r,r,r,r,r,r,r,r",
        [words, xa, xb],
        (gl.float32, gl.float32),
        True,
        4,
    )


@gluon.jit
def unit_sum(x, acc, BF16: gl.constexpr):
    """acc plus the sums of x over 32 k, the same for both rows of a lane."""
    ASM: gl.constexpr = _SUM[1 if BF16 else 0]
    return gl.inline_asm_elementwise(
        ASM, "=&f,=&f,=&f,=&f,r,r,r,r,f,f,f,f", [x, acc], gl.float32, True, 4
    )


@gluon.jit
def unit_byte(top, bottom, xa, xb, acc, CODE: gl.constexpr, BF16: gl.constexpr):
    """acc plus sums of x times int8 or fp8 codes over 64 k."""
    ASM: gl.constexpr = _BYTE[(2 if CODE == FP8 else 0) + (1 if BF16 else 0)]
    return gl.inline_asm_elementwise(
        ASM,
        "=&f,=&f,=&f,=&f,r,r,r,r,r,r,r,r,r,r,r,r,r,r,r,r,f,f,f,f",
        [top, bottom, xa, xb, acc],
        gl.float32,
        True,
        4,
    )


@gluon.jit
def unit_dense(top, bottom, x, acc, BF16: gl.constexpr):
    """acc plus sums of x times 16-bit weights over 32 k."""
    ASM: gl.constexpr = _DENSE[1 if BF16 else 0]
    return gl.inline_asm_elementwise(
        ASM,
        "=&f,=&f,=&f,=&f,r,r,r,r,r,r,r,r,r,r,r,r,f,f,f,f",
        [top, bottom, x, acc],
        gl.float32,
        True,
        4,
    )
