"""Rotary frequencies of every scaling against transformers' own."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import LlamaConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from quantchat.model.rope import rope_frequencies, rope_table
from quantchat.spec import (
    DynamicScaling,
    FactorScaling,
    LinearScaling,
    Llama3Scaling,
    RopeScaling,
    RopeSpec,
    YarnScaling,
)

LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}
CASES: list[tuple[dict[str, Any], RopeScaling]] = [
    ({"rope_type": "linear", "factor": 8.0}, LinearScaling(factor=8.0)),
    (
        LLAMA3,
        Llama3Scaling(factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_context=8192),
    ),
    (
        YARN,
        YarnScaling(
            factor=4.0,
            original_context=32768,
            beta_fast=32.0,
            beta_slow=1.0,
            attention_factor=0.1 * 1.3862943611198906 + 1,
        ),
    ),
]


@pytest.mark.parametrize(("parameters", "scaling"), CASES, ids=["linear", "llama3", "yarn"])
@pytest.mark.parametrize("theta", [10000.0, 500000.0])
def test_frequencies_equal_transformers(
    parameters: dict[str, Any], scaling: RopeScaling, theta: float
) -> None:
    config = LlamaConfig(
        hidden_size=256,
        num_attention_heads=2,
        max_position_embeddings=131072,
        rope_parameters={**parameters, "rope_theta": theta},
    )
    wanted, factor = ROPE_INIT_FUNCTIONS[parameters["rope_type"]](config, torch.device("cpu"))
    got, ours = rope_frequencies(RopeSpec(theta=theta, rotary_dim=128, scaling=scaling), 131072)
    assert torch.allclose(got, wanted.float(), rtol=1e-5)
    assert ours == pytest.approx(factor)


def test_dynamic_growth_begins_past_the_original_context() -> None:
    spec = RopeSpec(
        theta=10000.0, rotary_dim=64, scaling=DynamicScaling(factor=2.0, original_context=1024)
    )
    plain, _ = rope_frequencies(RopeSpec(theta=10000.0, rotary_dim=64), 4096)
    assert torch.equal(rope_frequencies(spec, 1024)[0], plain)
    grown, _ = rope_frequencies(spec, 4096)
    base = 10000.0 * (2 * 4096 / 1024 - 1) ** (64 / 62)
    assert grown[-1].item() == pytest.approx(base ** (-62 / 64), rel=1e-5)


def test_factors_divide_each_frequency() -> None:
    plain, _ = rope_frequencies(RopeSpec(theta=100.0, rotary_dim=8), 16)
    spec = RopeSpec(theta=100.0, rotary_dim=8, scaling=FactorScaling(factors=(1, 2, 4, 8)))
    assert torch.allclose(rope_frequencies(spec, 16)[0] * torch.tensor([1, 2, 4, 8]), plain)


def test_the_table_holds_angles_of_each_position() -> None:
    table = rope_table(RopeSpec(theta=100.0, rotary_dim=4), 10, torch.device("cpu"))
    assert table.cos.shape == (10, 2)
    assert table.sin[3, 1].item() == pytest.approx(torch.sin(torch.tensor(3 * 0.1)).item())
