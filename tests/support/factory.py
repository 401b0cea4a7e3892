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

_LONG = {
    "rope_type": "longrope",
    "rope_theta": 10000.0,
    "short_factor": [1.0 + 0.05 * i for i in range(6)],
    "long_factor": [1.0 + 0.6 * i for i in range(6)],
    "original_max_position_embeddings": 64,
    "partial_rotary_factor": 0.75,
}
_TWO_ROPES = {
    "full_attention": {"rope_type": "linear", "rope_theta": 1e6, "factor": 8.0},
    "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
}
_PLAIN = {"rope_type": "default", "rope_theta": 10000.0}
_EXPERTS = {
    "num_experts": 6,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 32,
    "num_hidden_layers": 3,
    "mlp_only_layers": [1],
}
_FALCON = {
    "intermediate_size": ...,
    "num_key_value_heads": ...,
    "rms_norm_eps": ...,
    "head_dim": None,
    "rope_parameters": _PLAIN,
}

MORE_SETTINGS: dict[str, tuple[str, dict[str, Any]]] = {
    "phi3": ("Phi3", {"sliding_window": 40, "rope_parameters": _PLAIN, "head_dim": None}),
    "phi4_mini": (
        "Phi3",
        {
            "rope_parameters": _LONG,
            "original_max_position_embeddings": 64,
            "tie_word_embeddings": True,
            "head_dim": None,
        },
    ),
    "smollm3": (
        "SmolLM3",
        {"num_hidden_layers": 4, "rope_parameters": _PLAIN, "no_rope_layers": [1, 0, 1, 0]},
    ),
    "granite": (
        "Granite",
        {
            "embedding_multiplier": 6.0,
            "attention_multiplier": 0.2,
            "residual_multiplier": 0.4,
            "logits_scaling": 0.5,
            "rope_parameters": _PLAIN,
            "tie_word_embeddings": True,
            "head_dim": None,
        },
    ),
    "olmo2": ("Olmo2", {"rope_parameters": LLAMA3_ROPE, "head_dim": None}),
    "gemma2": (
        "Gemma2",
        {
            "sliding_window": 24,
            "query_pre_attn_scalar": 24,
            "attn_logit_softcapping": 4.0,
            "final_logit_softcapping": 6.0,
            "rope_parameters": _PLAIN,
            "num_hidden_layers": 3,
        },
    ),
    "gemma3": (
        "Gemma3",
        {
            "sliding_window": 24,
            "query_pre_attn_scalar": 24,
            "num_hidden_layers": 3,
            "layer_types": ["sliding_attention", "sliding_attention", "full_attention"],
            "rope_parameters": _TWO_ROPES,
            "final_logit_softcapping": None,
        },
    ),
    "internlm2": ("Llama", {"rope_parameters": {**_PLAIN, "rope_theta": 1e6}}),
    "phi2": (
        "Phi",
        {
            "rope_parameters": {**_PLAIN, "partial_rotary_factor": 0.5},
            "head_dim": None,
            "rms_norm_eps": ...,
        },
    ),
    "falcon_7b": ("Falcon", {**_FALCON, "num_attention_heads": 4}),
    "falcon_40b": (
        "Falcon",
        {**_FALCON, "new_decoder_architecture": True, "num_kv_heads": 2, "bias": True},
    ),
    "falcon_rw": ("Falcon", {**_FALCON, "multi_query": False, "parallel_attn": False}),
    "mixtral": (
        "Mixtral",
        {"num_local_experts": 5, "num_experts_per_tok": 2, "sliding_window": 40},
    ),
    "qwen2moe": (
        "Qwen2Moe",
        {**_EXPERTS, "shared_expert_intermediate_size": 48, "head_dim": None},
    ),
    "qwen3moe": ("Qwen3Moe", {**_EXPERTS, "norm_topk_prob": True, "head_dim": 32}),
}
"""As SETTINGS, of families whose blocks or files are not as Llama's."""

PRE = {"llama": "smollm", "llama3": "llama-bpe", "qwen2": "qwen2", "qwen3": "qwen2"}
"""Family -> name of its pre-tokenizer in GGUF; gpt-2 for the others."""


def build_model(family: str, *, seed: int = 0, **config_overrides: Any) -> Any:
    """A transformers model in float32, weights seeded; logits spread over several units."""
    import torch
    import transformers

    stem, settings = {**SETTINGS, **MORE_SETTINGS}[family]
    fields = {**BASE, **settings, **config_overrides}
    if fields["head_dim"] is None:
        del fields["head_dim"]
    fields = {key: value for key, value in fields.items() if value is not ...}
    config_class = "Gemma3TextConfig" if stem == "Gemma3" else f"{stem}Config"
    config = getattr(transformers, config_class)(pad_token_id=None, **fields)
    model = getattr(transformers, f"{stem}ForCausalLM")(config).float().eval()
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            noise = torch.randn(weight.shape, generator=random)
            if name.endswith("lm_head.bias"):
                weight.copy_(noise)
            elif "embed" in name or "lm_head" in name:
                weight.copy_(0.4 * noise)
            elif weight.dim() == 1:
                weight.copy_(0.3 * noise if name.endswith("bias") else 1 + 0.2 * noise)
            else:
                weight.copy_(1.2 / math.sqrt(weight.shape[-1]) * noise)
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
    if family == "internlm2":
        _as_internlm2(folder, model.config)
    if shards > 1:
        split(folder, shards)
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
    part_tensors: int = 0,
    **config_overrides: Any,
) -> Path:
    """A GGUF file of the weights that `write_hf` writes for the same seed and overrides.

    Matrices whose rows are whole blocks of `tensor_type` take it, the rest stay F32. Rows of q and k
    are permuted where the architecture is llama, as llama.cpp's converter does. With `part_tensors`
    the model is split into parts of so many, after one with none; the first one's path is given.
    """
    import gguf

    assert family in GGUF_FAMILIES, family
    model = build_model(family, seed=seed, **config_overrides)
    config = model.config
    arch = "llama" if family in ("llama", "llama3", "mistral") else family
    writer = gguf.GGUFWriter(
        path, arch, split_max_tensors=part_tensors, small_first_shard=part_tensors > 0
    )
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
    return min(path.parent.glob(f"{path.stem}-*.gguf")) if part_tensors else path


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


def _as_internlm2(folder: Path, config: Any) -> None:
    """A folder of Llama's in the names and the layout that InternLM2's own code reads."""
    import torch
    from safetensors.torch import load_file, save_file

    theirs = load_file(folder / "model.safetensors")
    names = {
        "self_attn.o_proj": "attention.wo",
        "mlp.gate_proj": "feed_forward.w1",
        "mlp.up_proj": "feed_forward.w3",
        "mlp.down_proj": "feed_forward.w2",
        "input_layernorm": "attention_norm",
        "post_attention_layernorm": "ffn_norm",
        "embed_tokens": "tok_embeddings",
        "lm_head": "output",
    }
    made = {}
    d, groups = config.head_dim, config.num_key_value_heads
    for name, tensor in theirs.items():
        if "q_proj" in name:
            parts = [theirs[name.replace("q_proj", f"{part}_proj")] for part in "qkv"]
            split = [part.view(groups, -1, d, part.shape[-1]) for part in parts]
            fused = torch.cat(split, dim=1).reshape(-1, tensor.shape[-1])
            made[name.replace("self_attn.q_proj", "attention.wqkv")] = fused.contiguous()
        elif "k_proj" not in name and "v_proj" not in name:
            old = next((old for old in names if old in name), "")
            made[name.replace(old, names[old]) if old else name] = tensor
    save_file(made, folder / "model.safetensors", metadata={"format": "pt"})
    table = json.loads((folder / "config.json").read_text())
    rope = table.pop("rope_parameters")
    table |= {"architectures": ["InternLM2ForCausalLM"], "model_type": "internlm2", "bias": False}
    table |= {"rope_theta": rope["rope_theta"], "rope_scaling": {"type": "dynamic", "factor": 2.0}}
    table["auto_map"] = {"AutoModelForCausalLM": "modeling_internlm2.InternLM2ForCausalLM"}
    (folder / "config.json").write_text(json.dumps(table))


def split(folder: Path, shards: int) -> None:
    """Lay a folder's one file out in shards with an index."""
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
