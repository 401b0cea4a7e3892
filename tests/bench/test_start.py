"""Starts: a folder that looks like a model, weights out of the packed cache, phases that add up."""

import json
import sys
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from bench_subjects import TINY
from click.testing import CliRunner

from quantchat import paths
from quantchat.bench import first_token, random_folder, random_model, start
from quantchat.bench.start import Start, start_of
from quantchat.checkpoints.facts import Facts
from quantchat.cli.bench import command
from quantchat.engine.loading import read_tokenizer
from quantchat.errors import EngineError, QuantchatError, UsageError
from quantchat.model.config_hf import spec_from_config
from quantchat.model.families import open_model
from quantchat.requests import LoadRequest
from quantchat.shapes import SHAPES


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(random_model, "SHAPES", MappingProxyType({**SHAPES, "tiny": TINY}))
    return random_folder.random_folder("tiny")


@pytest.mark.parametrize("name", list(SHAPES))
def test_the_config_says_the_shape(name: str) -> None:
    config = Facts(Path("config.json"), random_folder._config(SHAPES[name]))
    assert spec_from_config(config, has_head=not SHAPES[name].tied_head) == SHAPES[name]


def test_the_folder_is_a_whole_model_that_takes_no_room(tiny: Path) -> None:
    source = open_model(tiny)
    try:
        assert source.spec == TINY
        tokenizer = read_tokenizer(source, tiny)
        text = "Why is the sky blue?"
        ids = tokenizer.encode(text, add_bos=False)
        assert b"".join(map(tokenizer.token_bytes, ids)).decode() == text
        assert len({tokenizer.shown(n) for n in range(256, TINY.vocab)}) == TINY.vocab - 256
        first = source.checkpoint.identity()
    finally:
        source.close()
    file = tiny / "model.safetensors"
    assert file.stat().st_size > 2 * TINY.parameters
    if sys.platform == "linux":
        assert file.stat().st_blocks * 512 < 2 * TINY.parameters / 4
    # Written once: what the packed cache knows it by stays.
    assert random_folder.random_folder("tiny") == tiny
    source = open_model(tiny)
    source.close()
    assert source.checkpoint.identity() == first


@pytest.mark.parametrize("scheme", ["int4", "int8"])
def test_a_start_takes_the_random_weights_from_the_packed_cache(tiny: Path, scheme: str) -> None:
    request = {"model": str(tiny), "scheme": scheme, "kv": "16bit", "device": "cpu"}
    random_folder.fill_packed("tiny", LoadRequest(**request))
    (file,) = paths.packed_dir().glob("*.safetensors")
    written = file.stat().st_mtime_ns, file.stat().st_size
    random_folder.fill_packed("tiny", LoadRequest(**request))
    facts = json.loads(json.dumps(first_token.first_token(request)))
    assert list(paths.packed_dir().glob("*.safetensors")) == [file]
    assert file.stat().st_size == written[1]
    assert any("from the cache" in reason for reason in facts["reasons"])
    assert "quantize" not in dict(facts["phases"])
    begun = start_of(facts["main_s"] - 0.25, facts)
    assert begun.total_s == pytest.approx(sum(seconds for _, seconds in begun.phases), abs=0.05)
    assert dict(begun.phases)["interpreter"] == pytest.approx(0.25)
    assert all(seconds >= 0 for _, seconds in begun.phases)


def test_a_scheme_that_keeps_nothing_packed_is_refused(tiny: Path) -> None:
    with pytest.raises(UsageError, match="nothing to start from"):
        random_folder.fill_packed("tiny", LoadRequest(model=str(tiny), scheme="fp16", device="cpu"))


def facts_of(seconds: float) -> dict[str, Any]:
    return {
        "main_s": 10.0,
        "asked_s": 10.5,
        "loaded_s": 10.5 + 3 * seconds + 0.1,
        "started_s": 10.7 + 3 * seconds,
        "token_s": 11.0 + 3 * seconds,
        "phases": [["import", seconds], ["read", 2 * seconds]],
        "prompt_tokens": 7,
        "scheme": "int4 group 64",
        "kv": "16bit",
        "device": "cpu",
        "device_name": "a machine",
        "weight_bytes": 2**30,
        "reasons": ["packed weights from the cache"],
    }


def test_phases_add_up_to_the_total() -> None:
    found = start_of(9.0, facts_of(1.0))
    assert [name for name, _ in found.phases] == [
        *("interpreter", "app imports", "import", "read", "hand over", "template", "prefill")
    ]
    assert found.total_s == pytest.approx(5.0)
    assert sum(seconds for _, seconds in found.phases) == pytest.approx(found.total_s)


def test_the_command_counts_all_but_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    took = iter([9.0, 1.0, 2.0, 4.0])
    dropped: list[Path] = []

    def one(request: dict[str, str]) -> tuple[Start, dict[str, Any]]:
        facts = facts_of(next(took))
        return start_of(9.0, facts), facts

    monkeypatch.setattr(start, "_start", one)
    monkeypatch.setattr(start, "_weight_files", lambda model: [tmp_path / "a"])
    monkeypatch.setattr(start, "_forget_files", lambda files: dropped.extend(files))
    monkeypatch.setattr(start.os, "posix_fadvise", print, raising=False)
    words = ["start", "-m", "x", "--runs", "3", "--cold-files"]
    done = CliRunner().invoke(command, words, catch_exceptions=False)
    record = json.loads(done.stdout.strip().splitlines()[-1])
    assert record["total_s"]["median"] == pytest.approx(8.0)
    assert (record["total_s"]["lowest"], record["total_s"]["samples"]) == (pytest.approx(5.0), 3)
    assert record["first"]["total_s"] == pytest.approx(29.0)
    assert dict(record["phases_s"])["read"]["median"] == pytest.approx(4.0)
    assert record["from_packed"] and len(dropped) == 3
    assert "first token after 8.00 s (5.00-14.00)" in done.stdout


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can be asked to forget")
def test_files_are_whole_after_they_are_forgotten(tmp_path: Path) -> None:
    file = tmp_path / "weights"
    file.write_bytes(b"x" * 100_000)
    start._forget_files([file])
    assert file.read_bytes() == b"x" * 100_000


def test_a_start_that_fails_says_why(tmp_path: Path) -> None:
    request = {"model": str(tmp_path / "none.gguf"), "scheme": "int4", "kv": "auto"}
    with pytest.raises(QuantchatError, match="none"):
        start._start(request)


def test_a_start_that_dies_gives_its_last_words(monkeypatch: pytest.MonkeyPatch) -> None:
    program = "import sys; sys.stderr.write('out of luck'); sys.exit(3)"
    monkeypatch.setattr(start, "CHILD", (sys.executable, "-c", program))
    with pytest.raises(EngineError, match="out of luck"):
        start._start({})
