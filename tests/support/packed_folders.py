"""Quantized folders as their writers lay them out, packed by formula, and dense twins of them.

Owns the cases and the writing; how weights are packed is `packers`'. The twin holds the very values
that the codes stand for.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import factory
import torch
from packers import (
    Packed,
    pack_awq,
    pack_bnb,
    pack_bnb_int8,
    pack_compressed,
    pack_fp8,
    pack_gptq,
    pack_int8,
    pack_mxfp4,
    pack_nvfp4,
    pack_qserve,
    pack_squeezellm,
)
from safetensors.torch import load_file, save_file


@dataclass(frozen=True, slots=True)
class LayoutCase:
    """A layout under test."""

    config: dict[str, Any]
    pack: Callable[[torch.Tensor], Packed]
    kind: str
    """What the folder must call it."""
    settings: dict[str, Any] = field(default_factory=dict)
    """Of the model."""


DENSE = (
    *("embed", "wte", "lm_head", "output.weight", "norm", "ln_", ".gate.weight"),
    "shared_expert_gate",
)
"""In the names of what no layout packs: tables, norms, routers."""


def write_packed(
    folder: Path, case: LayoutCase, *, family: str = "llama", shards: int = 1, **settings: Any
) -> tuple[Path, Path]:
    """(quantized folder, dense twin) of the factory's weights, head and embedding left dense."""
    packed, twin = folder / "packed", folder / "twin"
    fields = {"intermediate_size": 128, **case.settings, **settings}
    if family.startswith("falcon"):
        del fields["intermediate_size"]
    config, weights = _weights(family, json.dumps(fields))
    for path in (packed, twin):
        path.mkdir(parents=True)
        (path / "config.json").write_text(config)
    tensors = dict(weights)
    made: dict[str, torch.Tensor] = {}
    for name, values in tensors.items():
        if values.dim() == 2 and not any(part in name for part in DENSE):
            parts, dense = case.pack(values)
            stem = name.removesuffix(".weight")
            made |= {f"{stem}.{suffix}": part.contiguous() for suffix, part in parts.items()}
            tensors[name] = dense.contiguous()
        else:
            made[name] = values
    save_file(tensors, twin / "model.safetensors", metadata={"format": "pt"})
    save_file(made, packed / "model.safetensors", metadata={"format": "pt"})
    change_config(packed, quantization_config=case.config)
    if shards > 1:
        factory.split(packed, shards)
    return packed, twin


@cache
def _weights(family: str, fields: str) -> tuple[str, dict[str, torch.Tensor]]:
    """config.json and tensors of the factory's folder; made once, never changed."""
    with tempfile.TemporaryDirectory() as place:
        folder = factory.write_hf(Path(place), family, tokenizer=False, **json.loads(fields))
        return (folder / "config.json").read_text(), load_file(folder / "model.safetensors")


def change_config(folder: Path, **changes: Any) -> None:
    """Set keys of a folder's config.json."""
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def _ct(format_: str, weights: dict[str, Any], inputs: Any = None) -> dict[str, Any]:
    group = {"targets": ["Linear"], "weights": weights, "input_activations": inputs}
    return {
        "quant_method": "compressed-tensors",
        "format": format_,
        "quantization_status": "compressed",
        "config_groups": {"group_0": group},
        "ignore": ["lm_head"],
        "kv_cache_scheme": None,
    }


def _int(bits: int, strategy: str, *, symmetric: bool = True) -> dict[str, Any]:
    return {"num_bits": bits, "type": "int", "symmetric": symmetric, "strategy": strategy}


def _gptq(bits: int = 4, **more: Any) -> dict[str, Any]:
    fields = {"quant_method": "gptq", "bits": bits, "group_size": 32, "desc_act": False}
    return {**fields, "sym": False, **more}


_AWQ = {"quant_method": "awq", "bits": 4, "group_size": 32, "zero_point": True, "version": "gemm"}
_BNB4 = {"quant_method": "bitsandbytes", "load_in_4bit": True, "load_in_8bit": False}
_FP8 = {"num_bits": 8, "type": "float", "symmetric": True}
_DYNAMIC = {"num_bits": 8, "type": "int", "strategy": "token", "dynamic": True}

EXACT: dict[str, LayoutCase] = {
    "awq": LayoutCase(_AWQ, pack_awq, "INT4-GROUPS"),
    "awq, one group": LayoutCase(
        {**_AWQ, "group_size": -1}, lambda w: pack_awq(w, -1), "INT4-GROUPS"
    ),
    "gptq v1": LayoutCase(_gptq(), pack_gptq, "INT4-GROUPS"),
    "gptq v1 symmetric, no g_idx": LayoutCase(
        _gptq(sym=True), lambda w: pack_gptq(w, symmetric=True, indexed=False), "INT4-GROUPS"
    ),
    "gptq v2": LayoutCase(
        _gptq(checkpoint_format="gptq_v2"), lambda w: pack_gptq(w, v1=False), "INT4-GROUPS"
    ),
    "gptq 2 bits": LayoutCase(_gptq(2), lambda w: pack_gptq(w, 2), "INT2-GROUPS"),
    "gptq 3 bits": LayoutCase(_gptq(3), lambda w: pack_gptq(w, 3), "INT3-GROUPS"),
    "gptq act-order": LayoutCase(
        _gptq(desc_act=True), lambda w: pack_gptq(w, shuffled=True), "INT4-ACT-ORDER"
    ),
    "gptq act-order 3 bits": LayoutCase(
        _gptq(3, desc_act=True), lambda w: pack_gptq(w, 3, shuffled=True), "INT3-ACT-ORDER"
    ),
    "gptq 8 bits by rows": LayoutCase(
        _gptq(8, group_size=-1, sym=True),
        lambda w: pack_gptq(w, 8, -1, symmetric=True),
        "INT8-ROWS",
    ),
    "bnb nf4": LayoutCase(_BNB4, pack_bnb, "NF4"),
    "bnb nf4 nested": LayoutCase(_BNB4, lambda w: pack_bnb(w, nested=True), "NF4"),
    "bnb fp4": LayoutCase(_BNB4, lambda w: pack_bnb(w, "fp4"), "FP4"),
    "bnb int8": LayoutCase(
        {"quant_method": "bitsandbytes", "load_in_8bit": True}, pack_bnb_int8, "INT8-ROWS"
    ),
    "ct w4a16 groups": LayoutCase(
        _ct("pack-quantized", _int(4, "group")), pack_compressed, "INT4-GROUPS"
    ),
    "ct w4a16 asymmetric": LayoutCase(
        _ct("pack-quantized", _int(4, "group", symmetric=False)),
        lambda w: pack_compressed(w, symmetric=False),
        "INT4-GROUPS",
    ),
    "ct act-order": LayoutCase(
        _ct("pack-quantized", {**_int(4, "group"), "actorder": "group"}),
        lambda w: pack_compressed(w, shuffled=True),
        "INT4-ACT-ORDER",
    ),
    "ct w4a16 by channel": LayoutCase(
        _ct("pack-quantized", _int(4, "channel")),
        lambda w: pack_compressed(w, 4, -1),
        "INT4-GROUPS",
    ),
    "ct w8a16 by channel": LayoutCase(
        _ct("pack-quantized", _int(8, "channel")), lambda w: pack_compressed(w, 8, -1), "INT8-ROWS"
    ),
    "ct w8a8": LayoutCase(
        _ct("int-quantized", _int(8, "channel"), _DYNAMIC), pack_int8, "INT8-ROWS"
    ),
    "ct w8a8 static": LayoutCase(
        _ct("int-quantized", _int(8, "channel"), _DYNAMIC),
        lambda w: pack_int8(w, static=True),
        "INT8-ROWS",
    ),
    "ct fp8 by channel": LayoutCase(
        _ct("float-quantized", {**_FP8, "strategy": "channel"}, _DYNAMIC), pack_fp8, "FP8-ROWS"
    ),
    "ct fp8 by tensor": LayoutCase(
        _ct("float-quantized", {**_FP8, "strategy": "tensor"}, _DYNAMIC),
        lambda w: pack_fp8(w, whole=True),
        "FP8-ROWS",
    ),
    "fbgemm fp8": LayoutCase({"quant_method": "fbgemm_fp8"}, pack_fp8, "FP8-ROWS"),
    "hf fp8 by tensor": LayoutCase(
        {"quant_method": "fp8", "activation_scheme": "dynamic", "weight_block_size": None},
        lambda w: pack_fp8(w, whole=True, name="weight_scale_inv"),
        "FP8-ROWS",
    ),
    "ct mxfp4": LayoutCase(
        _ct("mxfp4-pack-quantized", {**_FP8, "num_bits": 4, "strategy": "group"}),
        pack_mxfp4,
        "MXFP4",
    ),
    "ct nvfp4": LayoutCase(
        _ct("nvfp4-pack-quantized", {**_FP8, "num_bits": 4, "strategy": "tensor_group"}),
        pack_nvfp4,
        "NVFP4",
    ),
    "qserve by rows": LayoutCase(
        {"quant_method": "qoq", "wbits": 4, "group_size": -1},
        lambda w: pack_qserve(w, steps=False),
        "INT4-GROUPS",
    ),
    "qserve g128": LayoutCase(
        {"quant_method": "qoq", "wbits": 4, "group_size": 128},
        lambda w: pack_qserve(w, steps=True),
        "QOQ-INT4",
        {"hidden_size": 128, "head_dim": 32},
    ),
    "squeezellm": LayoutCase({"quant_method": "squeezellm", "wbits": 4}, pack_squeezellm, "LUT4"),
    "squeezellm 3 bits": LayoutCase(
        {"quant_method": "squeezellm", "wbits": 3},
        lambda w: pack_squeezellm(w, 3, sparse=False),
        "LUT3",
    ),
}
"""A stored format holds the file's values."""

ROUNDED: dict[str, LayoutCase] = {
    "awq, groups of 16": LayoutCase(
        {**_AWQ, "group_size": 16}, lambda w: pack_awq(w, 16), "ODD-GROUPS"
    ),
    "gptq act-order, groups of 16": LayoutCase(
        _gptq(desc_act=True, group_size=16),
        lambda w: pack_gptq(w, 4, 16, shuffled=True),
        "ACT-ORDER",
    ),
    "gptq 8 bits": LayoutCase(_gptq(8), lambda w: pack_gptq(w, 8), "INT8-GROUPS"),
    "bnb nf4, blocks across rows": LayoutCase(
        _BNB4, pack_bnb, "ODD-BLOCKS", {"hidden_size": 96, "intermediate_size": 96, "head_dim": 16}
    ),
    "ct fp8 by block": LayoutCase(
        _ct("float-quantized", {**_FP8, "strategy": "block", "block_structure": [48, 40]}),
        lambda w: pack_fp8(w, (48, 40)),
        "FP8-BLOCKS",
    ),
    "hf fp8 by block": LayoutCase(
        {
            "quant_method": "fp8",
            "activation_scheme": "dynamic",
            "weight_block_size": [48, 40],
            "modules_to_not_convert": ["lm_head"],
        },
        lambda w: pack_fp8(w, (48, 40), name="weight_scale_inv"),
        "FP8-BLOCKS",
    ),
}
"""No stored format does: int8 rows, with the error told."""
