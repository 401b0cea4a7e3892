"""A decoder's spec as JSON and back, every number within bounds. Files are not to be trusted.

Keys that the first exports did not have are read with the values that those meant.
"""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any, TypeVar, get_args

from quantchat.checkpoints.facts import Facts
from quantchat.errors import CheckpointError, UnsupportedModelError
from quantchat.model.config_hf import MAX_LAYERS, MAX_WIDTH, check_heads
from quantchat.model.hf_keys import MAX_EXPERTS, MAX_SCALE, checked_experts
from quantchat.spec import (
    Activation,
    DecoderSpec,
    DynamicScaling,
    ExpertsSpec,
    FactorScaling,
    LinearScaling,
    Llama3Scaling,
    LongScaling,
    NormKind,
    Placement,
    RopeKind,
    RopeScaling,
    RopeSpec,
    YarnScaling,
)

MAX_CONTEXT = 1 << 24
MAX_VOCAB = 1 << 22
MAX_NAME_CHARS = 100

W = TypeVar("W", bound=str)

_KINDS = {
    LinearScaling: "linear",
    Llama3Scaling: "llama3",
    DynamicScaling: "dynamic",
    YarnScaling: "yarn",
    FactorScaling: "factors",
    LongScaling: "long",
}


def spec_to_json(spec: DecoderSpec) -> dict[str, Any]:
    """A JSON object that `spec_from_json` takes."""
    table = asdict(spec)
    for key, rope in (("rope", spec.rope), ("local_rope", spec.local_rope)):
        if rope is not None and rope.scaling is not None:
            table[key]["scaling"]["kind"] = _KINDS[type(rope.scaling)]
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
    local = facts.optional_section("local_rope")
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
        activation=_word(facts, "activation", get_args(Activation)),
        attention_scale=facts.number("attention_scale"),
        qkv_bias=facts.flag("qkv_bias"),
        output_bias=facts.flag("output_bias"),
        mlp_bias=facts.flag("mlp_bias"),
        qk_norm=facts.flag("qk_norm"),
        tied_head=facts.flag("tied_head"),
        windows=tuple(windows),
        norm=_word(facts, "norm", get_args(NormKind), default="rms"),
        placement=_word(facts, "placement", get_args(Placement), default="pre"),
        gated=facts.flag("gated", default=True),
        qk_norm_wide=facts.flag("qk_norm_wide", default=False),
        rope_kinds=_rope_kinds(facts, layers, local=local is not None),
        local_rope=None if local is None else _rope(local, head_dim),
        attention_softcap=_scale(facts, "attention_softcap", 0.0),
        logits_softcap=_scale(facts, "logits_softcap", 0.0),
        embedding_scale=_scale(facts, "embedding_scale", 1.0),
        residual_scale=_scale(facts, "residual_scale", 1.0),
        logits_scale=_scale(facts, "logits_scale", 1.0),
        head_bias=facts.flag("head_bias", default=False),
        experts=_experts(facts.optional_section("experts"), layers),
    )


def _word(facts: Facts, key: str, words: tuple[W, ...], *, default: W | None = None) -> W:
    found = facts.text(key, default=default)
    known = next((word for word in words if word == found), None)
    if known is None:
        raise UnsupportedModelError(
            facts.path, f"{facts.prefix}{key} is {found[:40]!r}, not one of {', '.join(words)}"
        )
    return known


def _scale(facts: Facts, key: str, default: float) -> float:
    found = facts.number(key, default=default)
    if abs(found) > MAX_SCALE:
        raise CheckpointError(facts.path, f"{facts.prefix}{key} is {found}")
    return found


def _rope_kinds(facts: Facts, layers: int, *, local: bool) -> tuple[RopeKind, ...]:
    words: tuple[RopeKind, ...] = get_args(RopeKind)
    found = facts.optional_texts("rope_kinds") or []
    kinds = tuple(word for text in found for word in words if word == text)
    if (
        len(kinds) != len(found)
        or len(kinds) not in (0, layers)
        or ("local" in kinds and not local)
    ):
        raise CheckpointError(facts.path, f"{facts.prefix}rope_kinds is no kind for each layer")
    return kinds


def _experts(facts: Facts | None, layers: int) -> ExpertsSpec | None:
    if facts is None:
        return None
    dense = tuple(facts.integers("dense_layers"))
    if not all(0 <= layer < layers for layer in dense):
        raise CheckpointError(facts.path, f"{facts.prefix}dense_layers are no layers")
    experts = ExpertsSpec(
        count=facts.integer("count", minimum=1, maximum=MAX_EXPERTS),
        active=facts.integer("active", minimum=1, maximum=MAX_EXPERTS),
        intermediate=facts.integer("intermediate", minimum=1, maximum=MAX_WIDTH),
        renormalise=facts.flag("renormalise"),
        shared_intermediate=facts.integer("shared_intermediate", minimum=0, maximum=MAX_WIDTH),
        dense_layers=dense,
    )
    return checked_experts(facts, experts, layers)


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
        return FactorScaling(factors=_factors(facts, "factors", rotary_dim))
    if kind == "long":
        return LongScaling(
            short=_factors(facts, "short", rotary_dim),
            long=_factors(facts, "long", rotary_dim),
            original_context=facts.integer("original_context", minimum=1, maximum=MAX_CONTEXT),
            attention_factor=_scale(facts, "attention_factor", 1.0),
        )
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


def _factors(facts: Facts, key: str, rotary_dim: int) -> tuple[float, ...]:
    factors = tuple(facts.numbers(key))
    if len(factors) * 2 != rotary_dim or not all(
        math.isfinite(factor) and factor > 0 for factor in factors
    ):
        raise CheckpointError(
            facts.path,
            f"{facts.prefix}{key} is no factor for each of {rotary_dim // 2} pairs",
        )
    return factors
