"""config.json with any value under any key that is read: an error of ours, or a model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import fuzz_seeds
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from quantchat.checkpoints.facts import Facts
from quantchat.errors import CheckpointError
from quantchat.model.config_hf import spec_from_config

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-2, 600),
    st.floats(),
    st.text(max_size=12),
    st.sampled_from(["silu", "gelu", "yarn", "llama3", "longrope", "default", "bfloat16"]),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=8,
)
WORDS = st.sampled_from(["factor", "rope_type", "type", "rope_theta", "partial_rotary_factor"])


@pytest.mark.parametrize("family", ["llama3", "qwen2moe", "gemma3", "phi4_mini", "falcon_40b"])
@settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=st.data())
def test_any_value_under_any_key(family: str, data: st.DataObject) -> None:
    config: dict[str, Any] = json.loads(json.dumps(fuzz_seeds.config_of(family)))
    keys = st.sampled_from([*config, "sliding_window", "head_dim", "rope_scaling", "layer_types"])
    for _ in range(data.draw(st.integers(1, 3))):
        config[data.draw(keys)] = data.draw(VALUES)
    if isinstance(config.get("rope_parameters"), dict) and data.draw(st.booleans()):
        config["rope_parameters"][data.draw(WORDS)] = data.draw(VALUES)
    facts = Facts(Path("config.json"), config)
    try:
        spec = spec_from_config(facts, has_head=True)
    except CheckpointError as error:
        assert error.message.isprintable() and len(str(error)) < 1500
        return
    assert spec.layers >= 1 and spec.heads % spec.kv_heads == 0
