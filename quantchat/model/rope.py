"""Angles of the rotary embedding from its spec, scalings included (RoFormer, 2104.09864)."""

from __future__ import annotations

import math

import torch

from quantchat.ops.rope import RopeTable
from quantchat.spec import (
    DecoderSpec,
    DynamicScaling,
    FactorScaling,
    LinearScaling,
    Llama3Scaling,
    LongScaling,
    RopeSpec,
    YarnScaling,
)


def layer_ropes(spec: DecoderSpec, context: int, device: torch.device) -> tuple[RopeTable, ...]:
    """The table of each layer; layers of one kind share theirs."""
    kinds = [spec.rope_kind(i) for i in range(spec.layers)]
    tables: dict[str, RopeTable] = {}
    for kind in dict.fromkeys(kinds):
        if kind == "none":
            tables[kind] = still_table(spec.rope.rotary_dim, context, device)
        else:
            assert kind == "main" or spec.local_rope is not None
            rope = spec.local_rope if kind == "local" and spec.local_rope else spec.rope
            tables[kind] = rope_table(rope, context, device)
    return tuple(tables[kind] for kind in kinds)


def still_table(rotary_dim: int, context: int, device: torch.device) -> RopeTable:
    """A table that turns nothing, for layers without positions."""
    cos = torch.ones(context, rotary_dim // 2, device=device)
    return RopeTable(cos, torch.zeros_like(cos))


def rope_table(spec: RopeSpec, context: int, device: torch.device) -> RopeTable:
    """The table for positions 0 .. context - 1."""
    frequencies, attention_factor = rope_frequencies(spec, context)
    positions = torch.arange(context, dtype=torch.float32, device=device)
    angles = torch.outer(positions, frequencies.to(device))
    return RopeTable(angles.cos() * attention_factor, angles.sin() * attention_factor)


def rope_frequencies(spec: RopeSpec, context: int) -> tuple[torch.Tensor, float]:
    """Frequencies float32 [rotary_dim / 2] and the factor on cos and sin."""
    half = torch.arange(0, spec.rotary_dim, 2, dtype=torch.int64).float() / spec.rotary_dim
    plain = 1.0 / (spec.theta**half)
    scaling = spec.scaling
    if scaling is None:
        return plain, 1.0
    if isinstance(scaling, LinearScaling):
        return plain / scaling.factor, 1.0
    if isinstance(scaling, FactorScaling):
        return plain / torch.tensor(scaling.factors, dtype=torch.float32), 1.0
    if isinstance(scaling, LongScaling):
        # One set for the whole table: a cache holds keys turned once and for all.
        factors = scaling.long if context > scaling.original_context else scaling.short
        divided = 1.0 / (torch.tensor(factors, dtype=torch.float32) * spec.theta**half)
        return divided, scaling.attention_factor
    if isinstance(scaling, Llama3Scaling):
        return _llama3(plain, scaling), 1.0
    if isinstance(scaling, DynamicScaling):
        if context <= scaling.original_context:
            return plain, 1.0
        # One base for the whole table: a cache holds keys turned once and for all.
        growth = scaling.factor * context / scaling.original_context - (scaling.factor - 1)
        d = spec.rotary_dim
        return 1.0 / ((spec.theta * growth ** (d / (d - 2))) ** half), 1.0
    return _yarn(plain, scaling, spec), scaling.attention_factor


def _llama3(plain: torch.Tensor, scaling: Llama3Scaling) -> torch.Tensor:
    wavelength = 2 * math.pi / plain
    low = scaling.original_context / scaling.low_freq_factor
    high = scaling.original_context / scaling.high_freq_factor
    smooth = (scaling.original_context / wavelength - scaling.low_freq_factor) / (
        scaling.high_freq_factor - scaling.low_freq_factor
    )
    divided = plain / scaling.factor
    ramp = (1 - smooth) * divided + smooth * plain
    scaled = torch.where(wavelength > low, divided, plain)
    return torch.where((wavelength <= low) & (wavelength >= high), ramp, scaled)


def _yarn(plain: torch.Tensor, scaling: YarnScaling, spec: RopeSpec) -> torch.Tensor:
    d = spec.rotary_dim

    def dimension(rotations: float) -> float:
        turns = scaling.original_context / (rotations * 2 * math.pi)
        return d * math.log(turns) / (2 * math.log(spec.theta))

    low, high = dimension(scaling.beta_fast), dimension(scaling.beta_slow)
    if scaling.truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, d - 1)
    if low == high:
        high += 0.001
    ramp = ((torch.arange(d // 2, dtype=torch.float32) - low) / (high - low)).clamp(0, 1)
    return plain / scaling.factor * ramp + plain * (1 - ramp)
