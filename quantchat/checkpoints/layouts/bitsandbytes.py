"""bitsandbytes: 4-bit codes of a table, scales plain or in 8 bits themselves, and int8 rows."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TypeAlias

import torch

from quantchat.checkpoints.base import TensorEntry
from quantchat.checkpoints.facts import Facts
from quantchat.checkpoints.json_file import parse_object
from quantchat.checkpoints.layouts.codes import (
    SCALES_TOGETHER,
    Codes,
    DoubleScales,
    Int8Codes,
    TableCodes,
)
from quantchat.checkpoints.layouts.kinds import INT8_ROWS, table_kind
from quantchat.checkpoints.layouts.module import Layout, PackedModule, Parts, Tensors, owners
from quantchat.checkpoints.layouts.words import swap_nibbles
from quantchat.errors import UnsupportedModelError

STATE = "weight.quant_state.bitsandbytes__"
MOST_STATE_BYTES = 1 << 16
TABLES = ("nf4", "fp4")
LARGEST = 127.0

ReadBytes: TypeAlias = Callable[[str], bytes]
"""A small tensor's bytes by its name."""


def bitsandbytes(facts: Facts, tensors: Mapping[str, TensorEntry], read_bytes: ReadBytes) -> Layout:
    """Every module with a quant state or with `SCB`; `facts` is the quantization config."""
    four = facts.flag("load_in_4bit", default=False)
    if four == facts.flag("load_in_8bit", default=not four):
        raise UnsupportedModelError(
            facts.path, f"{facts.prefix}load_in_4bit and load_in_8bit are both {str(four).lower()}"
        )
    modules = [_int8(tensors, name, read_bytes) for name in owners(tensors, "SCB")]
    for table in TABLES:
        modules += [
            _table(tensors, name, table, read_bytes) for name in owners(tensors, STATE + table)
        ]
    other = tuple(name for name in tensors if name.endswith(".weight_format"))
    return Layout(modules=tuple(modules), other=other)


def _int8(tensors: Mapping[str, TensorEntry], name: str, read_bytes: ReadBytes) -> PackedModule:
    parts = Parts(tensors, name)
    shape = parts.matrix("weight", ("I8",))
    if parts.has("weight_format"):
        told = tensors[f"{name}.weight_format"]
        if told.nbytes > MOST_STATE_BYTES or any(read_bytes(told.name)):
            parts.refuse("weight_format", "is not 0: only rows in a row are read")
    parts.take("SCB", ("F32",), (shape[0],))

    def read(loaded: Tensors) -> Codes:
        return Int8Codes(codes=loaded["weight"], scale=loaded["SCB"] / LARGEST)

    return parts.module(INT8_ROWS, shape, read)


def _table(
    tensors: Mapping[str, TensorEntry], name: str, table: str, read_bytes: ReadBytes
) -> PackedModule:
    parts = Parts(tensors, name)
    state = parts.take(STATE + table, ("U8",))
    if state.nbytes > MOST_STATE_BYTES:
        parts.refuse(STATE + table, f"is {state.nbytes} bytes long")
    values = parse_object(read_bytes(state.name), state.file, f"{state.name[:120]}")
    facts = Facts(state.file, values, prefix=f"{name}.")
    if facts.text("quant_type") != table:
        parts.refuse(STATE + table, f"says quant_type {facts.text('quant_type')[:20]!r}")
    shape = facts.integers("shape")
    if len(shape) != 2 or not all(0 < size < 1 << 31 for size in shape):
        parts.refuse(STATE + table, f"has shape {shape[:4]}, a matrix is expected")
    n, k = shape
    block = facts.integer("blocksize", minimum=2, maximum=1 << 16)
    packed = parts.take("weight", ("U8", "I8", "F16", "BF16", "F32"))
    if packed.nbytes * 2 != n * k or k % 2:
        parts.refuse("weight", f"is {packed.nbytes} bytes for {n} x {k} codes of 4 bits")
    blocks = -(-n * k // block)
    parts.take("weight.quant_map", ("F32",), (16,))
    nested = parts.has("weight.nested_absmax")
    parts.take("weight.absmax", ("U8",) if nested else ("F32",), (blocks,))
    offset = 0.0
    if nested:
        together = facts.integer("nested_blocksize", minimum=1)
        if together != SCALES_TOGETHER:
            raise UnsupportedModelError(
                state.file, f"nested_blocksize {together} is not supported", tensor=state.name
            )
        offset = facts.number("nested_offset")
        parts.take("weight.nested_absmax", ("F32",), (math.ceil(blocks / together),))
        parts.take("weight.nested_quant_map", ("F32",), (256,))

    def read(loaded: Tensors) -> Codes:
        codes = loaded["weight"].contiguous().view(torch.uint8).view(n, k // 2)
        scales: torch.Tensor | DoubleScales = loaded["weight.absmax"]
        if nested:
            scales = DoubleScales(
                codes=loaded["weight.absmax"],
                table=loaded["weight.nested_quant_map"],
                scale=loaded["weight.nested_absmax"],
                offset=offset,
            )
        return TableCodes(
            packed=swap_nibbles(codes),
            table=loaded["weight.quant_map"],
            scales=scales,
            block=block,
        )

    return parts.module(table_kind(table.upper(), k, block), (n, k), read)
