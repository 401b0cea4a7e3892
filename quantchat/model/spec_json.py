"""A decoder's spec as JSON and back, every number within bounds. Files are not to be trusted."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

from quantchat.checkpoints.facts import Facts
from quantchat.errors import CheckpointError, UnsupportedModelError
from quantchat.model.config_hf import MAX_LAYERS, MAX_WIDTH, check_heads
from quantchat.spec import (
    DecoderSpec,
    DynamicScaling,
    FactorScaling,
    LinearScaling,
    Llama3Scaling,
    RopeScaling,
    RopeSpec,
    YarnScaling,
)

MAX_CONTEXT = 1 << 24
MAX_VOCAB = 1 << 22
MAX_NAME_CHARS = 100

_KINDS = {
    LinearScaling: "linear",
    Llama3Scaling: "llama3",
    DynamicScaling: "dynamic",
    YarnScaling: "yarn",
    FactorScaling: "factors",
}


def spec_to_json(spec: DecoderSpec) -> dict[str, Any]:
    """A JSON object that `spec_from_json` takes."""
    table = asdict(spec)
    scaling = spec.rope.scaling
    if scaling is not None:
        table["rope"]["scaling"]["kind"] = _KINDS[type(scaling)]
    return table


def spec_from_json(facts: Facts) -> DecoderSpec:
    """The spec; raises CheckpointError naming the key that is missing or out of bounds."""
    heads = facts.integer("heads", minimum=1, maximum=MAX_WIDTH)
    kv_heads = facts.integer("kv_heads", minimum=1, maximum=heads)
    head_dim = facts.integer("head_dim", minimum=2, maximum=1024)
    check_heads(facts, heads, kv_heads, head_dim)
    layers = facts.integer("layers", minimum=1, maximum=MAX_LAYERS)
    windows = facts.integers("windows")
    if windows and (len(windows) != layers or not all(0 <= w <= MAX_CONTEXT for w in windows)):
        raise CheckpointError(facts.path, f"{facts.prefix}windows is no window for each layer")
    if facts.text("activation") != "silu":
        raise UnsupportedModelError(facts.path, f"{facts.prefix}activation is not silu")
    return DecoderSpec(
        architecture=facts.text("architecture")[:MAX_NAME_CHARS],
        layers=layers,
        hidden=facts.integer("hidden", minimum=1, maximum=MAX_WIDTH),
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        intermediate=facts.integer("intermediate", minimum=1, maximum=MAX_WIDTH),
        vocab=facts.integer("vocab", minimum=1, maximum=MAX_VOCAB),
        context=facts.integer("context", minimum=1, maximum=MAX_CONTEXT),
        norm_eps=facts.number("norm_eps"),
        rope=_rope(facts.section("rope"), head_dim),
        activation="silu",
        attention_scale=facts.number("attention_scale"),
        qkv_bias=facts.flag("qkv_bias"),
        output_bias=facts.flag("output_bias"),
        mlp_bias=facts.flag("mlp_bias"),
        qk_norm=facts.flag("qk_norm"),
        tied_head=facts.flag("tied_head"),
        windows=tuple(windows),
    )


def _rope(facts: Facts, head_dim: int) -> RopeSpec:
    rotary_dim = facts.integer("rotary_dim", minimum=2, maximum=head_dim)
    if rotary_dim % 2:
        raise CheckpointError(facts.path, f"{facts.prefix}rotary_dim is odd")
    scaling = facts.optional_section("scaling")
    return RopeSpec(
        theta=facts.number("theta"),
        rotary_dim=rotary_dim,
        scaling=None if scaling is None else _scaling(scaling, rotary_dim),
    )


def _scaling(facts: Facts, rotary_dim: int) -> RopeScaling:
    kind = facts.text("kind")
    if kind == "factors":
        factors = tuple(facts.numbers("factors"))
        if len(factors) * 2 != rotary_dim or not all(
            math.isfinite(factor) and factor > 0 for factor in factors
        ):
            raise CheckpointError(
                facts.path,
                f"{facts.prefix}factors is no factor for each of {rotary_dim // 2} pairs",
            )
        return FactorScaling(factors=factors)
    factor = facts.number("factor")
    if factor <= 0:
        raise CheckpointError(facts.path, f"{facts.prefix}factor {factor} is not positive")
    if kind == "linear":
        return LinearScaling(factor=factor)
    original = facts.integer("original_context", minimum=1, maximum=MAX_CONTEXT)
    if kind == "dynamic":
        return DynamicScaling(factor=factor, original_context=original)
    if kind == "llama3":
        return Llama3Scaling(
            factor=factor,
            low_freq_factor=facts.number("low_freq_factor"),
            high_freq_factor=facts.number("high_freq_factor"),
            original_context=original,
        )
    if kind == "yarn":
        return YarnScaling(
            factor=factor,
            original_context=original,
            beta_fast=facts.number("beta_fast"),
            beta_slow=facts.number("beta_slow"),
            attention_factor=facts.number("attention_factor"),
            truncate=facts.flag("truncate"),
        )
    raise UnsupportedModelError(facts.path, f"rope scaling {kind[:40]!r} is not supported")
