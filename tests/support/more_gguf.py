"""GGUF files of the families whose blocks or files are not as Llama's, from the factory's weights.

Does to tensors what llama.cpp's converter does; names are the gguf package's.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import factory
import numpy as np
from ggml_quantize import quantize

PLAIN = {"rope_type": "default", "rope_theta": 10000.0}

CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "phi2": ("phi2", {}),
    "phi3": ("phi3", {}),
    "phi4_mini": ("phi3", {}),
    "smollm3": ("smollm3", {"no_rope_layers": [1, 1, 1, 0]}),
    "granite": ("granite", {}),
    "olmo2": ("olmo2", {"rope_parameters": PLAIN}),
    "gemma2": ("gemma2", {"query_pre_attn_scalar": 16}),
    "gemma3": (
        "gemma3",
        {"query_pre_attn_scalar": 16, "num_hidden_layers": 6, "layer_types": None},
    ),
    "internlm2": ("internlm2", {}),
    "falcon_7b": ("falcon", {}),
    "falcon_40b": ("falcon", {"bias": False}),
    "mixtral": ("llama", {}),
    "qwen2moe": ("qwen2moe", {"mlp_only_layers": []}),
    "qwen3moe": ("qwen3moe", {"mlp_only_layers": []}),
}
"""Family of the factory -> architecture word, what its config must have for a GGUF file to say it."""
PERMUTED = ("llama", "granite", "smollm3", "internlm2")


def write(path: Path, family: str, *, tensor_type: str = "F32") -> Path:
    """The weights that `factory.write_hf` writes under the overrides of CASES."""
    import gguf

    arch, overrides = CASES[family]
    model = factory.build_model(family, **overrides)
    config = model.config
    writer = gguf.GGUFWriter(path, arch)
    _add_metadata(writer, arch, config)
    by_word = {word: key for key, word in gguf.MODEL_ARCH_NAMES.items()}
    names = gguf.get_tensor_name_map(by_word[arch], config.num_hidden_layers)
    for name, values in _tensors(model, arch):
        kind = gguf.GGMLQuantizationType[tensor_type]
        known = names.get_name(name, try_suffixes=(".weight", ".bias"))
        if known is None:
            known = names.get_name(name.removesuffix(".weight")) + ".weight"
        whole = values.shape[-1] % gguf.GGML_QUANT_SIZES[kind][0] == 0
        if values.ndim >= 2 and whole and "ffn_gate_inp" not in known:
            writer.add_tensor(known, quantize(values, tensor_type), raw_dtype=kind)
        else:
            writer.add_tensor(known, np.ascontiguousarray(values))
    rope = config.rope_parameters
    if rope.get("rope_type") == "longrope":
        for word in ("long", "short"):
            factors = np.array(rope[f"{word}_factor"], dtype=np.float32)
            writer.add_tensor(f"rope_factors_{word}.weight", factors)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _tensors(model: Any, arch: str) -> Iterator[tuple[str, np.ndarray]]:
    config = model.config
    for name, weight in model.state_dict().items():
        values = weight.numpy()
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        if name.endswith(("rotary_emb.inv_freq", "embed_scale")):
            continue
        if arch in PERMUTED and name.endswith(("q_proj.weight", "k_proj.weight")):
            q = "q_proj" in name
            heads = config.num_attention_heads if q else config.num_key_value_heads
            values = factory.permute_rows(values, heads)
        if arch.startswith("gemma") and name.endswith("norm.weight"):
            values = values + 1
        if name.endswith("query_key_value.weight") and config.new_decoder_architecture:
            values = _ungrouped(values, config)
        if name.endswith("experts.gate_up_proj"):
            gate, up = np.split(values, 2, axis=1)
            start = name.removesuffix("gate_up_proj")
            yield f"{start}gate_proj.weight", np.ascontiguousarray(gate)
            yield f"{start}up_proj.weight", np.ascontiguousarray(up)
        elif name.endswith("experts.down_proj"):
            yield f"{name}.weight", values
        elif arch == "llama":
            yield name.replace("mlp.gate.", "block_sparse_moe.gate."), values
        elif name.endswith("shared_expert_gate.weight"):
            yield name, values.reshape(-1)
        else:
            yield name, values


def _ungrouped(values: np.ndarray, config: Any) -> np.ndarray:
    """Rows of each KV head's q, k and v -> all of q, all of k, all of v."""
    kv = config.num_kv_heads
    d = config.hidden_size // config.num_attention_heads
    rows = values.reshape(kv, -1, d, values.shape[-1])
    parts = rows[:, :-2], rows[:, -2:-1], rows[:, -1:]
    return np.concatenate([part.reshape(-1, values.shape[-1]) for part in parts])


def _add_metadata(writer: Any, arch: str, config: Any) -> None:
    fields = config.to_dict()
    heads = config.num_attention_heads
    head_dim = fields.get("head_dim") or config.hidden_size // heads
    kv_heads = fields.get("num_key_value_heads") or heads
    if arch == "falcon":
        kv_heads = config.num_kv_heads if config.new_decoder_architecture else 1
    rope = config.rope_parameters
    main = rope.get("full_attention", rope)
    writer.add_name("tiny")
    writer.add_vocab_size(config.vocab_size)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(fields.get("intermediate_size") or fields["ffn_hidden_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv_heads)
    writer.add_key_length(head_dim)
    writer.add_value_length(head_dim)
    if "rms_norm_eps" in fields:
        writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    else:
        writer.add_layer_norm_eps(fields.get("layer_norm_eps") or fields["layer_norm_epsilon"])
    writer.add_rope_freq_base(main["rope_theta"])
    writer.add_rope_dimension_count(int(head_dim * main.get("partial_rotary_factor", 1)))
    if main["rope_type"] == "linear":
        writer.add_rope_scaling_type(_scaling_type("linear"))
        writer.add_rope_scaling_factor(main["factor"])
    if main["rope_type"] == "longrope":
        original = main["original_max_position_embeddings"]
        growth = config.max_position_embeddings / original
        writer.add_rope_scaling_orig_ctx_len(original)
        writer.add_rope_scaling_attn_factors(math.sqrt(1 + math.log(growth) / math.log(original)))
    if fields.get("sliding_window"):
        writer.add_sliding_window(config.sliding_window)
    if arch == "granite":
        writer.add_attention_scale(config.attention_multiplier)
        writer.add_embedding_scale(config.embedding_multiplier)
        writer.add_residual_scale(config.residual_multiplier)
        writer.add_logit_scale(config.logits_scaling)
    if fields.get("attn_logit_softcapping"):
        writer.add_attn_logit_softcapping(config.attn_logit_softcapping)
    if fields.get("final_logit_softcapping"):
        writer.add_final_logit_softcapping(config.final_logit_softcapping)
    _add_experts(writer, fields)


def _add_experts(writer: Any, fields: dict[str, Any]) -> None:
    count = fields.get("num_local_experts") or fields.get("num_experts")
    if not count:
        return
    writer.add_expert_count(count)
    writer.add_expert_used_count(fields["num_experts_per_tok"])
    if fields.get("moe_intermediate_size"):
        writer.add_expert_feed_forward_length(fields["moe_intermediate_size"])
    if fields.get("shared_expert_intermediate_size"):
        writer.add_expert_shared_feed_forward_length(fields["shared_expert_intermediate_size"])


def _scaling_type(word: str) -> Any:
    import gguf

    return gguf.RopeScalingType(word)
