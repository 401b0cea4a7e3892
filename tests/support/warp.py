"""A warp that runs the inline assembly of the linears: the few instructions they are made of."""

from __future__ import annotations

import re

import numpy as np
import numpy.typing as npt

Lanes = npt.NDArray[np.uint32]
"""A register of 32 lanes, as bits."""

_LANE = np.arange(32)


def _pairs(bits: Lanes, bf16: bool) -> npt.NDArray[np.float32]:
    """fp32 [32, 2] of 16-bit pairs."""
    halves = np.stack((bits & 0xFFFF, bits >> 16), axis=-1)
    if bf16:
        return (halves.astype(np.uint32) << 16).view(np.float32)
    return halves.astype(np.uint16).view(np.float16).astype(np.float32)


def _prmt(a: Lanes, b: Lanes, selector: Lanes) -> Lanes:
    sources = np.stack([(word >> 8 * i) & 255 for word in (a, b) for i in range(4)])
    made = np.zeros(32, dtype=np.uint32)
    for i in range(4):
        nibble = (selector >> 4 * i) & 15
        assert (nibble < 8).all(), "a sign would be spread"
        made |= sources[nibble, _LANE].astype(np.uint32) << np.uint32(8 * i)
    return made


def _lop3(a: Lanes, b: Lanes, c: Lanes, table: int) -> Lanes:
    made = np.zeros(32, dtype=np.uint32)
    for i in range(8):
        if table >> i & 1:
            made |= (a if i & 4 else ~a) & (b if i & 2 else ~b) & (c if i & 1 else ~c)
    return made


def _mma(a: list[Lanes], b: list[Lanes], bf16: bool) -> npt.NDArray[np.float32]:
    """m16n8k16 of fragments: fp32 [32, 4]."""
    row, pair = _LANE // 4, _LANE % 4 * 2
    left, right = np.zeros((16, 16), np.float32), np.zeros((16, 8), np.float32)
    for i, register in enumerate(a):
        for j in range(2):
            left[row + 8 * (i % 2), pair + j + 8 * (i // 2)] = _pairs(register, bf16)[:, j]
    for i, register in enumerate(b):
        for j in range(2):
            right[pair + j + 8 * i, row] = _pairs(register, bf16)[:, j]
    product = left @ right
    places = [(row, pair), (row, pair + 1), (row + 8, pair), (row + 8, pair + 1)]
    return np.stack([product[place] for place in places], axis=-1)


def run(program: str, inputs: list[npt.NDArray[np.generic]], outputs: int) -> list[Lanes]:
    """Output registers of a program on input registers of 32 lanes each, any 32-bit type."""
    held: dict[str, Lanes] = {
        f"${outputs + i}": value.view(np.uint32) for i, value in enumerate(inputs)
    }

    def value(name: str) -> Lanes:
        if name in held:
            return held[name]
        number = int(name[2:], 16) if name.startswith("0f") else int(name, 0)
        return np.full(32, number, dtype=np.uint32)

    def floats(name: str) -> npt.NDArray[np.float32]:
        return value(name).view(np.float32)

    for line in re.split(r";\s*", program.strip().strip("{}").strip()):
        if not line or line.startswith("."):
            continue
        name, rest = line.split(None, 1)
        names = re.findall(r"[$\w]+", rest)
        if name.startswith("mma."):
            acc, a, b = names[:4], names[4:8], names[8:10]
            product = _mma([value(n) for n in a], [value(n) for n in b], ".bf16." in name)
            sums = [floats(n) + product[:, i] for i, n in enumerate(acc)]
            held |= {n: total.view(np.uint32) for n, total in zip(acc, sums, strict=True)}
            continue
        to, args = names[0], names[1:]
        operation = name.split(".")[0]
        if operation == "mov":
            held[to] = value(args[0])
        elif operation == "and":
            held[to] = value(args[0]) & value(args[1])
        elif operation == "shr":
            held[to] = value(args[0]) >> value(args[1])
        elif operation == "shl":
            held[to] = value(args[0]) << value(args[1])
        elif operation == "lop3":
            held[to] = _lop3(*(value(n) for n in args[:3]), int(args[3], 0))
        elif operation == "prmt":
            held[to] = _prmt(*(value(n) for n in args))
        elif operation == "fma":
            made = floats(args[0]) * floats(args[1]) + floats(args[2])
            held[to] = made.astype(np.float32).view(np.uint32)
        elif operation == "shfl":
            assert args[2] == "0x1c1f", "lanes in fours"
            held[to] = value(args[0])[_LANE // 4 * 4 + int(args[1])]
        else:
            raise AssertionError(f"unknown instruction {line}")
    return [held[f"${i}"] for i in range(outputs)]
