"""`quantchat probe` through click, on machines of our own making."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from machines import machine

from quantchat.cli.probe import command
from quantchat.engine.subjects import Subject, Subjects, plain_request
from quantchat.errors import ModelNotFoundError, PlanError, UsageError
from quantchat.hardware.facts import Facts
from quantchat.quant.registry import SCHEMES
from quantchat.shapes import SHAPES

H100 = machine("H100")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("QUANTCHAT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hf" / "hub"))
    monkeypatch.setenv("COLUMNS", "160")
    return tmp_path


def on(monkeypatch: pytest.MonkeyPatch, facts: Facts, *words: str) -> Result:
    monkeypatch.setattr("quantchat.hardware.probe.probe", lambda: facts)
    return CliRunner().invoke(command, list(words))


def record(result: Result) -> dict[str, Any]:
    lines = result.stdout.strip().splitlines()
    assert len(lines) == 1
    loaded: dict[str, Any] = json.loads(lines[0])
    return loaded


def test_json_is_one_object_with_facts_plan_and_reasons(monkeypatch: pytest.MonkeyPatch) -> None:
    result = on(monkeypatch, H100, "--json", "--model", "llama-3.1-8b", "--scheme", "int4")
    assert result.exit_code == 0, result.output
    data = record(result)
    assert data["facts"]["gpus"][0]["sm"] == 90
    assert data["facts"]["gpus"][0]["peaks"]["gb_per_s"] == 3350
    assert data["model"]["parameters"] == 8_029_995_008
    made = data["plan"]
    assert (made["scheme"], made["group_size"], made["device"]) == ("int4", 128, "cuda")
    assert made["fit"]["needed_bytes"] < made["fit"]["free_bytes"]
    assert {choice["op"] for choice in made["ops"]} >= {"linear", "head", "attention, decode"}
    assert data["reasons"]
    assert data["error"] is None


def test_text_shows_machine_plan_ops_memory_and_reasons(monkeypatch: pytest.MonkeyPatch) -> None:
    result = on(monkeypatch, H100, "--model", "llama-3.1-8b", "--kv", "int8")
    assert result.exit_code == 0, result.output
    for words in (
        "NVIDIA H100 80GB HBM3, SM 90, 132 multiprocessors",
        "3350 GB/s by its data sheet",
        "llama-3.1-8b, 8.03 billion weights (shape only, not on disk)",
        "223 tok/s",
        "16-bit, computing in bfloat16",
        "CUDA graph for decode",
        "cuBLAS",
        "KV int8: asked for",
        "longest",
        "needed: fits",
    ):
        assert words in result.stdout, words


def test_without_a_model_on_disk_the_default_shape_is_planned(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = record(on(monkeypatch, machine(), "--json"))
    assert (data["model"]["name"], data["model"]["origin"]) == ("llama-3.1-8b", "shape")
    assert data["plan"]["device"] == "cpu"


def test_what_cannot_run_prints_facts_and_fails_with_a_hint(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    result = on(monkeypatch, machine(), "--json", "--device", "cuda", "--model", "smollm2-135m")
    assert isinstance(result.exception, PlanError)
    data = record(result)
    assert data["plan"] is None
    assert "no CUDA card" in data["error"]["message"]
    assert data["facts"]["cpu"]["physical_cores"] == 8
    text = on(monkeypatch, machine(), "--device", "cuda", "--model", "smollm2-135m")
    assert isinstance(text.exception, PlanError)
    assert "Test CPU" in text.stdout


def test_settings_are_the_default_and_options_win(
    monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    from quantchat.paths import settings_file
    from quantchat.settings.file import load_settings, save_settings

    settings, _ = load_settings(settings_file())
    save_settings(
        dataclasses.replace(settings, scheme="int8", context_tokens=2048), settings_file()
    )
    made = record(on(monkeypatch, H100, "--json", "--model", "llama-2-7b"))["plan"]
    assert (made["scheme"], made["context_tokens"]) == ("int8", 2048)
    made = record(
        on(monkeypatch, H100, "--json", "--model", "llama-2-7b", "--scheme", "int4", "--context=0")
    )["plan"]
    assert (made["scheme"], made["context_tokens"]) == ("int4", 4096)


def test_unknown_names_are_errors_with_a_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    missing = on(monkeypatch, H100, "--model", "no-such-model")
    assert isinstance(missing.exception, ModelNotFoundError)
    assert "llama-3.1-8b" in missing.exception.hint
    scheme = on(monkeypatch, H100, "--model", "llama-2-7b", "--scheme", "int3")
    assert isinstance(scheme.exception, UsageError)


def test_a_model_on_disk_is_planned_from_its_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from factory import write_gguf

    path = write_gguf(tmp_path / "tiny.gguf", "qwen2", tensor_type="Q4_1", tokenizer=False)
    result = on(monkeypatch, machine(), "--json", "--model", str(path))
    assert result.exit_code == 0, result.output
    data = record(result)
    assert data["model"]["spec"]["architecture"] == "qwen2"
    request = data["model"]["request"]
    assert (request["container"], request["stored_types"]) == ("gguf", ["Q4_1"])
    # The tied table counts twice: in 4 bits it lies beside the head.
    assert 0 < request["stored_bytes"] < 2 * path.stat().st_size
    assert data["plan"]["scheme"] == "stored"


def test_every_scheme_is_listed_with_bytes_speed_or_why_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    words = ("--model", "llama-3.1-8b", "--context", "4096")
    schemes = {
        row["scheme"]: row for row in record(on(monkeypatch, H100, "--json", *words))["schemes"]
    }
    assert list(schemes) == list(SCHEMES)
    assert schemes["nf4-dq"]["weight_bytes"] < schemes["nf4"]["weight_bytes"]
    assert schemes["int4"]["predicted_tok_per_s"] > schemes["int8"]["predicted_tok_per_s"] > 300
    assert "GGUF" in schemes["stored"]["refusal"] and schemes["stored"]["weight_bytes"] is None
    text = on(monkeypatch, machine("T4"), *words, "--scheme", "int8").stdout
    assert "Schemes, predicted" in text and "refused: fp8 needs SM 80" in text
    assert "calibrated at the first load" in text
    nowhere = on(monkeypatch, machine(), *words).stdout
    assert "nothing is known of how fast this device reads" in nowhere
    assert "held in 16 bits" in nowhere


def test_other_names_of_schemes_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    words = ("--json", "--model", "llama-3.1-8b", "--scheme", "w4a16")
    assert record(on(monkeypatch, H100, *words))["plan"]["scheme"] == "int4"


def test_an_export_is_planned_in_its_scheme_or_refused_as_its_load_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    spec = SHAPES["llama-3.2-1b"]
    request = dataclasses.replace(plain_request(spec), exported="nf4")
    looked = Subject(name="mine", identity="", spec=spec, request=request, known="file")
    monkeypatch.setattr(Subjects, "find", lambda *words: looked)
    found = record(on(monkeypatch, H100, "--model", "mine", "--json"))
    assert found["plan"]["scheme"] == "nf4"
    refused = on(monkeypatch, H100, "--model", "mine", "--scheme", "int8", "--json").exception
    assert isinstance(refused, PlanError) and "int8 cannot be made of it" in refused.message
