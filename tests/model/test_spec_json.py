"""A spec through JSON and back; numbers out of bounds are named."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from quantchat.checkpoints.facts import Facts
from quantchat.errors import CheckpointError
from quantchat.model.spec_json import spec_from_json, spec_to_json
from quantchat.shapes import SHAPES
from quantchat.spec import (
    DynamicScaling,
    ExpertsSpec,
    FactorScaling,
    LinearScaling,
    Llama3Scaling,
    LongScaling,
    RopeScaling,
    RopeSpec,
    YarnScaling,
)

PLAIN = next(iter(SHAPES.values()))


EXPERTS: dict[str, Any] = {
    "count": 8,
    "active": 2,
    "intermediate": 64,
    "renormalise": True,
    "shared_intermediate": 0,
    "dense_layers": [],
}


def read(table: Any) -> Any:
    return spec_from_json(Facts(Path("quantchat.json"), json.loads(json.dumps(table))))


@pytest.mark.parametrize("name", SHAPES)
def test_every_shape_comes_back(name: str) -> None:
    assert read(spec_to_json(SHAPES[name])) == SHAPES[name]


@pytest.mark.parametrize(
    "scaling",
    [
        LinearScaling(factor=2.0),
        DynamicScaling(factor=4.0, original_context=512),
        Llama3Scaling(factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_context=64),
        YarnScaling(
            factor=4.0,
            original_context=512,
            beta_fast=32.0,
            beta_slow=1.0,
            attention_factor=1.1386294361119891,
            truncate=False,
        ),
        FactorScaling(factors=(1.0, 1.5, 2.25, 1 / 3)),
        LongScaling(
            short=(1.0, 1.1, 1.2, 1.3),
            long=(1.0, 2.0, 4.0, 8.0),
            original_context=64,
            attention_factor=1.19,
        ),
    ],
)
def test_every_scaling_comes_back(scaling: RopeScaling) -> None:
    rope = dataclasses.replace(PLAIN.rope, scaling=scaling, rotary_dim=8)
    spec = dataclasses.replace(PLAIN, rope=rope, windows=(5, 0) * (PLAIN.layers // 2))
    assert read(spec_to_json(spec)) == spec


def test_every_departure_comes_back() -> None:
    spec = dataclasses.replace(
        PLAIN,
        activation="gelu_tanh",
        norm="rms_float",
        placement="both",
        gated=False,
        qk_norm_wide=True,
        rope_kinds=("local", "none") * (PLAIN.layers // 2),
        local_rope=RopeSpec(theta=1e4, rotary_dim=8, scaling=LinearScaling(factor=2.0)),
        attention_softcap=50.0,
        logits_softcap=30.0,
        embedding_scale=59.75,
        residual_scale=0.22,
        logits_scale=1 / 16,
        head_bias=True,
        experts=ExpertsSpec(
            count=8,
            active=2,
            intermediate=64,
            renormalise=True,
            shared_intermediate=32,
            dense_layers=(0, 3),
        ),
    )
    assert read(spec_to_json(spec)) == spec


def test_an_export_of_before_departures_is_llama_like() -> None:
    table = spec_to_json(PLAIN)
    late = ("norm", "placement", "gated", "qk_norm_wide", "rope_kinds", "local_rope", "experts")
    late += ("attention_softcap", "logits_softcap", "embedding_scale", "residual_scale")
    late += ("logits_scale", "head_bias")
    assert read({key: value for key, value in table.items() if key not in late}) == PLAIN


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("layers", 0),
        ("layers", 10**9),
        ("layers", "2"),
        ("hidden", -1),
        ("hidden", 1 << 40),
        ("heads", None),
        ("kv_heads", 7),
        ("head_dim", 3),
        ("head_dim", 1 << 20),
        ("vocab", 1 << 30),
        ("context", 1 << 40),
        ("norm_eps", "nan"),
        ("windows", [1]),
        ("windows", [-1] * PLAIN.layers),
        ("activation", "relu"),
        ("norm", "batch"),
        ("placement", "nowhere"),
        ("gated", 1),
        ("rope_kinds", ["main"]),
        ("rope_kinds", ["local"] * PLAIN.layers),
        ("rope_kinds", ["sideways"] * PLAIN.layers),
        ("local_rope", {"theta": 1.0, "rotary_dim": 7, "scaling": None}),
        ("embedding_scale", 1e30),
        ("attention_softcap", "4"),
        ("experts", 3),
        ("experts", EXPERTS | {"active": 9}),
        ("experts", EXPERTS | {"dense_layers": [PLAIN.layers]}),
        ("experts", EXPERTS | {"count": 10**9}),
        ("tied_head", 1),
        ("rope", 3),
        ("rope", {"theta": 1.0, "rotary_dim": 7, "scaling": None}),
        ("rope", {"theta": 1.0, "rotary_dim": 8, "scaling": {"kind": "other", "factor": 1.0}}),
        ("rope", {"theta": 1.0, "rotary_dim": 8, "scaling": {"kind": "linear", "factor": 0}}),
        ("rope", {"theta": 1.0, "rotary_dim": 8, "scaling": {"kind": "factors", "factors": [1]}}),
    ],
)
def test_what_cannot_be_is_named(key: str, value: Any) -> None:
    with pytest.raises(CheckpointError, match=r"quantchat\.json"):
        read(spec_to_json(PLAIN) | {key: value})
