"""AutoAWQ's GEMM layout: 4-bit codes packed along the outputs, zero points stored as they are."""

from __future__ import annotations

from collections.abc import Mapping

from quantchat.checkpoints.base import TensorEntry
from quantchat.checkpoints.facts import Facts
from quantchat.checkpoints.layouts.codes import Codes, GroupCodes
from quantchat.checkpoints.layouts.kinds import group_kind
from quantchat.checkpoints.layouts.module import FLOATS, Layout, PackedModule, Parts, owners
from quantchat.checkpoints.layouts.module import Tensors as Tensors
from quantchat.checkpoints.layouts.words import unpack_awq
from quantchat.errors import UnsupportedModelError


def awq(facts: Facts, tensors: Mapping[str, TensorEntry]) -> Layout:
    """Every module with a `qweight`; `facts` is the quantization config."""
    bits = facts.integer("bits", default=facts.optional_integer("w_bit") or 4)
    if bits != 4:
        raise UnsupportedModelError(facts.path, f"{facts.prefix}bits {bits}: AWQ packs 4 bits")
    version = (facts.optional_text("version") or facts.optional_text("format") or "gemm").lower()
    if version != "gemm":
        raise UnsupportedModelError(
            facts.path,
            f"{facts.prefix}version {version[:40]!r} is not supported",
            hint="only AWQ's GEMM layout is read",
        )
    group = facts.optional_integer("group_size", minimum=-1)
    if group is None:
        group = facts.integer("q_group_size", default=128, minimum=-1)
    zeros = facts.flag("zero_point", default=True)
    found = (_module(tensors, name, group, zeros=zeros) for name in owners(tensors, "qweight"))
    return Layout(modules=tuple(found))


def _module(
    tensors: Mapping[str, TensorEntry], name: str, group: int, *, zeros: bool
) -> PackedModule:
    parts = Parts(tensors, name)
    k, words = parts.matrix("qweight", ("I32",))
    n = words * 8
    size = k if group <= 0 else group
    if k % size:
        parts.refuse("qweight", f"has {k} inputs, which groups of {size} do not divide")
    parts.take("scales", FLOATS, (k // size, n))
    if zeros or parts.has("qzeros"):
        parts.take("qzeros", ("I32",), (k // size, words))

    def read(loaded: Tensors) -> Codes:
        scale = loaded["scales"].t().contiguous()
        if "qzeros" in loaded:
            zero = unpack_awq(loaded["qzeros"]).t().contiguous()
        else:
            zero = scale.new_full(scale.shape, 8).byte()
        codes = unpack_awq(loaded["qweight"]).t().contiguous()
        return GroupCodes(codes=codes, scale=scale, zero=zero, group_size=size, bits=4)

    return parts.module(group_kind(4, k, size), (n, k), read)
