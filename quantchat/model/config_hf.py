"""From a Hugging Face `config.json` to a spec; fails on what it does not know.

A default stands here only where transformers' own config class states it for files that leave
the key out (llama and mistral files of 2023 do).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from quantchat.checkpoints.facts import Facts
from quantchat.errors import UnsupportedModelError
from quantchat.spec import (
    DecoderSpec,
    DynamicScaling,
    LinearScaling,
    Llama3Scaling,
    RopeScaling,
    RopeSpec,
    YarnScaling,
)

MAX_LAYERS = 1024
MAX_WIDTH = 1 << 20
DEFAULT_ROPE_THETA = 10000.0


@dataclass(frozen=True, slots=True, kw_only=True)
class FamilyTraits:
    """What a family fixes by its code rather than by its config."""

    name: str
    qkv_bias: bool = False
    bias_flag: bool = False
    """`attention_bias` adds biases to q, k, v and o."""
    mlp_bias_flag: bool = False
    qk_norm: bool = False
    windows: bool = False
    """`sliding_window` applies to every layer."""
    window_layers: bool = False
    """`use_sliding_window` and `max_window_layers` say which layers have one."""


ARCHITECTURES: Mapping[str, FamilyTraits] = {
    "LlamaForCausalLM": FamilyTraits(name="llama", bias_flag=True, mlp_bias_flag=True),
    "MistralForCausalLM": FamilyTraits(name="mistral", windows=True),
    "Qwen2ForCausalLM": FamilyTraits(name="qwen2", qkv_bias=True, window_layers=True),
    "Qwen3ForCausalLM": FamilyTraits(
        name="qwen3", bias_flag=True, qk_norm=True, window_layers=True
    ),
}


def spec_from_config(config: Facts, *, has_head: bool) -> DecoderSpec:
    """Read the spec; `has_head` says whether the files hold an output head of their own."""
    architectures = config.texts("architectures")
    traits = ARCHITECTURES.get(architectures[0]) if architectures else None
    if traits is None:
        raise UnsupportedModelError(
            config.path,
            f"architecture {', '.join(architectures) or 'none'} is not supported",
            hint=f"supported: {', '.join(ARCHITECTURES)}",
        )
    if config.get("quantization_config") is not None:
        method = config.section("quantization_config").text("quant_method", default="unknown")
        raise UnsupportedModelError(
            config.path,
            f"weights quantized with {method} are not supported yet",
            hint="take the 16-bit repository of the model, or a GGUF file",
        )
    activation = config.text("hidden_act")
    if activation not in ("silu", "swish"):
        raise UnsupportedModelError(config.path, f"hidden_act {activation!r} is not supported")
    hidden = config.integer("hidden_size", minimum=1, maximum=MAX_WIDTH)
    layers = config.integer("num_hidden_layers", minimum=1, maximum=MAX_LAYERS)
    heads = config.integer("num_attention_heads", minimum=1, maximum=MAX_WIDTH)
    kv_heads = config.integer("num_key_value_heads", default=heads, minimum=1)
    head_dim = config.integer("head_dim", default=hidden // heads, minimum=2, maximum=1024)
    context = config.integer("max_position_embeddings", minimum=1, maximum=1 << 24)
    check_heads(config, heads, kv_heads, head_dim)
    bias = traits.bias_flag and config.flag("attention_bias", default=False)
    tied = config.flag("tie_word_embeddings", default=not has_head)
    return DecoderSpec(
        architecture=traits.name,
        layers=layers,
        hidden=hidden,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        intermediate=config.integer("intermediate_size", minimum=1, maximum=MAX_WIDTH),
        vocab=config.integer("vocab_size", minimum=1, maximum=1 << 22),
        context=context,
        norm_eps=config.number("rms_norm_eps"),
        rope=_rope(config, head_dim, context),
        activation="silu",
        attention_scale=head_dim**-0.5,
        qkv_bias=traits.qkv_bias or bias,
        output_bias=bias,
        mlp_bias=traits.mlp_bias_flag and config.flag("mlp_bias", default=False),
        qk_norm=traits.qk_norm,
        tied_head=tied,
        windows=_windows(config, traits, layers),
    )


def check_heads(facts: Facts, heads: int, kv_heads: int, head_dim: int) -> None:
    """Refuse head counts that cannot be grouped or turned."""
    if heads % kv_heads:
        raise UnsupportedModelError(
            facts.path, f"{heads} query heads cannot share {kv_heads} KV heads evenly"
        )
    if head_dim % 2:
        raise UnsupportedModelError(facts.path, f"head size {head_dim} is odd")


def _windows(config: Facts, traits: FamilyTraits, layers: int) -> tuple[int, ...]:
    kinds = config.optional_texts("layer_types")
    window = config.optional_integer("sliding_window", minimum=1)
    if kinds is not None:
        if len(kinds) != layers or set(kinds) - {"full_attention", "sliding_attention"}:
            raise UnsupportedModelError(config.path, f"layer_types {sorted(set(kinds))}")
        if "sliding_attention" not in kinds:
            return ()
        if window is None:
            raise UnsupportedModelError(config.path, "sliding layers without a sliding_window")
        return tuple(window if kind == "sliding_attention" else 0 for kind in kinds)
    if window is None:
        return ()
    if traits.windows:
        return (window,) * layers
    if traits.window_layers and config.flag("use_sliding_window", default=False):
        full = config.integer("max_window_layers", minimum=0)
        windows = tuple(window if i >= full else 0 for i in range(layers))
        return windows if any(windows) else ()
    return ()


def _rope(config: Facts, head_dim: int, context: int) -> RopeSpec:
    parameters = config.optional_section("rope_parameters") or config.optional_section(
        "rope_scaling"
    )
    theta = config.number("rope_theta", default=DEFAULT_ROPE_THETA)
    if parameters is None:
        return RopeSpec(theta=theta, rotary_dim=head_dim)
    theta = parameters.number("rope_theta", default=theta)
    kind = parameters.text("rope_type", default=parameters.text("type", default="default"))
    partial = config.number(
        "partial_rotary_factor", default=parameters.number("partial_rotary_factor", default=1.0)
    )
    return RopeSpec(
        theta=theta,
        rotary_dim=int(head_dim * partial),
        scaling=_scaling(parameters, kind, context),
    )


def _scaling(parameters: Facts, kind: str, context: int) -> RopeScaling | None:
    if kind == "default":
        return None
    factor = parameters.number("factor")
    original = parameters.optional_integer("original_max_position_embeddings", minimum=1)
    if kind == "linear":
        return LinearScaling(factor=factor)
    if kind == "dynamic":
        return DynamicScaling(factor=factor, original_context=original or context)
    if kind == "llama3":
        return Llama3Scaling(
            factor=factor,
            low_freq_factor=parameters.number("low_freq_factor"),
            high_freq_factor=parameters.number("high_freq_factor"),
            original_context=parameters.integer("original_max_position_embeddings", minimum=1),
        )
    if kind == "yarn" and parameters.get("mscale") is None:
        plain = 0.1 * math.log(factor) + 1 if factor > 1 else 1.0
        return YarnScaling(
            factor=factor,
            original_context=original or context,
            beta_fast=parameters.number("beta_fast", default=32.0),
            beta_slow=parameters.number("beta_slow", default=1.0),
            attention_factor=parameters.number("attention_factor", default=plain),
            truncate=parameters.flag("truncate", default=True),
        )
    raise UnsupportedModelError(parameters.path, f"rope scaling {kind!r} is not supported")
