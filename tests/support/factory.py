"""Tiny random checkpoints, written the way real ones are.

Owns Hugging Face folders and GGUF files of every family, from the same seeded weights. transformers
and the gguf package do the writing, so that the readers are tested against foreign hands.
"""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import tiny_tokenizer
from ggml_quantize import quantize

FAMILIES = ("llama", "llama3", "mistral", "mistral_window", "qwen2", "qwen3")
GGUF_FAMILIES = ("llama", "llama3", "mistral", "qwen2", "qwen3")

BASE: dict[str, Any] = {
    "vocab_size": 352,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 256,
    "rms_norm_eps": 1e-5,
    "bos_token_id": tiny_tokenizer.BOS_ID,
    "eos_token_id": tiny_tokenizer.EOS_ID,
}

LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 500000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}

SETTINGS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("Llama", {"rope_parameters": {"rope_type": "default", "rope_theta": 10000.0}}),
    "llama3": ("Llama", {"rope_parameters": LLAMA3_ROPE, "tie_word_embeddings": True}),
    "mistral": ("Mistral", {"sliding_window": None}),
    "mistral_window": ("Mistral", {"sliding_window": 8}),
    "qwen2": ("Qwen2", {"tie_word_embeddings": True, "head_dim": None}),
    "qwen3": ("Qwen3", {"head_dim": 32, "num_hidden_layers": 3, "tie_word_embeddings": True}),
}
"""Family -> stem of the transformers classes, what differs from BASE."""

PRE = {"llama": "smollm", "llama3": "llama-bpe", "qwen2": "qwen2", "qwen3": "qwen2"}
"""Family -> name of its pre-tokenizer in GGUF; gpt-2 for the others."""


def build_model(family: str, *, seed: int = 0, **config_overrides: Any) -> Any:
    """A transformers model in float32, weights seeded; logits spread over several units."""
    import torch
    import transformers

    stem, settings = SETTINGS[family]
    fields = {**BASE, **settings, **config_overrides}
    if fields["head_dim"] is None:
        del fields["head_dim"]
    config = getattr(transformers, f"{stem}Config")(**fields)
    model = getattr(transformers, f"{stem}ForCausalLM")(config).float().eval()
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            noise = torch.randn(weight.shape, generator=random)
            if "embed_tokens" in name or "lm_head" in name:
                weight.copy_(0.4 * noise)
            elif weight.dim() == 1:
                weight.copy_(0.3 * noise if name.endswith("bias") else 1 + 0.2 * noise)
            else:
                weight.copy_(1.2 / math.sqrt(weight.shape[1]) * noise)
    return model


def write_hf(
    folder: Path,
    family: str,
    *,
    seed: int = 0,
    shards: int = 1,
    dtype: str = "float32",
    legacy_rope: bool = False,
    tokenizer: bool = True,
    **config_overrides: Any,
) -> Path:
    """A Hugging Face folder; `shards` files with an index when more than one.

    `legacy_rope` writes rope_theta and rope_scaling, as configs before transformers 5 did.
    """
    import torch

    model = build_model(family, seed=seed, **config_overrides).to(getattr(torch, dtype))
    model.generation_config.eos_token_id = [tiny_tokenizer.EOS_ID, tiny_tokenizer.BOS_ID]
    model.save_pretrained(folder)
    if shards > 1:
        _split(folder, shards)
    if legacy_rope:
        config = json.loads((folder / "config.json").read_text())
        rope = config.pop("rope_parameters")
        config["rope_theta"] = rope.pop("rope_theta")
        config["rope_scaling"] = None if rope["rope_type"] == "default" else rope
        (folder / "config.json").write_text(json.dumps(config))
    if tokenizer:
        tiny_tokenizer.write_hf(folder, PRE.get(family, "gpt-2"))
    return folder


def write_gguf(
    path: Path,
    family: str,
    *,
    tensor_type: str = "F32",
    seed: int = 0,
    tokenizer: bool = True,
    **config_overrides: Any,
) -> Path:
    """A GGUF file of the weights that `write_hf` writes for the same seed and overrides.

    Matrices whose rows are whole blocks of `tensor_type` take it, the rest stay F32. Rows of q and k
    are permuted where the architecture is llama, as llama.cpp's converter does.
    """
    import gguf

    assert family in GGUF_FAMILIES, family
    model = build_model(family, seed=seed, **config_overrides)
    config = model.config
    arch = "llama" if family in ("llama", "llama3", "mistral") else family
    writer = gguf.GGUFWriter(path, arch)
    _add_shape(writer, config)
    if tokenizer:
        tiny_tokenizer.add_to_gguf(writer, PRE.get(family, "gpt-2"), config.vocab_size)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH[arch.upper()], config.num_hidden_layers)
    for hf_name, weight in model.state_dict().items():
        if hf_name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        values = weight.numpy()
        if arch == "llama" and hf_name.endswith(("q_proj.weight", "k_proj.weight")):
            heads = (
                config.num_attention_heads if "q_proj" in hf_name else config.num_key_value_heads
            )
            values = permute_rows(values, heads)
        name = names.get_name(hf_name, try_suffixes=(".weight", ".bias"))
        kind = gguf.GGMLQuantizationType[tensor_type]
        if values.ndim == 2 and values.shape[1] % gguf.GGML_QUANT_SIZES[kind][0] == 0:
            writer.add_tensor(name, quantize(values, tensor_type), raw_dtype=kind)
        else:
            writer.add_tensor(name, values)
    if config.rope_parameters["rope_type"] == "llama3":
        writer.add_tensor("rope_freqs.weight", llama3_factors(config))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def permute_rows(weight: np.ndarray, heads: int) -> np.ndarray:
    """Rows paired (i, i + D/2) to rows paired (2i, 2i + 1): [heads D, K] -> same shape."""
    rows, columns = weight.shape
    paired = weight.reshape(heads, 2, rows // heads // 2, columns)
    return np.ascontiguousarray(paired.swapaxes(1, 2).reshape(rows, columns))


def llama3_factors(config: Any) -> np.ndarray:
    """What each rotary frequency is divided by: float32 [D / 2]."""
    rope = config.rope_parameters
    dim = config.head_dim
    frequencies = rope["rope_theta"] ** -(np.arange(0, dim, 2, dtype=np.float64) / dim)
    wavelengths = 2 * math.pi / frequencies
    original, factor = rope["original_max_position_embeddings"], rope["factor"]
    low, high = rope["low_freq_factor"], rope["high_freq_factor"]
    smooth = np.clip((original / wavelengths - low) / (high - low), 0, 1)
    return (1 / ((1 - smooth) / factor + smooth)).astype(np.float32)


def cut(path: Path, size: int) -> Path:
    """Shorten a file in place."""
    os.truncate(path, size)
    return path


def patch(path: Path, offset: int, data: bytes) -> Path:
    """Overwrite bytes of a file in place."""
    with open(path, "r+b") as file:
        file.seek(offset)
        file.write(data)
    return path


def _add_shape(writer: Any, config: Any) -> None:
    head_dim = getattr(config, "head_dim", None) or (
        config.hidden_size // config.num_attention_heads
    )
    writer.add_name("tiny")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(head_dim)
    writer.add_value_length(head_dim)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_rope_dimension_count(head_dim)
    writer.add_vocab_size(config.vocab_size)


def _split(folder: Path, shards: int) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    weight_map = {}
    names = sorted(tensors)
    for shard in range(shards):
        file = f"model-{shard + 1:05d}-of-{shards:05d}.safetensors"
        part = {name: tensors[name] for name in names[shard::shards]}
        save_file(part, folder / file, metadata={"format": "pt"})
        weight_map.update(dict.fromkeys(part, file))
    total = sum(tensor.nbytes for tensor in tensors.values())
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
