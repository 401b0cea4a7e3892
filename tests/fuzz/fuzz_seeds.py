"""Sound tiny models to be damaged: folders of every family and layout, GGUF files, tokenizers.

Owns literal tables and random weights. Nothing here loads transformers; what a family's files must
hold is asked from its reader, since only damage is under test.
"""

from __future__ import annotations

import base64
import functools
import json
import struct
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeAlias, cast

import factory
import numpy as np
import raw_gguf
import tiny_tokenizer
import tokenizer_files
import torch
from fuzz_gguf import Gguf, parse
from packed_folders import EXACT, ROUNDED, LayoutCase

from quantchat.checkpoints.base import TensorEntry
from quantchat.checkpoints.facts import Facts
from quantchat.checkpoints.gguf import GgufFile
from quantchat.model.config_gguf import gguf_naming, spec_from_gguf
from quantchat.model.config_hf import hf_traits, spec_from_config
from quantchat.model.names import rows_of, tensor_names, tensor_shape
from quantchat.model.naming import FALCON_TWO_NORMS, Naming
from quantchat.spec import DecoderSpec
from quantchat.tokenizer import from_gguf

Files: TypeAlias = dict[str, bytes]
"""Path in the model's folder -> content."""
Shapes: TypeAlias = dict[str, tuple[int, ...]]

TYPES = {"float16": "F16", "float32": "F32", "bfloat16": "BF16", "int32": "I32", "int64": "I64"} | {
    "uint8": "U8",
    "int8": "I8",
    "float8_e4m3fn": "F8_E4M3",
}
VOCAB = 40


def safetensors(tensors: dict[str, torch.Tensor]) -> bytes:
    """One file."""
    table: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    data = b""
    for name, tensor in tensors.items():
        raw = tensor.contiguous().view(-1).view(torch.uint8).numpy().tobytes()
        table[name] = {
            "dtype": TYPES[str(tensor.dtype).removeprefix("torch.")],
            "shape": list(tensor.shape),
            "data_offsets": [len(data), len(data) + len(raw)],
        }
        data += raw
    return with_header(json.dumps(table).encode(), data)


def with_header(header: bytes, data: bytes, *, claimed: int | None = None) -> bytes:
    """The bytes of a safetensors file from its two parts."""
    return (
        struct.pack("<Q", (len(header) if claimed is None else claimed) & 2**64 - 1) + header + data
    )


def config_of(family: str, **changes: Any) -> dict[str, Any]:
    """What config.json of a tiny model of a family of the factory says."""
    stem, settings = {**factory.SETTINGS, **factory.MORE_SETTINGS}[family]
    fields = {**factory.BASE, "vocab_size": VOCAB, **settings, **changes}
    table = {key: value for key, value in fields.items() if value is not ... and value is not None}
    word = "InternLM2" if family == "internlm2" else stem
    defaults = {"hidden_act": "silu", "hidden_activation": "gelu_pytorch_tanh", "bias": False}
    if word == "Phi":
        defaults["hidden_act"] = "gelu_new"
    return {"architectures": [f"{word}ForCausalLM"], **defaults, **table}


def hf_folder(config: dict[str, Any]) -> tuple[DecoderSpec, dict[str, torch.Tensor]]:
    """The spec and random tensors of a config."""
    facts = Facts(Path("config.json"), json.loads(json.dumps(config)))
    traits = hf_traits(facts)
    spec = spec_from_config(facts, has_head=True)
    naming = traits.naming
    if traits.name == "falcon" and spec.placement == "parallel_two":
        naming = FALCON_TWO_NORMS
    random = torch.Generator().manual_seed(1)
    tensors = {
        name: torch.randn(shape, generator=random).half()
        for name, shape in _shapes(spec, naming).items()
    }
    return spec, tensors


@functools.cache
def family(name: str) -> Files:
    """config.json and model.safetensors of a family."""
    config = config_of(name)
    _, tensors = hf_folder(config)
    return {"config.json": json.dumps(config).encode(), "model.safetensors": safetensors(tensors)}


@functools.cache
def shards() -> Files:
    """A folder with an index and three shards."""
    config = config_of("llama", num_hidden_layers=1)
    _, tensors = hf_folder(config)
    files = {"config.json": json.dumps(config).encode()}
    weight_map = {}
    for n in range(3):
        shard = f"model-{n + 1:05d}-of-00003.safetensors"
        part = {name: tensors[name] for name in sorted(tensors)[n::3]}
        files[shard] = safetensors(part)
        weight_map.update(dict.fromkeys(part, shard))
    index = {"metadata": {"total_size": 1}, "weight_map": weight_map}
    return files | {"model.safetensors.index.json": json.dumps(index).encode()}


@functools.cache
def layout(name: str) -> Files:
    """A quantized folder of one layer."""
    case: LayoutCase = {**EXACT, **ROUNDED}[name]
    settings = {"num_hidden_layers": 1, "intermediate_size": 128, **case.settings}
    config = config_of("llama", **settings)
    _, tensors = hf_folder(config)
    made: dict[str, torch.Tensor] = {}
    for key, values in tensors.items():
        if key.endswith("proj.weight"):
            parts, _ = case.pack(values.float())
            stem = key.removesuffix(".weight")
            made |= {f"{stem}.{suffix}": part for suffix, part in parts.items()}
        else:
            made[key] = values
    config |= {"quantization_config": case.config}
    return {"config.json": json.dumps(config).encode(), "model.safetensors": safetensors(made)}


_METASPACE = {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "first"}
LAYOUTS = (*EXACT, *ROUNDED)
FAMILIES = (*factory.SETTINGS, *factory.MORE_SETTINGS)

_FUSED = {"blk.0.attn_qkv.weight": (64, 32)}
_MOE = {"expert_count": 3, "expert_used_count": 2, "expert_feed_forward_length": 32}
ARCHITECTURES: dict[str, tuple[dict[str, Any], Shapes]] = {
    "gemma2": ({"attention.sliding_window": 16, "attn_logit_softcapping": 4.0}, {}),
    "gemma3": ({"attention.sliding_window": 16, "rope.scaling.type": "linear"}, {}),
    "phi3": (
        {"rope.scaling.original_context_length": 64},
        {"rope_factors_long.weight": (8,), "rope_factors_short.weight": (8,), **_FUSED},
    ),
    "falcon": ({}, _FUSED),
    "olmo2": ({"rope.scaling.type": "yarn", "rope.scaling.original_context_length": 32}, {}),
    "granite": ({"logit_scale": 2.0, "attention.scale": 0.5, "residual_scale": 0.5}, {}),
    "smollm3": ({}, {}),
    "qwen2moe": (
        {**_MOE, "expert_shared_feed_forward_length": 32},
        {
            **{f"blk.{i}.ffn_gate_inp.weight": (3, 32) for i in range(2)},
            "blk.0.ffn_up_shexp.weight": (32, 32),
        },
    ),
    "llama": ({}, {"rope_freqs.weight": (8,)}),
}
"""Architecture word -> keys and tensors beside those that all have."""


@functools.cache
def architecture(word: str) -> Gguf:
    """A GGUF file of two layers without a tokenizer."""
    special, extra = ARCHITECTURES[word]
    keys: dict[str, Any] = {
        "embedding_length": 32,
        "attention.head_count": 2,
        "attention.head_count_kv": 1,
        "attention.key_length": 16,
        "block_count": 2,
        "context_length": 128,
        "feed_forward_length": 32,
        "attention.layer_norm_rms_epsilon": 1e-5,
        "attention.layer_norm_epsilon": 1e-5,
        "rope.freq_base": 1e4,
        "rope.scaling.factor": 1.0 if word == "llama" else 4.0,
        **special,
    }
    facts = Facts(
        Path("m.gguf"),
        {"general.architecture": word, **{f"{word}.{key}": value for key, value in keys.items()}},
    )
    shapes: Shapes = {"token_embd.weight": (VOCAB, 32), "output.weight": (VOCAB, 32), **extra}
    fake = cast(
        GgufFile,
        SimpleNamespace(
            path=facts.path,
            metadata=facts,
            tensors={name: _entry(name, shape) for name, shape in shapes.items()},
            dense=lambda name: torch.ones(shapes[name]),
        ),
    )
    naming, spec = gguf_naming(fake), spec_from_gguf(fake)
    shapes |= _shapes(spec, naming)
    random = np.random.default_rng(3)
    tensors, data = [], b""
    for name, shape in shapes.items():
        values = 1 + random.random(shape, dtype=np.float32)
        tensors.append(raw_gguf.tensor(name, list(reversed(shape)), offset=len(data)))
        data += values.tobytes().ljust(-(-values.nbytes // 32) * 32, b"\0")
    return parse(
        raw_gguf.file(keys=[_key(*item) for item in facts.items()], tensors=tensors, data=data)
    )


@functools.cache
def vocabulary(kind: str) -> Gguf:
    """A GGUF file of one layer with a tokenizer: gpt2 or llama."""
    if kind == "gpt2":
        made = tokenizer_files.byte_level_vocabulary("llama-bpe", size=360)
        made.template = tiny_tokenizer.CHAT_TEMPLATE
    else:
        made = tokenizer_files.sentencepiece_vocabulary(size=400)
    with tempfile.TemporaryDirectory() as folder:
        path = tokenizer_files.write_gguf(Path(folder) / "m.gguf", made)
        return parse(path.read_bytes())


def split_names(count: int) -> list[str]:
    """The parts' names of a split GGUF."""
    return [f"m-{n + 1:05d}-of-{count:05d}.gguf" for n in range(count)]


@functools.cache
def split() -> tuple[Gguf, ...]:
    """A GGUF model in three parts."""
    whole = architecture("llama")
    groups = [whole.tensors[n::3] for n in range(3)]
    parts = []
    for n, group in enumerate(groups):
        keys = [
            _key("split.no", n),
            _key("split.count", 3),
            _key("split.tensors.count", len(whole.tensors)),
        ]
        tensors, data = [], b""
        for tensor in group:
            nbytes = 4 * int(np.prod(tensor.sizes))
            tensors.append(raw_gguf.tensor(tensor.name, tensor.sizes, offset=len(data)))
            data += whole.data[tensor.offset : tensor.offset + -(-nbytes // 32) * 32]
        own = [raw_gguf.key(*key) for key in whole.keys] if n == 0 else []
        parts.append(parse(raw_gguf.file(keys=[*own, *keys], tensors=tensors, data=data)))
    return tuple(parts)


@functools.cache
def tokenizer_json(kind: str) -> dict[str, Any]:
    """A tokenizer.json of one of KINDS."""
    import tokenizers
    from tokenizers import models

    if kind in ("gpt-2", "llama-bpe", "smollm"):
        return _table(tiny_tokenizer.tokenizer_json(kind))
    if kind == "sentencepiece":
        made = tokenizer_files.facts_of(tokenizer_files.sentencepiece_vocabulary(size=400))
        return _table(from_gguf(made).to_json())
    pieces = [("<unk>", 0.0), *((f"<0x{byte:02X}>", 0.0) for byte in range(256)), ("\u2581", -2.0)]
    letters = [(chr(97 + n), -3.0 - n) for n in range(26)]
    unigram = tokenizers.Tokenizer(models.Unigram(pieces + letters, 0, True))
    table = _table(unigram.to_str())
    charsmap = struct.pack("<I", 1024) + bytes(1024) + b"a\0b\0"
    if kind == "precompiled":
        text = base64.b64encode(charsmap).decode()
        return table | {
            "normalizer": {"type": "Precompiled", "precompiled_charsmap": text},
            "decoder": _METASPACE,
        }
    return table | {
        "normalizer": _sequence(
            "normalizers",
            {"type": "Strip", "strip_left": True, "strip_right": False},
            {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": "\u2581"},
            {"type": "Prepend", "prepend": "\u2581"},
            {"type": "NFKC"},
        ),
        "pre_tokenizer": _sequence(
            "pretokenizers",
            {"type": "Digits", "individual_digits": True},
            {
                "type": "Split",
                "pattern": {"Regex": "[a-z]+"},
                "behavior": "Isolated",
                "invert": False,
            },
            {
                "type": "Metaspace",
                "replacement": "\u2581",
                "prepend_scheme": "always",
                "split": True,
            },
        ),
        "decoder": _METASPACE,
        "truncation": {
            "direction": "Right",
            "max_length": 8,
            "strategy": "LongestFirst",
            "stride": 0,
        },
        "padding": {
            "strategy": {"Fixed": 64},
            "direction": "Right",
            "pad_to_multiple_of": None,
            "pad_id": 0,
            "pad_type_id": 0,
            "pad_token": "<unk>",
        },
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "<unk>", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}],
            "special_tokens": {"<unk>": {"id": "<unk>", "ids": [0], "tokens": ["<unk>"]}},
        },
    }


TOKENIZERS = ("gpt-2", "llama-bpe", "smollm", "sentencepiece", "unigram", "precompiled")

SIDES: dict[str, Any] = {
    "tokenizer_config.json": {
        "bos_token": {"content": "<|endoftext|>", "special": True, "lstrip": False},
        "eos_token": "<|im_end|>",
        "unk_token": None,
        "pad_token": "<|endoftext|>",
        "add_bos_token": False,
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": 256,
        "added_tokens_decoder": {"0": {"content": "<|endoftext|>", "special": True}},
        "chat_template": [
            {"name": "default", "template": tiny_tokenizer.CHAT_TEMPLATE},
            {"name": "tool_use", "template": "{{ tools }}"},
        ],
    },
    "special_tokens_map.json": {
        "bos_token": {"content": "<|endoftext|>"},
        "eos_token": "<|im_end|>",
    },
    "generation_config.json": {"eos_token_id": [2, 0], "bos_token_id": 0, "temperature": 0.6},
    "config.json": {"eos_token_id": 2, "bos_token_id": 0},
    "chat_template.json": {"chat_template": tiny_tokenizer.CHAT_TEMPLATE},
}


def _shapes(spec: DecoderSpec, naming: Naming) -> Shapes:
    """The file's tensors of a model."""
    found: Shapes = {}
    for ours, theirs in tensor_names(spec, naming).items():
        shape, rows = tensor_shape(spec, ours), rows_of(spec, naming, ours)
        found[theirs] = shape if rows is None else rows.whole_shape(shape[1:])
    return found


def _entry(name: str, shape: tuple[int, ...]) -> TensorEntry:
    return TensorEntry(name=name, shape=shape, dtype="F32", offset=0, nbytes=0, file=Path("m.gguf"))


def _key(name: str, value: Any) -> bytes:
    if isinstance(value, str):
        return raw_gguf.string(name, value)
    if isinstance(value, float):
        return raw_gguf.key(name, 6, struct.pack("<f", value))
    return raw_gguf.u32(name, value)


def _table(text: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(text)
    return found


def _sequence(key: str, *steps: dict[str, Any]) -> dict[str, Any]:
    return {"type": "Sequence", key: list(steps)}
