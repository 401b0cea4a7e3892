"""A model folder of a known shape, for starts from disk: all that a load looks at, few bytes.

Owns a config, a tokenizer as large as the vocabulary, safetensors of the true size whose data is a
hole until it is asked for, and random weights in the packed cache.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import struct
from pathlib import Path
from typing import Any

import torch

from quantchat import paths
from quantchat.bench.random_codes import RandomCodes
from quantchat.bench.random_model import random_source, shape_named
from quantchat.checkpoints.safetensors import INDEX, SINGLE
from quantchat.engine.loading import cache_used, plan_request
from quantchat.errors import UsageError
from quantchat.hardware.plan import plan as make_plan
from quantchat.hardware.probe import probe
from quantchat.model.families import open_model
from quantchat.model.hf_families import ARCHITECTURES, FamilyTraits
from quantchat.model.loader import load_decoder
from quantchat.model.names import tensor_names, tensor_shape
from quantchat.model.packed_cache import PackedCache
from quantchat.model.weights import WeightRecipe
from quantchat.ops.select import make_ops
from quantchat.requests import LoadRequest
from quantchat.spec import DecoderSpec, Llama3Scaling
from quantchat.tokenizer.pieces import BYTE_ALPHABET

ELEMENT_BYTES = 2
SHARD_BYTES = 5_000_000_000
"""As large as files of models on the hub are."""
FILL_BYTES = 1 << 26
DEVIATION = 0.02


def random_folder(shape: str) -> Path:
    """The folder of a shape, written where it is not there yet. Raises UsageError for its name."""
    spec = shape_named(shape)
    folder = paths.cache_dir() / "bench" / shape
    if not (folder / "config.json").is_file():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        _write_tensors(folder, spec)
        (folder / "tokenizer.json").write_text(json.dumps(_tokenizer(spec.vocab)))
        # Last, since it says that the folder is whole.
        (folder / "config.json").write_text(json.dumps(_config(spec)))
    return folder


def filled_folder(shape: str) -> Path:
    """The folder of a shape with random values in its files, the same few over and over."""
    folder = random_folder(shape)
    whole = folder / "filled"
    if whole.is_file():
        return folder
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(FILL_BYTES // ELEMENT_BYTES, generator=generator).mul_(DEVIATION)
    data = values.bfloat16().view(torch.uint8).numpy().data
    for path in sorted(folder.glob("*.safetensors")):
        modified_ns = path.stat().st_mtime_ns
        with path.open("r+b") as file:
            (header,) = struct.unpack("<Q", file.read(8))
            left = path.stat().st_size - file.seek(8 + header)
            while left:
                left -= file.write(data[: min(left, FILL_BYTES)])
        # What is packed of it stays known.
        os.utime(path, ns=(modified_ns, modified_ns))
    whole.touch()
    return folder


def fill_packed(shape: str, request: LoadRequest) -> None:
    """Put random codes into the packed cache for `request`, which names the shape's folder.

    Raises UsageError for a scheme whose weights are not kept there.
    """
    source = open_model(Path(request.model))
    try:
        plan = make_plan(probe(), source.spec, plan_request(request, source))
        if not cache_used(plan):
            raise UsageError(
                f"{plan.scheme.title} weights are not kept packed: there is nothing to start from",
                hint="choose int4 or int8, or a model on disk with --model",
            )
        identity = source.checkpoint.identity()
    finally:
        source.close()
    ops = make_ops(source.spec, plan)
    cache = PackedCache(paths.packed_dir(), identity, plan.scheme.name, plan.group_size)
    there = cache.open(ops.layout)
    if there is not None:
        there.close()
        return
    load_decoder(
        random_source(shape, source.spec),
        ops,
        WeightRecipe(
            scheme=plan.scheme, group_size=plan.group_size, dtype=ops.dtype, device=ops.device
        ),
        context_tokens=plan.context_tokens,
        cache=cache,
        made=RandomCodes(identity, plan.scheme, plan.group_size),
        on_progress=lambda phase, done, total: None,
        cancelled=lambda: False,
    )


def _traits(spec: DecoderSpec) -> FamilyTraits:
    return next(one for one in ARCHITECTURES.values() if one.name == spec.architecture)


def _write_tensors(folder: Path, spec: DecoderSpec) -> None:
    """Safetensors files with the headers of the whole model and no data on disk."""
    shards: list[dict[str, Any]] = [{}]
    end = 0
    for ours, name in tensor_names(spec, _traits(spec).naming).items():
        shape = tensor_shape(spec, ours)
        size = ELEMENT_BYTES * math.prod(shape)
        if end and end + size > SHARD_BYTES:
            shards.append({})
            end = 0
        offsets = [end, end + size]
        shards[-1][name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": offsets}
        end += size
    count = len(shards)
    names = [f"model-{i + 1:05d}-of-{count:05d}.safetensors" for i in range(count)]
    for header, file in zip(shards, names if count > 1 else [SINGLE], strict=True):
        _write_file(folder / file, header)
    if count > 1:
        places = {name: file for file, header in zip(names, shards, strict=True) for name in header}
        (folder / INDEX).write_text(json.dumps({"weight_map": places}))


def _write_file(path: Path, header: dict[str, Any]) -> None:
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    end = max(entry["data_offsets"][1] for entry in header.values())
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + end)


def _config(spec: DecoderSpec) -> dict[str, Any]:
    names = {traits.name: name for name, traits in ARCHITECTURES.items()}
    rope: dict[str, Any] = {"rope_type": "default", "rope_theta": spec.rope.theta}
    scaling = spec.rope.scaling
    if isinstance(scaling, Llama3Scaling):
        rope |= {
            "rope_type": "llama3",
            "factor": scaling.factor,
            "low_freq_factor": scaling.low_freq_factor,
            "high_freq_factor": scaling.high_freq_factor,
            "original_max_position_embeddings": scaling.original_context,
        }
    experts: dict[str, Any] = {}
    if spec.experts is not None:
        experts = {
            "num_experts": spec.experts.count,
            "num_experts_per_tok": spec.experts.active,
            "moe_intermediate_size": spec.experts.intermediate,
            "norm_topk_prob": spec.experts.renormalise,
        }
    return {
        "architectures": [names[spec.architecture]],
        "hidden_act": "silu",
        "hidden_size": spec.hidden,
        "num_hidden_layers": spec.layers,
        "num_attention_heads": spec.heads,
        "num_key_value_heads": spec.kv_heads,
        "head_dim": spec.head_dim,
        "intermediate_size": spec.intermediate,
        "vocab_size": spec.vocab,
        "max_position_embeddings": spec.context,
        "rms_norm_eps": spec.norm_eps,
        "tie_word_embeddings": spec.tied_head,
        "rope_parameters": rope,
        **experts,
    }


def _tokenizer(vocab: int) -> dict[str, Any]:
    """Byte-level BPE: a token for each byte, then made-up ones that no text becomes."""
    letters = sorted(BYTE_ALPHABET)
    pieces = list(letters)
    for number in range(vocab - len(letters)):
        high, low = divmod(number, len(letters) ** 2)
        second, third = divmod(low, len(letters))
        pieces.append(letters[high] + letters[second] + letters[third])
    step = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [],
        "normalizer": None,
        "pre_tokenizer": step,
        "post_processor": None,
        "decoder": step,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "vocab": {piece: number for number, piece in enumerate(pieces[:vocab])},
            "merges": [],
        },
    }
