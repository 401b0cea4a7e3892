"""Rotary embeddings from a Hugging Face config, in the words of old files and of new ones."""

from __future__ import annotations

import math
from pathlib import Path

from quantchat.checkpoints.facts import Facts
from quantchat.errors import CheckpointError, UnsupportedModelError
from quantchat.spec import (
    DynamicScaling,
    FactorScaling,
    LinearScaling,
    Llama3Scaling,
    LongScaling,
    RopeScaling,
    RopeSpec,
    YarnScaling,
)

DEFAULT_ROPE_THETA = 10000.0
MOST = 1e12
"""Of bases and factors: beyond, and below its inverse, angles are no numbers."""


def rope_from_config(
    config: Facts,
    head_dim: int,
    context: int,
    *,
    theta: float = DEFAULT_ROPE_THETA,
    partial: float = 1.0,
) -> RopeSpec:
    """The rotary embedding; `theta` and `partial` are the family's where the file leaves them out."""
    parameters = config.optional_section("rope_parameters") or config.optional_section(
        "rope_scaling"
    )
    theta = config.number("rope_theta", default=theta)
    if parameters is None:
        partial = config.number("partial_rotary_factor", default=partial)
        return RopeSpec(theta=theta, rotary_dim=_rotary_dim(config, head_dim, partial))
    return rope_from_parameters(config, parameters, head_dim, context, theta=theta, partial=partial)


def rope_from_parameters(
    config: Facts,
    parameters: Facts,
    head_dim: int,
    context: int,
    *,
    theta: float,
    partial: float = 1.0,
) -> RopeSpec:
    """The rotary embedding that a table of parameters describes."""
    theta = parameters.number("rope_theta", default=theta)
    kind = parameters.text("rope_type", default=parameters.text("type", default="default"))
    partial = config.number(
        "partial_rotary_factor",
        default=parameters.number("partial_rotary_factor", default=partial),
    )
    rotary_dim = _rotary_dim(config, head_dim, partial)
    if kind in ("longrope", "su"):
        scaling: RopeScaling | None = _long_scaling(config, parameters, rotary_dim, context)
    else:
        scaling = _scaling(parameters, kind, context)
    return RopeSpec(theta=theta, rotary_dim=rotary_dim, scaling=scaling)


def _rotary_dim(config: Facts, head_dim: int, partial: float) -> int:
    rotary_dim = int(head_dim * partial) if 0 < partial <= 1 else 0
    if rotary_dim < 2 or rotary_dim % 2:
        raise UnsupportedModelError(
            config.path, f"partial_rotary_factor {partial} of heads of {head_dim}"
        )
    return rotary_dim


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


def _long_scaling(config: Facts, parameters: Facts, rotary_dim: int, context: int) -> LongScaling:
    original = parameters.optional_integer("original_max_position_embeddings", minimum=2)
    if original is None:
        original = config.integer("original_max_position_embeddings", minimum=2)
    sets = []
    for key in ("short_factor", "long_factor"):
        factors = tuple(parameters.numbers(key))
        if len(factors) * 2 != rotary_dim or not all(factor > 0 for factor in factors):
            raise CheckpointError(
                parameters.path,
                f"{parameters.prefix}{key} is no factor for each of {rotary_dim // 2} pairs",
            )
        sets.append(factors)
    growth = parameters.number("factor", default=context / original)
    return LongScaling(
        short=sets[0],
        long=sets[1],
        original_context=original,
        attention_factor=parameters.number(
            "attention_factor", default=long_attention_factor(growth, original)
        ),
    )


def long_attention_factor(growth: float, original: int) -> float:
    """What LongRoPE multiplies cos and sin by where a file does not say."""
    return math.sqrt(1 + math.log(growth) / math.log(original)) if growth > 1 else 1.0


def check_rope(path: Path, rope: RopeSpec) -> None:
    """Raises UnsupportedModelError where a rotary embedding would give no finite angles."""
    scaling = rope.scaling
    numbers = [rope.theta]
    if isinstance(scaling, LongScaling):
        numbers += [*scaling.short, *scaling.long, scaling.attention_factor]
    elif isinstance(scaling, FactorScaling):
        numbers += scaling.factors
    elif scaling is not None:
        numbers.append(scaling.factor)
    if isinstance(scaling, YarnScaling):
        numbers += [scaling.beta_fast, scaling.beta_slow, scaling.attention_factor]
    ordered = True
    if isinstance(scaling, Llama3Scaling):
        numbers += [scaling.low_freq_factor, scaling.high_freq_factor]
        ordered = scaling.low_freq_factor < scaling.high_freq_factor
    grows = isinstance(scaling, DynamicScaling) and (scaling.factor < 1 or rope.rotary_dim < 4)
    if (
        rope.theta <= 1
        or grows
        or not ordered
        or not all(1 / MOST <= number <= MOST for number in numbers)
    ):
        raise UnsupportedModelError(
            path,
            f"rotary embedding of base {rope.theta:g} with {type(scaling).__name__} gives no angles"
            if scaling is not None
            else f"rotary embedding of base {rope.theta:g} gives no angles",
        )
