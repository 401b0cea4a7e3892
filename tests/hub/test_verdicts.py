"""Verdicts of models on the hub and on disk, for the picker and for `quantchat probe`."""

from __future__ import annotations

import json
import math
import threading
from pathlib import Path

import factory
import packed_folders
import pytest
from click.testing import CliRunner
from fake_servers import FakeServer
from machines import GIB, ZEN5, machine

from quantchat.cli.models import command as models_command
from quantchat.cli.probe import command
from quantchat.engine.subjects import Subject, plain_request
from quantchat.errors import ModelNotFoundError
from quantchat.hardware.execution import PlanRequest
from quantchat.hardware.facts import Facts
from quantchat.hub.http import SourceError
from quantchat.settings.model import Settings
from quantchat.shapes import SHAPES
from quantchat.store.loads import MeasuredLoad, remember_load
from quantchat.tui.control.fits import Fits
from quantchat.tui.control.plan_fits import PlanFits, fits_of
from quantchat.tui.control.schemes import Held

CARD = machine("4060Ti", ram_gib=16.0)


def of_shape(name: str, facts: Facts = CARD, identity: str = "", **wishes: str) -> Fits:
    spec = SHAPES[name]
    request = plain_request(spec)
    subject = Subject(name=name, identity=identity, spec=spec, request=request, known="catalog")
    wish = PlanRequest(
        container=request.container,
        stored_bytes=request.stored_bytes,
        stored_types=request.stored_types,
        **wishes,  # type: ignore[arg-type]
    )
    return fits_of(name, subject, facts, wish)


@pytest.fixture
def ask(monkeypatch: pytest.MonkeyPatch) -> PlanFits:
    """A book on a machine with a card of 16 GiB."""
    monkeypatch.setattr("quantchat.hardware.probe.probe", lambda: CARD)
    return PlanFits(lambda: Settings())


def look(book: PlanFits, name: str, held: Held | None = None) -> Fits:
    return book.fits(name, held, threading.Event())


def test_each_context_up_to_the_models_own_has_its_verdict() -> None:
    found = of_shape("llama-3.1-8b", scheme="int4")
    assert [fit.context_tokens for fit in found.fits] == [
        *(4096, 8192, 16_384, 32_768, 65_536, 131_072)
    ]
    assert (found.scheme, found.kv, found.known) == ("int4", "16bit", "catalog")
    kv = [fit.kv_bytes for fit in found.fits]
    assert kv == sorted(kv) and kv[-1] > 16 * GIB
    verdicts = [fit.verdict for fit in found.fits]
    assert verdicts[0] == "fits" and verdicts[-1] == "too_large"
    assert not found.refusal and found.free_bytes == CARD.gpus[0].free_bytes
    for fit in found.fits:
        assert (fit.verdict == "too_large") == (fit.context_tokens > found.longest_context_tokens)
        assert fit.tok_per_s is not None and fit.speed_tokens == 1024 and not fit.measured
    odd = of_shape("qwen3-8b", scheme="int8")
    assert [fit.context_tokens for fit in odd.fits][-2:] == [32_768, 40_960]


def test_what_there_is_no_room_for_has_figures_and_the_way_out() -> None:
    found = of_shape("llama-2-13b", scheme="fp16")
    assert "are free" in found.refusal and "int4" in found.hint
    assert {fit.verdict for fit in found.fits} == {"too_large"}
    assert found.longest_context_tokens == 0 and found.fits[0].weight_bytes > 20 * GIB
    small = of_shape("llama-2-13b", machine("T4", ram_gib=4.0), scheme="fp8")
    assert "fp8 needs SM 80" in small.refusal and small.hint and not small.fits


def test_a_loaded_model_makes_room(ask: PlanFits) -> None:
    full = look(ask, "llama-3.1-8b")
    held = Held(device="cuda", device_name=CARD.gpus[0].name, size_bytes=GIB // 4)
    assert look(ask, "llama-3.1-8b", held).free_bytes == full.free_bytes + GIB // 4


def test_repositories_and_catalog(ask: PlanFits, hub: FakeServer, tmp_path: Path) -> None:
    path = factory.write_gguf(tmp_path / "tiny.Q4_1.gguf", "llama3", tensor_type="Q4_1")
    hub.repos["own/x"] = {path.name: path.read_bytes()}
    there, here = look(ask, "own/x"), look(ask, str(path))
    assert there.known == "header" and here.known == "file" and there.scheme == "stored"
    assert there.fits == here.fits and there.fits[-1].context_tokens == 256
    assert look(ask, "llama-3.1-8b").known == "catalog"


@pytest.mark.parametrize(
    ("layout", "words"),
    [
        ("awq", ""),
        ("ct nvfp4", "NVFP4 decoded and"),
        ("gptq 8 bits by rows", ""),
    ],
)
def test_what_is_encoded_anew_is_said(
    ask: PlanFits, hub: FakeServer, tmp_path: Path, layout: str, words: str
) -> None:
    case = {**packed_folders.EXACT, **packed_folders.ROUNDED}[layout]
    folder, _ = packed_folders.write_packed(tmp_path, case)
    hub.repos["own/x"] = {file.name: file.read_bytes() for file in folder.iterdir()}
    found = look(ask, "own/x")
    assert found.reencoded.startswith(words) and bool(found.reencoded) == bool(words)


def test_refusals_are_verdicts_and_missing_ones_errors(ask: PlanFits, hub: FakeServer) -> None:
    weights = {"model.safetensors": b"x" * 100}
    hub.repos["own/x"] = {"config.json": b'{"architectures": ["MambaForCausalLM"]}', **weights}
    found = look(ask, "own/x")
    assert "MambaForCausalLM is not supported" in found.refusal and "supported:" in found.hint
    assert not found.fits and found.total_bytes
    with pytest.raises(SourceError, match="does not exist"):
        look(ask, "own/none")
    with pytest.raises(ModelNotFoundError):
        look(ask, "no such word")


def measured(identity: str, **figures: float) -> MeasuredLoad:
    row = {
        "workspace_bytes": math.nan,
        "peak_bytes": math.nan,
        "tok_per_s": math.nan,
        "speed_tokens": 0,
        **figures,
    }
    return MeasuredLoad(
        identity=identity,
        scheme="int4",
        kv="16bit",
        device=CARD.gpus[0].name,
        context_tokens=8192,
        weight_bytes=5_000_000_000,
        kv_bytes=1_100_000_000,
        kv_bytes_per_token=131_072,
        measured="2026-01-01T00:00:00+00:00",
        version="0.1",
        **row,  # type: ignore[arg-type]
    )


def test_measured_figures_take_the_place_of_estimates() -> None:
    before = of_shape("llama-3.1-8b", identity="abc", scheme="int4")
    remember_load(measured("abc", tok_per_s=33.0, speed_tokens=5000, workspace_bytes=7e8))
    after = of_shape("llama-3.1-8b", identity="abc", scheme="int4")
    short, same, long = after.fits[:3]
    assert same.measured == {"weight_bytes", "kv_bytes", "workspace_bytes", "tok_per_s"}
    assert (same.weight_bytes, same.kv_bytes) == (5_000_000_000, 1_100_000_000)
    assert (same.workspace_bytes, same.tok_per_s, same.speed_tokens) == (7e8, 33.0, 5000)
    assert long.measured == {"weight_bytes", "kv_bytes", "tok_per_s"}
    assert long.kv_bytes == 131_072 * (16_384 + 16)
    assert long.workspace_bytes == before.fits[2].workspace_bytes
    assert "tok_per_s" not in short.measured and short.tok_per_s == before.fits[0].tok_per_s
    assert of_shape("llama-3.1-8b", identity="abc", scheme="int8").fits[0].measured == frozenset()
    assert of_shape("llama-3.1-8b", identity="other", scheme="int4").fits == before.fits


def test_a_measured_peak_can_change_the_verdict() -> None:
    remember_load(measured("abc", peak_bytes=15.5 * GIB))
    found = of_shape("llama-3.1-8b", identity="abc", scheme="int4")
    assert found.fits[1].verdict == "too_large" and found.fits[0].verdict == "fits"
    assert "load_peak_bytes" in found.fits[1].measured


@pytest.mark.parametrize("as_json", [True, False])
def test_probe_plans_a_repository(
    hub: FakeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, as_json: bool
) -> None:
    facts = machine(isa=ZEN5)
    monkeypatch.setattr("quantchat.hardware.probe.probe", lambda: facts)
    monkeypatch.setattr("quantchat.engine.bandwidth.cpu_read_bytes_per_s", lambda threads: 1e10)
    folder = factory.write_hf(tmp_path / "m", "llama", tokenizer=False, dtype="bfloat16")
    hub.repos["own/x"] = {file.name: file.read_bytes() for file in folder.iterdir()}
    words = ["--model", "own/x", *(["--json"] if as_json else [])]
    result = CliRunner().invoke(command, words, env={"COLUMNS": "200"})
    assert result.exit_code == 0, result.output
    if as_json:
        data = json.loads(result.stdout)
        assert data["model"]["origin"] == "hub" and data["plan"]["scheme"] == "fp16"
        assert data["contexts"][0]["verdict"] == "fits"
    else:
        assert "(on the hub)" in result.stdout and "Contexts in fp16 with 16bit KV" in result.stdout


def test_models_tells_what_fits_without_a_network(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("quantchat.hardware.probe.probe", lambda: CARD)
    result = CliRunner().invoke(models_command, ["--fit", "--json"])
    assert result.exit_code == 0, result.output
    catalog = {entry["alias"]: entry["fit"] for entry in json.loads(result.stdout)["catalog"]}
    assert all(catalog.values())
    assert catalog["qwen3-32b"]["refusal"] and not catalog["qwen3-8b"]["refusal"]
    text = CliRunner().invoke(models_command, ["--fit"]).stdout
    assert "int8 fits to" in text and "no: " in text and "tok/s" in text
    assert "fits to" not in CliRunner().invoke(models_command, []).stdout


def test_the_text_part_of_a_model_that_sees_is_listed_from_a_cache(tmp_path: Path) -> None:
    snapshot = tmp_path / "hf-cache" / "models--own--gemma" / "snapshots" / ("a" * 40)
    factory.write_hf(snapshot, "gemma3", tokenizer=False)
    config = json.loads((snapshot / "config.json").read_text())
    whole = {"architectures": ["Gemma3ForConditionalGeneration"], "text_config": config}
    (snapshot / "config.json").write_text(json.dumps(whole))
    result = CliRunner().invoke(models_command, ["--fit", "--json"])
    assert result.exit_code == 0, result.output
    (listed,) = json.loads(result.stdout)["on_disk"]
    assert (listed["name"], listed["origin"]) == ("own/gemma", "hf-cache")
    assert listed["fit"]["known"] == "file" and not listed["fit"]["refusal"]
