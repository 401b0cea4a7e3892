"""GPTQ's layout, v1 and v2: codes packed along the inputs, zero points along the outputs.

v1 stores a zero point less one, which wraps; v2 stores it as it is.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

from quantchat.checkpoints.base import TensorEntry
from quantchat.checkpoints.facts import Facts
from quantchat.checkpoints.layouts.codes import Codes, GroupCodes, Int8Codes
from quantchat.checkpoints.layouts.kinds import (
    INT8_GROUPS,
    INT8_ROWS,
    group_kind,
    ordered_kind,
)
from quantchat.checkpoints.layouts.module import (
    FLOATS,
    Layout,
    PackedModule,
    Parts,
    Tensors,
    checked_groups,
    in_a_row,
    owners,
)
from quantchat.checkpoints.layouts.words import PACKED_BITS, unpack_words, words_for
from quantchat.errors import UnsupportedModelError

FORMATS = {"gptq": 1, "gptq_v2": 0}
"""checkpoint_format -> what stored zero points lack."""


def gptq(facts: Facts, tensors: Mapping[str, TensorEntry]) -> Layout:
    """Every module with a `qweight`; `facts` is the quantization config."""
    bits = facts.integer("bits")
    if bits not in PACKED_BITS:
        raise UnsupportedModelError(
            facts.path,
            f"{facts.prefix}bits {bits} is not supported",
            hint=f"readable: {', '.join(map(str, PACKED_BITS))}",
        )
    word = facts.text("checkpoint_format", default="gptq")
    if word not in FORMATS:
        raise UnsupportedModelError(
            facts.path,
            f"{facts.prefix}checkpoint_format {word[:40]!r} is not supported",
            hint=f"readable: {', '.join(FORMATS)}",
        )
    if facts.get("dynamic") or facts.flag("is_marlin_format", default=False):
        key = "dynamic" if facts.get("dynamic") else "is_marlin_format"
        raise UnsupportedModelError(facts.path, f"{facts.prefix}{key} is not supported")
    group = facts.integer("group_size", default=128, minimum=-1)
    order = facts.flag("desc_act", default=False) or facts.flag("static_groups", default=False)
    symmetric = facts.flag("sym", default=False)
    found = (
        _module(tensors, name, bits, group, missing=FORMATS[word], order=order, symmetric=symmetric)
        for name in owners(tensors, "qweight")
    )
    return Layout(modules=tuple(found))


def _module(
    tensors: Mapping[str, TensorEntry],
    name: str,
    bits: int,
    group: int,
    *,
    missing: int,
    order: bool,
    symmetric: bool,
) -> PackedModule:
    parts = Parts(tensors, name)
    words, n = parts.matrix("qweight", ("I32",))
    if words * 32 % bits or (bits == 3 and words % 3):
        parts.refuse("qweight", f"has {words} words a row, no whole number of {bits}-bit codes")
    k = words * 32 // bits
    size = k if group <= 0 else min(group, k)
    groups = -(-k // size)
    parts.take("scales", FLOATS, (groups, n))
    parts.take("qzeros", ("I32",), (groups, words_for(n, bits)))
    if parts.has("g_idx") or order or k % size:
        parts.take("g_idx", ("I32", "I64"), (k,))
    kind = group_kind(bits, k, size)
    if groups > 1 and (order or k % size):
        kind = ordered_kind(bits, k, size)
    elif kind == INT8_ROWS and not symmetric:
        kind = INT8_GROUPS

    def read(loaded: Tensors) -> Codes:
        codes = unpack_words(loaded["qweight"].t(), bits)
        zero = unpack_words(loaded["qzeros"], bits)[:, :n].t().contiguous()
        zero = (zero + missing) & (2**bits - 1)
        scale = loaded["scales"].t().contiguous()
        if kind == INT8_ROWS and bool((zero == 128).all()):
            return Int8Codes(codes=(codes ^ 128).view(torch.int8), scale=scale[:, 0].float())
        index = None
        if "g_idx" in loaded and groups > 1:
            index = checked_groups(parts, "g_idx", loaded["g_idx"], groups)
            if k % size == 0 and in_a_row(index, size):
                index = None
        return GroupCodes(
            codes=codes, scale=scale, zero=zero, group_size=size, bits=bits, groups=index
        )

    return parts.module(kind, (n, k), read)
