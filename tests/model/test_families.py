"""Configs that are read, and configs that are refused with key and value."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import factory
import pytest
from reading import read_spec

from quantchat.errors import CheckpointError, UnsupportedModelError
from quantchat.model.families import open_model


@pytest.fixture
def llama(tmp_path: Path) -> Path:
    return factory.write_hf(tmp_path / "llama", "llama")


def change(folder: Path, **changes: Any) -> Path:
    file = folder / "config.json"
    config = json.loads(file.read_text())
    for key, value in changes.items():
        if value is ...:
            config.pop(key)
        else:
            config[key] = value
    file.write_text(json.dumps(config))
    return folder


def test_both_containers_give_the_same_spec(tmp_path: Path) -> None:
    for family in ("llama", "llama3", "qwen2", "qwen3"):
        folder = read_spec(factory.write_hf(tmp_path / family, family))
        file = read_spec(factory.write_gguf(tmp_path / f"{family}.gguf", family))
        for field in (
            "layers",
            "hidden",
            "heads",
            "kv_heads",
            "head_dim",
            "intermediate",
            "vocab",
            "qkv_bias",
            "qk_norm",
            "tied_head",
        ):
            assert getattr(folder, field) == getattr(file, field), (family, field)
        assert folder.rope.theta == file.rope.theta
        assert folder.norm_eps == pytest.approx(file.norm_eps)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"architectures": ["GPTNeoXForCausalLM"]}, "GPTNeoXForCausalLM"),
        ({"architectures": []}, "none"),
        ({"hidden_act": "gelu"}, "gelu"),
        ({"num_key_value_heads": 3}, "3 KV heads"),
        ({"hidden_size": "64"}, "hidden_size"),
        ({"hidden_size": True}, "hidden_size"),
        ({"num_hidden_layers": 10**9}, "num_hidden_layers"),
        ({"num_hidden_layers": ...}, "num_hidden_layers"),
        ({"rms_norm_eps": ...}, "rms_norm_eps"),
        ({"rope_parameters": {"rope_type": "longrope", "factor": 2.0}}, "original_max_position"),
        ({"rope_parameters": {"rope_type": "spiral", "factor": 2.0}}, "spiral"),
        ({"rope_parameters": {"rope_type": "linear"}}, "factor"),
        ({"quantization_config": {"quant_method": "aqlm"}}, "aqlm"),
        ({"quantization_config": {"quant_method": "gptq"}}, "quantization_config.bits"),
        ({"vocab_size": 77}, "shape"),
        ({"intermediate_size": 77}, "shape"),
        ({"num_hidden_layers": 40}, "missing"),
        ({"attention_bias": True}, "missing"),
        ({"head_dim": 15}, "15"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_is_unknown_or_wrong_is_refused_by_name(
    llama: Path, changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(CheckpointError) as caught:
        open_model(change(llama, **changes))
    assert words in str(caught.value)
    assert "\n" not in caught.value.message


def test_windows_by_layer_and_by_flag(tmp_path: Path) -> None:
    mistral = read_spec(factory.write_hf(tmp_path / "m", "mistral_window"))
    assert set(mistral.windows) == {mistral.window(0)} and mistral.window(0) > 0
    plain = factory.write_hf(tmp_path / "q", "qwen2")
    assert read_spec(plain).windows == ()
    layers = read_spec(plain).layers
    kinds = ["full_attention"] + ["sliding_attention"] * (layers - 1)
    spec = read_spec(change(plain, layer_types=kinds, sliding_window=7, use_sliding_window=True))
    assert spec.windows == (0, *[7] * (layers - 1))


def test_an_old_config_without_rope_keys_has_llama_2_s_base(llama: Path) -> None:
    spec = read_spec(change(llama, rope_parameters=..., rope_theta=20000.0))
    assert spec.rope.theta == 20000.0
    assert read_spec(change(llama, rope_theta=...)).rope.theta == 10000.0


def test_an_unknown_gguf_architecture_is_named(tmp_path: Path) -> None:
    path = factory.write_gguf(tmp_path / "x.gguf", "qwen2")
    data = path.read_bytes().replace(b"qwen2", b"qwenX")
    path.write_bytes(data)
    with pytest.raises(UnsupportedModelError, match="qwenX"):
        open_model(path)
