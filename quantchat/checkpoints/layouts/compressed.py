"""compressed-tensors: integers packed or plain, 8-bit and 4-bit floats.

What a module is follows from its tensors; the config bounds what may be there. Inputs that a file
wants rounded stay as they are, which is closer to the model, never further.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

import torch

from quantchat.checkpoints.base import TensorEntry
from quantchat.checkpoints.facts import Facts
from quantchat.checkpoints.layouts.codes import Codes, GroupCodes, Int8Codes
from quantchat.checkpoints.layouts.floats import fp8_module, mxfp4_module, nvfp4_module
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
from quantchat.checkpoints.layouts.words import unpack_words, words_for
from quantchat.errors import UnsupportedModelError

PACKED = "pack-quantized"
FORMATS = (
    PACKED,
    "int-quantized",
    "float-quantized",
    "naive-quantized",
    "nvfp4-pack-quantized",
    "mxfp4-pack-quantized",
    "mixed-precision",
    "dense",
)
STRATEGIES = ("tensor", "channel", "group", "block", "tensor_group")
READ_BITS = (2, 4, 8)
CACHE_SCALES = (".k_scale", ".v_scale", ".k_zero_point", ".v_zero_point")
INPUT_SCALES = (".input_scale", ".input_zero_point", ".input_global_scale")

ReadBytes: TypeAlias = Callable[[str], bytes]


@dataclass(slots=True)
class _Asked:
    """What the config's groups say together."""

    bits: set[int] = field(default_factory=set)
    blocks: set[tuple[int, int]] = field(default_factory=set)
    rounds_inputs: bool = False


def compressed(facts: Facts, tensors: Mapping[str, TensorEntry], read_bytes: ReadBytes) -> Layout:
    """Every module with a weight and a scale; `facts` is the quantization config."""
    word = facts.text("format")
    if word not in FORMATS:
        raise UnsupportedModelError(
            facts.path,
            f"{facts.prefix}format {word[:40]!r} is not supported",
            hint=f"readable: {', '.join(FORMATS)}",
        )
    _refuse_extras(facts)
    asked = _asked(facts)
    modules = []
    for name in owners(tensors, "weight_packed"):
        parts = Parts(tensors, name)
        if parts.has("weight_global_scale"):
            modules.append(nvfp4_module(parts))
        elif not parts.has("weight_shape"):
            modules.append(mxfp4_module(parts))
        else:
            modules.append(_packed(parts, asked, read_bytes))
    for name in owners(tensors, "weight"):
        entry = tensors[f"{name}.weight"]
        if entry.dtype == "F8_E4M3":
            parts = Parts(tensors, name)
            modules.append(fp8_module(parts, "weight_scale", asked.blocks))
        elif entry.dtype == "I8":
            modules.append(_int8(Parts(tensors, name)))
    notes = []
    if asked.rounds_inputs:
        notes.append("inputs of linears stay in 16 bits, where the file's writer rounded them")
    if facts.get("kv_cache_scheme") is not None:
        notes.append("the file's scales of an 8-bit KV cache are not used")
    other = tuple(name for name in tensors if name.endswith((*CACHE_SCALES, *INPUT_SCALES)))
    return Layout(modules=tuple(modules), other=other, notes=tuple(notes))


def _refuse_extras(facts: Facts) -> None:
    sparsity = facts.optional_section("sparsity_config")
    if sparsity and sparsity.text("format", default="dense") != "dense":
        raise UnsupportedModelError(
            facts.path,
            f"{sparsity.prefix}format {sparsity.text('format')[:40]!r} is not supported",
        )
    transforms = facts.optional_section("transform_config")
    groups = None if transforms is None else transforms.optional_section("config_groups")
    if groups:
        raise UnsupportedModelError(
            facts.path, f"{facts.prefix}transform_config: rotated inputs are not supported"
        )


def _asked(facts: Facts) -> _Asked:
    asked = _Asked()
    groups = facts.section("config_groups")
    for key in groups:
        group = groups.section(key)
        weights = group.optional_section("weights")
        if weights is None:
            continue
        bits, kind = weights.integer("num_bits"), weights.text("type", default="int")
        readable = bits in READ_BITS if kind == "int" else kind == "float" and bits in (4, 8)
        if not readable:
            raise UnsupportedModelError(
                facts.path, f"{weights.prefix}num_bits {bits} of {kind[:20]} is not supported"
            )
        strategy = weights.text("strategy", default="tensor")
        if strategy not in STRATEGIES:
            raise UnsupportedModelError(
                facts.path, f"{weights.prefix}strategy {strategy[:40]!r} is not supported"
            )
        block = weights.optional_integers("block_structure")
        if strategy == "block" and block is not None:
            if len(block) != 2 or min(block) < 1:
                raise UnsupportedModelError(
                    facts.path, f"{weights.prefix}block_structure {block[:4]} is not supported"
                )
            asked.blocks.add((block[0], block[1]))
        asked.bits.add(bits)
        asked.rounds_inputs |= group.get("input_activations") is not None
    return asked


def _packed(parts: Parts, asked: _Asked, read_bytes: ReadBytes) -> PackedModule:
    n, words = parts.matrix("weight_packed", ("I32",))
    told = parts.take("weight_shape", ("I64", "I32"), (2,))
    width = told.nbytes // 2
    raw = read_bytes(told.name)
    rows, k = (int.from_bytes(raw[i * width : (i + 1) * width], "little") for i in (0, 1))
    fits = [bits for bits in sorted(asked.bits) if words_for(k, bits) == words]
    if rows != n or not k or len(fits) != 1:
        parts.refuse("weight_shape", f"says {rows} x {k}, which {n} x {words} words do not hold")
    bits = fits[0]
    scales = parts.matrix("weight_scale", FLOATS)
    groups = scales[1]
    if scales[0] != n or k % groups:
        parts.refuse("weight_scale", f"has shape {scales} for {n} x {k}")
    size = k // groups
    zeros = parts.has("weight_zero_point")
    if zeros:
        parts.take("weight_zero_point", ("I32",), (words_for(n, bits), groups))
    ordered = parts.has("weight_g_idx") and groups > 1
    if ordered:
        parts.take("weight_g_idx", ("I32", "I64"), (k,))
    kind = group_kind(bits, k, size)
    if ordered:
        kind = ordered_kind(bits, k, size)
    elif kind == INT8_ROWS and zeros:
        kind = INT8_GROUPS

    def read(loaded: Tensors) -> Codes:
        codes = unpack_words(loaded["weight_packed"], bits)[:, :k].contiguous()
        scale = loaded["weight_scale"]
        if kind == INT8_ROWS:
            return Int8Codes(codes=(codes ^ 128).view(torch.int8), scale=scale[:, 0].float())
        if zeros:
            zero = unpack_words(loaded["weight_zero_point"].t(), bits)[:, :n].t().contiguous()
        else:
            zero = torch.full_like(scale, 2 ** (bits - 1), dtype=torch.uint8)
        index = None
        if ordered:
            index = checked_groups(parts, "weight_g_idx", loaded["weight_g_idx"], groups)
            index = None if in_a_row(index, size) else index
        return GroupCodes(
            codes=codes, scale=scale, zero=zero, group_size=size, bits=bits, groups=index
        )

    return parts.module(kind, (n, k), read)


def _int8(parts: Parts) -> PackedModule:
    n, k = parts.matrix("weight", ("I8",))
    scales = parts.take("weight_scale", FLOATS)
    shape = scales.shape
    whole = shape in ((), (1,), (1, 1))
    groups = 1 if whole or len(shape) == 1 else shape[-1]
    if not whole and (shape not in ((n,), (n, groups)) or k % max(groups, 1)):
        parts.refuse("weight_scale", f"has shape {shape} for {n} x {k}")
    size = k // groups
    zeros = parts.has("weight_zero_point")
    if zeros:
        parts.take("weight_zero_point", ("I8",), shape)
    kind = INT8_GROUPS if zeros or groups > 1 else INT8_ROWS

    def spread(values: torch.Tensor) -> torch.Tensor:
        return values.reshape(1, 1).expand(n, 1) if whole else values.reshape(n, groups)

    def read(loaded: Tensors) -> Codes:
        scale = spread(loaded["weight_scale"]).contiguous()
        if kind == INT8_ROWS:
            return Int8Codes(codes=loaded["weight"], scale=scale[:, 0].float())
        zero = torch.full_like(scale, 128, dtype=torch.uint8)
        if zeros:
            zero = spread(loaded["weight_zero_point"]).contiguous().view(torch.uint8) ^ 128
        codes = loaded["weight"].view(torch.uint8) ^ 128
        return GroupCodes(codes=codes, scale=scale, zero=zero, group_size=size, bits=8)

    return parts.module(kind, (n, k), read)
