"""What configs of the newer families say, and what is refused of them with key and value."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import factory
import more_gguf
import pytest
import torch
from reading import read_spec
from safetensors.torch import load_file, save_file

from quantchat.checkpoints.facts import Facts
from quantchat.errors import CheckpointError, UnsupportedModelError
from quantchat.model.config_hf import spec_from_config
from quantchat.model.families import open_model
from quantchat.spec import DecoderSpec, LinearScaling, LongScaling


def change(folder: Path, section: str = "", **changes: Any) -> Path:
    """config.json with other values; `...` takes a key out."""
    file = folder / "config.json"
    config = json.loads(file.read_text())
    table = config[section] if section else config
    for key, value in changes.items():
        if value is ...:
            table.pop(key)
        else:
            table[key] = value
    file.write_text(json.dumps(config))
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of each family."""
    top = tmp_path_factory.mktemp("families")
    for family in factory.MORE_SETTINGS:
        factory.write_hf(top / family, family, tokenizer=False)
    return top


def copy_of(folders: Path, family: str, to: Path) -> Path:
    folder = to / family
    folder.mkdir()
    for file in (folders / family).iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    return folder


REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("falcon_7b", {"alibi": True}, "alibi"),
    ("falcon_7b", {"num_ln_in_parallel_attn": 2}, "num_ln_in_parallel_attn"),
    ("falcon_40b", {"num_kv_heads": 3}, "3 KV heads"),
    ("falcon_40b", {"parallel_attn": False}, "parallel_attn"),
    ("falcon_7b", {"activation": "silu"}, "activation 'silu'"),
    ("phi2", {"qk_layernorm": True}, "qk_layernorm"),
    ("phi2", {"hidden_act": "relu"}, "relu"),
    ("phi2", {"partial_rotary_factor": 0.01}, "partial_rotary_factor"),
    ("phi3", {"hidden_act": "gelu"}, "gelu"),
    ("phi3", {"num_key_value_heads": 4}, "qkv_proj"),
    ("gemma2", {"hidden_activation": "silu"}, "hidden_activation 'silu'"),
    ("gemma2", {"query_pre_attn_scalar": 0}, "query_pre_attn_scalar"),
    ("gemma2", {"layer_types": ["sliding_attention"]}, "layer_types"),
    ("gemma3", {"use_bidirectional_attention": True}, "use_bidirectional_attention"),
    ("gemma3", {"final_logit_softcapping": "30"}, "final_logit_softcapping"),
    ("granite", {"logits_scaling": 0}, "logits_scaling"),
    ("granite", {"residual_multiplier": "1"}, "residual_multiplier"),
    ("smollm3", {"no_rope_layers": [1, 0]}, "no_rope_layers"),
    ("smollm3", {"no_rope_layers": [1, 0, 2, 0]}, "no_rope_layers"),
    ("olmo2", {"rope_parameters": {"rope_type": "spiral", "factor": 2.0}}, "spiral"),
    ("internlm2", {"num_key_value_heads": 4}, "wqkv"),
    ("mixtral", {"num_experts_per_tok": 6}, "6 experts a token of 5"),
    ("mixtral", {"num_local_experts": 0}, "num_local_experts"),
    ("mixtral", {"num_local_experts": 6}, "block_sparse_moe.gate"),
    ("qwen2moe", {"shared_expert_intermediate_size": ...}, "shared_expert_intermediate_size"),
    ("qwen3moe", {"moe_intermediate_size": 31}, "shape"),
    ("qwen3moe", {"mlp_only_layers": [0]}, "missing"),
]


@pytest.mark.parametrize(("family", "changes", "words"), REFUSED, ids=lambda value: str(value)[:30])
def test_what_is_unknown_or_wrong_is_refused_by_name(
    folders: Path, tmp_path: Path, family: str, changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(CheckpointError) as caught:
        open_model(change(copy_of(folders, family, tmp_path), **changes))
    assert words in str(caught.value)


@pytest.mark.parametrize(
    "changes", [{"short_factor": [1.0]}, {"long_factor": [0.0] * 6}, {"long_factor": None}]
)
def test_long_factors_must_be_one_for_each_pair(
    folders: Path, tmp_path: Path, changes: dict[str, Any]
) -> None:
    folder = copy_of(folders, "phi4_mini", tmp_path)
    with pytest.raises(CheckpointError, match="_factor"):
        open_model(change(folder, section="rope_parameters", **changes))


@pytest.mark.parametrize(
    "rope",
    [
        {"rope_type": "default", "rope_theta": 0.0},
        {"rope_type": "default", "rope_theta": 1.0},
        {"rope_type": "linear", "factor": 0.0, "rope_theta": 1e4},
        {"rope_type": "linear", "factor": 1e-300, "rope_theta": 1e4},
        {"rope_type": "yarn", "factor": 2.0, "beta_fast": 0.0, "rope_theta": 1e4},
        {"rope_type": "dynamic", "factor": 0.5, "rope_theta": 1e4},
        {
            "rope_type": "llama3",
            "factor": 8.0,
            "low_freq_factor": 4.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 64,
            "rope_theta": 1e4,
        },
    ],
)
def test_angles_must_be_numbers(folders: Path, tmp_path: Path, rope: dict[str, Any]) -> None:
    with pytest.raises(UnsupportedModelError, match="gives no angles"):
        open_model(change(copy_of(folders, "olmo2", tmp_path), rope_parameters=rope))


def test_both_containers_give_the_same_spec(folders: Path, tmp_path: Path) -> None:
    for family, (_, overrides) in more_gguf.CASES.items():
        file = read_spec(more_gguf.write(tmp_path / f"{family}.gguf", family))
        if overrides:
            folder = factory.write_hf(tmp_path / family, family, tokenizer=False, **overrides)
        else:
            folder = folders / family
        ours = read_spec(folder)
        for field in DecoderSpec.__dataclass_fields__:
            mine, theirs = getattr(ours, field), getattr(file, field)
            if isinstance(mine, float):
                assert mine == pytest.approx(theirs), (family, field)
            elif field not in ("rope", "local_rope", "experts"):
                assert mine == theirs, (family, field)
        assert ours.rope.rotary_dim == file.rope.rotary_dim
        assert ours.rope.theta == pytest.approx(file.rope.theta)
        assert type(ours.rope.scaling) is type(file.rope.scaling) or family == "internlm2"
        assert (ours.local_rope is None) == (file.local_rope is None)
        if ours.experts is not None:
            assert file.experts is not None and ours.experts.active == file.experts.active
            assert ours.experts.renormalise == file.experts.renormalise


def test_defaults_are_those_of_the_config_classes(folders: Path, tmp_path: Path) -> None:
    gemma = copy_of(folders, "gemma2", tmp_path)
    keys = ("attn_logit_softcapping", "final_logit_softcapping", "layer_types", "sliding_window")
    spec = read_spec(change(gemma, **dict.fromkeys(keys, ...), query_pre_attn_scalar=...))
    assert (spec.attention_softcap, spec.logits_softcap) == (50.0, 30.0)
    assert spec.windows == (4096, 0, 4096) and spec.attention_scale == 1 / 16
    assert read_spec(change(gemma, attn_logit_softcapping=None)).attention_softcap == 0
    smollm = copy_of(folders, "smollm3", tmp_path)
    spec = read_spec(change(smollm, no_rope_layers=...))
    assert spec.rope_kinds == ("main", "main", "main", "none")
    falcon = copy_of(folders, "falcon_7b", tmp_path)
    keys = ("multi_query", "new_decoder_architecture", "num_kv_heads", "parallel_attn", "bias")
    spec = read_spec(change(falcon, **dict.fromkeys(keys, ...), ffn_hidden_size=...))
    assert (spec.kv_heads, spec.intermediate, spec.placement) == (1, 256, "parallel")
    assert read_spec(change(falcon, max_position_embeddings=...)).context == 2048


def test_the_root_of_the_width_is_rounded_as_the_weights_are(folders: Path, tmp_path: Path) -> None:
    gemma = copy_of(folders, "gemma2", tmp_path)
    assert read_spec(gemma).embedding_scale == 8.0
    for hidden in (1152, 2304, 3584, 5376):
        wanted = float(torch.tensor(math.sqrt(hidden), dtype=torch.bfloat16))
        config = change(gemma, hidden_size=hidden, dtype="bfloat16")
        with pytest.raises(CheckpointError, match="shape"):
            open_model(config)
        facts = Facts(gemma / "config.json", json.loads((gemma / "config.json").read_text()))
        assert spec_from_config(facts, has_head=False).embedding_scale == wanted


def test_long_factors_of_old_and_new_configs(folders: Path, tmp_path: Path) -> None:
    phi = copy_of(folders, "phi4_mini", tmp_path)
    new = read_spec(phi)
    scaling = new.rope.scaling
    assert isinstance(scaling, LongScaling) and scaling.original_context == 64
    assert scaling.attention_factor == pytest.approx(math.sqrt(1 + math.log(4) / math.log(64)))
    assert new.rope.rotary_dim == 12
    rope = json.loads((phi / "config.json").read_text())["rope_parameters"]
    kept = {key: rope[key] for key in ("short_factor", "long_factor")}
    for word in ("su", "longrope"):
        change(phi, rope_scaling={"type": word, **kept}, partial_rotary_factor=0.75)
        if word == "su":
            change(phi, rope_parameters=..., rope_theta=rope["rope_theta"])
            change(phi, original_max_position_embeddings=64)
        assert read_spec(phi) == new


def test_a_model_that_also_sees_gives_its_decoder(folders: Path, tmp_path: Path) -> None:
    plain = read_spec(folders / "gemma3")
    for number, start in enumerate(("language_model.model.", "model.language_model.")):
        to = tmp_path / str(number)
        to.mkdir()
        folder = copy_of(folders, "gemma3", to)
        tensors = load_file(folder / "model.safetensors")
        renamed = {name.replace("model.", start, 1): value for name, value in tensors.items()}
        save_file(renamed, folder / "model.safetensors")
        config = json.loads((folder / "config.json").read_text())
        text = {key: value for key, value in config.items() if key != "architectures"}
        text["rope_scaling"] = {"rope_type": "linear", "factor": 8.0}
        del text["rope_parameters"]
        whole = {"architectures": ["Gemma3ForConditionalGeneration"], "text_config": text}
        (folder / "config.json").write_text(json.dumps(whole))
        spec = read_spec(folder)
        assert spec == plain and isinstance(spec.rope.scaling, LinearScaling)
        assert spec.local_rope is not None and spec.local_rope.scaling is None


def test_gguf_experts_of_unknown_kinds_are_refused(tmp_path: Path) -> None:
    path = more_gguf.write(tmp_path / "m.gguf", "mixtral")
    data = path.read_bytes()
    path.write_bytes(data.replace(b"llama.expert_used_count", b"llama.expert_used_c0unt"))
    with pytest.raises(CheckpointError, match=r"llama\.expert_used_count is missing"):
        open_model(path)
    path = more_gguf.write(tmp_path / "q.gguf", "qwen2moe")
    path.write_bytes(path.read_bytes().replace(b"ffn_gate_inp_shexp", b"ffn_gate_inp_shexx"))
    with pytest.raises(CheckpointError, match="ffn_gate_inp_shexp"):
        open_model(path)
    with pytest.raises(UnsupportedModelError):
        path = more_gguf.write(tmp_path / "f.gguf", "phi3")
        path.write_bytes(path.read_bytes().replace(b"phi3", b"phi9"))
        open_model(path)
