"""SqueezeLLM's layout: codes packed along the inputs, a table for each output, a sparse rest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch

from quantchat.checkpoints.base import TensorEntry
from quantchat.checkpoints.facts import Facts
from quantchat.checkpoints.layouts.codes import Codes, LutCodes
from quantchat.checkpoints.layouts.kinds import LUT
from quantchat.checkpoints.layouts.module import (
    FLOATS,
    Layout,
    PackedModule,
    Parts,
    Tensors,
    owners,
)
from quantchat.checkpoints.layouts.words import unpack_words
from quantchat.errors import UnsupportedModelError

Bits = Literal[3, 4]
BITS: Mapping[int, Bits] = {3: 3, 4: 4}
BALANCE = ".startrows"
"""Where threads begin: of use to the writer's kernel alone."""


def squeezellm(facts: Facts, tensors: Mapping[str, TensorEntry]) -> Layout:
    """Every module with a `lookup_table`; `facts` is the quantization config."""
    asked = facts.integer("wbits")
    bits = BITS.get(asked)
    if bits is None:
        raise UnsupportedModelError(facts.path, f"{facts.prefix}wbits {asked} is not supported")
    found = tuple(_module(Parts(tensors, name), bits) for name in owners(tensors, "lookup_table"))
    other = tuple(
        name for name in tensors if name.endswith(BALANCE) or name.startswith("sparse_threshold.")
    )
    return Layout(modules=found, other=other)


def _module(parts: Parts, bits: Bits) -> PackedModule:
    words, n = parts.matrix("qweight", ("I32",))
    if bits == 3 and words % 3:
        parts.refuse("qweight", f"has {words} words a row, no whole number of 3-bit codes")
    k = words * 32 // bits
    parts.take("lookup_table", FLOATS, (n, 2**bits))
    if parts.has("full_rows"):
        parts.refuse("full_rows", "rows kept whole are not supported")
    sparse = parts.has("rows")
    if sparse:
        parts.take("rows", ("I32",), (n + 1,))
        entries = parts.take("cols", ("I32",)).shape
        if len(entries) != 1:
            parts.refuse("cols", f"has shape {entries}, a list is expected")
        parts.take("vals", FLOATS, entries)

    def read(loaded: Tensors) -> Codes:
        codes = unpack_words(loaded["qweight"].t(), bits)
        table = loaded["lookup_table"]
        if not sparse:
            return LutCodes(codes=codes, table=table, bits=bits)
        starts, columns = _checked(parts, loaded["rows"], loaded["cols"], k)
        return LutCodes(
            codes=codes,
            table=table,
            bits=bits,
            starts=starts,
            columns=columns,
            values=loaded["vals"],
        )

    return parts.module(LUT[bits], (n, k), read)


def _checked(
    parts: Parts, starts: torch.Tensor, columns: torch.Tensor, k: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows' starts and columns, known to lie in the matrix in ascending order."""
    counts = starts[1:].long() - starts[:-1].long()
    whole = int(starts[0]) == 0 and int(starts[-1]) == len(columns) and int(counts.min()) >= 0
    if not whole:
        parts.refuse("rows", f"does not part {len(columns)} entries into rows")
    if len(columns) and (int(columns.min()) < 0 or int(columns.max()) >= k):
        parts.refuse("cols", f"names inputs beyond the {k} that there are")
    row = torch.repeat_interleave(torch.arange(len(counts), device=counts.device), counts)
    flat = row * k + columns
    if bool((flat[1:] <= flat[:-1]).any()):
        parts.refuse("cols", "does not ascend within a row")
    return starts, columns
