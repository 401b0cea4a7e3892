"""`quantchat bench decode` from end to end on a shape that takes milliseconds."""

import json
import subprocess
import sys
from types import MappingProxyType

import pytest
from bench_subjects import TINY
from click.testing import CliRunner

from quantchat.bench import decode, own, random_model
from quantchat.bench.ceilings import Ceilings
from quantchat.bench.contest import GateResult, Job
from quantchat.bench.remote import RemoteEngine
from quantchat.cli.bench import command
from quantchat.errors import QuantchatError
from quantchat.shapes import SHAPES

CEILINGS = Ceilings(device="cpu", read_gb_per_s=10.0)


class Here(own.OwnEngine):
    """Stands for the engine's process, in this one."""

    def __init__(self, job: Job) -> None:
        super().__init__(job)
        self.job = job

    def __enter__(self) -> "Here":
        return self

    def __exit__(self, *error: object) -> None:
        pass


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(random_model, "SHAPES", MappingProxyType({**SHAPES, "tiny": TINY}))
    monkeypatch.setattr(decode, "RemoteEngine", Here)
    monkeypatch.setattr(decode, "remote_ceilings", lambda device, threads: CEILINGS)
    monkeypatch.setattr(decode, "SETTLE_S", 0.0)


WORDS = ("decode", "--shape", "tiny", "--device", "cpu", "--prompt-tokens", "5", "--tokens", "4")


@pytest.mark.usefixtures("in_process")
def test_the_last_line_is_one_object(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode.importlib.util, "find_spec", lambda module: None)
    words = (*WORDS, "--scheme", "fp16,int8,int4,stored", "--runs", "2")
    done = CliRunner().invoke(command, [*words, "--peers", "llama.cpp"], catch_exceptions=False)
    assert done.exit_code == 0
    lines = done.stdout.strip().splitlines()
    record = json.loads(lines[-1])
    rows = {row["variant"]: row for row in record["rows"]}
    assert list(rows) == ["fp16", "int8", "int4", "stored", "file"]
    assert "not installed" in rows["file"]["problem"]
    assert "GGUF" in rows["stored"]["problem"]
    for name in ("fp16", "int8", "int4"):
        row = rows[name]
        assert row["problem"] == "" and row["facts"]["gate"]["passed"]
        assert row["decode_ms"]["samples"] == 2
        assert row["decode_tok_per_s"] == pytest.approx(1e3 / row["decode_ms"]["median"])
        moved = row["facts"]["read_bytes"] + row["facts"]["kv_bytes_per_token"] * (5 + 2)
        assert row["gb_per_s"] == pytest.approx(moved / row["decode_ms"]["median"] / 1e6)
        assert row["floor_share"] == pytest.approx(row["gb_per_s"] / 10.0)
    assert rows["int4"]["facts"]["read_bytes"] < rows["int8"]["facts"]["read_bytes"]
    assert record["machine"]["software"]["torch"] and record["ceilings"]["read_gb_per_s"] == 10.0
    assert any(line.startswith("quantchat  16-bit") for line in lines)


@pytest.mark.usefixtures("in_process")
def test_a_red_gate_means_no_speed_and_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    red = GateResult(
        positions=5,
        layers=2,
        kl_mean=1.0,
        relative_error=1.0,
        same_top_share=0.0,
        worst_regret=1.0,
        passed=False,
    )
    monkeypatch.setattr(own, "check", lambda engine, subject, ids: red)
    done = CliRunner().invoke(command, [*WORDS, "--scheme", "fp16", "--json"])
    assert isinstance(done.exception, QuantchatError)
    (row,) = json.loads(done.stdout.strip().splitlines()[-1])["rows"]
    assert row["decode_ms"] is None and row["decode_tok_per_s"] == 0.0
    assert row["problem"].startswith("wrong")


@pytest.mark.usefixtures("in_process")
@pytest.mark.parametrize(
    ("words", "match"),
    [
        (("--peers", "mystery"), "unknown peer"),
        (("--model", "starter"), "exclude each other"),
        (("--scheme", ","), "no scheme"),
        (("--tokens", "500"), "more than the model"),
    ],
)
def test_words_that_make_no_sense(words: tuple[str, ...], match: str) -> None:
    done = CliRunner().invoke(command, [*WORDS, *words])
    assert isinstance(done.exception, QuantchatError)
    assert match in str(done.exception)


def test_an_engine_that_cannot_start_says_why_and_leaves_no_process() -> None:
    job = Job(
        kind="quantchat",
        variant="fp16",
        model="",
        shape="gpt-9",
        kv="auto",
        device="cpu",
        threads=1,
        context_tokens=16,
        gate_ids=(),
    )
    with pytest.raises(QuantchatError, match="unknown shape"):
        RemoteEngine(job)


def test_a_process_that_dies_is_an_error_with_its_last_words(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from quantchat.bench import remote as module

    started = subprocess.Popen

    def dying(words: list[str], **options: object) -> object:
        return started(
            [sys.executable, "-c", "import sys; sys.stderr.write('out of luck'); sys.exit(3)"],
            **options,
        )

    monkeypatch.setattr(module.subprocess, "Popen", dying)
    with pytest.raises(QuantchatError, match="out of luck"), module.Remote({"do": "x"}) as remote:
        remote.answer()
