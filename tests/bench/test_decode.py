"""`quantchat bench decode` from end to end on a shape that takes milliseconds."""

import dataclasses
import json
import subprocess
import sys
from types import MappingProxyType
from typing import Any

import pytest
from bench_subjects import TINY, job
from click.testing import CliRunner, Result

from quantchat.bench import decode, own, peers, random_model, remote
from quantchat.bench.ceilings import Ceilings
from quantchat.bench.contest import GateResult, Job, RunTimes, run_times
from quantchat.bench.record import KernelGate
from quantchat.bench.remote import RemoteEngine
from quantchat.cli.bench import command
from quantchat.errors import EngineError, QuantchatError
from quantchat.shapes import SHAPES

CEILINGS = Ceilings(device="cpu", read_gb_per_s=10.0)


class Here(own.OwnEngine):
    """Stands for the engine's process, in this one."""

    def __init__(self, job: Job, *, budget_s: float | None = None) -> None:
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


WORDS = ("decode", "--shape", "tiny", "--device", "cpu", "--context", "5", "--tokens", "4")


def run_bench(*words: str) -> tuple[list[str], dict[str, Any], Result]:
    done = CliRunner().invoke(command, [*WORDS, *words], catch_exceptions=False)
    lines = done.stdout.strip().splitlines()
    return lines, json.loads(lines[-1]), done


@pytest.mark.usefixtures("in_process")
def test_the_last_line_is_one_object(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers.importlib.util, "find_spec", lambda module: None)
    lines, record, done = run_bench(
        *("--scheme", "fp16,int8,int4,stored", "--runs", "2", "--peers", "all")
    )
    assert done.exit_code == 0
    ours = {engine["variant"]: engine for engine in record["engines"][:4]}
    assert list(ours) == ["fp16", "int8", "int4", "stored"]
    assert "GGUF" in ours["stored"]["problem"] and ours["stored"]["rows"] == []
    others = record["engines"][4:]
    kinds = {engine["engine"] for engine in others}
    assert kinds == {peer.kind for peer in peers.PEERS.values()}
    assert all("not installed" in engine["problem"] for engine in others)
    for name in ("fp16", "int8", "int4"):
        engine = ours[name]
        facts, (row,) = engine["facts"], engine["rows"]
        assert engine["problem"] == "" and facts["gate"]["passed"]
        assert facts["gate"]["steps"] > 0
        step = row["step_ms"]
        assert step["samples"] == 2 and step["lowest"] <= step["median"] <= step["highest"]
        assert row["tok_per_s"] == pytest.approx(1e3 / step["median"])
        # Two steps are timed, those that see 7 and 8 tokens.
        moved = facts["read_bytes"] + facts["kv_bytes_per_token"] * 7.5
        assert row["step_bytes"] == pytest.approx(moved)
        assert row["gb_per_s"] == pytest.approx(moved / step["median"] / 1e6)
        assert row["floor_share"] == pytest.approx(row["gb_per_s"] / 10.0)
        assert row["floor_ms"] == pytest.approx(moved / 10.0 / 1e6)
    assert ours["int4"]["facts"]["read_bytes"] < ours["int8"]["facts"]["read_bytes"]
    assert record["machine"]["software"]["torch"] and record["ceilings"]["read_gb_per_s"] == 10.0
    assert record["kernel_gate"] is None
    assert any(line.startswith("quantchat  16-bit") for line in lines)


@pytest.mark.usefixtures("in_process")
def test_ceilings_come_first_then_gates_then_rows() -> None:
    lines, _, _ = run_bench("--scheme", "int8", "--runs", "1")
    assert lines[0].startswith("cpu measured: reads 10.0 GB/s")
    assert lines[1].startswith("gate quantchat int8: passed")
    table = next(n for n, line in enumerate(lines) if line.startswith("engine"))
    assert table > 1 and lines[table + 1].startswith("quantchat  int8")


@pytest.mark.usefixtures("in_process")
def test_each_case_is_told_as_soon_as_it_is_measured() -> None:
    words = [*WORDS, "--scheme", "int8", "--runs", "1", "--prompt", "3"]
    told = [line for line in CliRunner().invoke(command, words).stderr.splitlines() if "ms" in line]
    assert len(told) == 2
    assert told[0].startswith("quantchat int8, decode at") and "ms/step" in told[0]
    assert told[1].startswith("quantchat int8, prompt 3 tokens: first token")


@pytest.mark.usefixtures("in_process")
def test_contexts_rows_prompts_and_kv_are_crossed() -> None:
    lines, record, _ = run_bench(
        *("--scheme", "int8", "--kv", "16bit,int8", "--context", "9,5", "--rows", "1,2"),
        *("--prompt", "3,20", "--runs", "1"),
    )
    assert [engine["kv"] for engine in record["engines"]] == ["16bit", "int8"]
    for engine in record["engines"]:
        cases = [row["case"] for row in engine["rows"]]
        shapes = [(c["kind"], c["context_tokens"], c["rows"], c["tokens"]) for c in cases]
        assert shapes == [
            *(("decode", 5, 1, 4), ("decode", 5, 2, 4), ("decode", 9, 1, 4), ("decode", 9, 2, 4)),
            *(("prompt", 3, 1, 1), ("prompt", 20, 1, 1)),
        ]
        for row in engine["rows"]:
            assert row["prefill_ms"]["median"] > 0
            assert (row["step_ms"] is None) == (row["case"]["kind"] == "prompt")
        one, two = engine["rows"][:2]
        kv = engine["facts"]["kv_bytes_per_token"]
        assert two["step_bytes"] - one["step_bytes"] == pytest.approx(kv * 7.5)
        assert two["tok_per_s"] == pytest.approx(2e3 / two["step_ms"]["median"])
    narrow, wide = (engine["facts"]["kv_bytes_per_token"] for engine in record["engines"][::-1])
    assert narrow < wide
    (prompts,) = [n for n, line in enumerate(lines) if "first token ms" in line]
    assert [line.split()[3] for line in lines[prompts + 1 : -1]][:4] == ["5", "9", "3", "20"]


@pytest.mark.usefixtures("in_process")
def test_a_case_that_fails_leaves_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    run = own.OwnEngine.run

    def short_of_rows(self: Any, prompt: list[int], tokens: int, rows: int = 1) -> Any:
        if rows > 1:
            raise EngineError("one row is all it has")
        return run(self, prompt, tokens, rows)

    monkeypatch.setattr(Here, "run", short_of_rows)
    lines, record, done = run_bench("--scheme", "fp16", "--rows", "1,2", "--runs", "1")
    one, two = record["engines"][0]["rows"]
    assert one["problem"] == "" and one["tok_per_s"] > 0
    assert "one row" in two["problem"] and two["step_ms"] is None
    assert any("decode at 5 tokens, 2 rows: one row is all" in line for line in lines)
    assert done.exit_code == 0


@pytest.mark.usefixtures("in_process")
def test_a_red_gate_means_no_speed_and_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    red = GateResult(
        positions=5,
        layers=2,
        steps=1,
        kl_mean=1.0,
        relative_error=1.0,
        same_top_share=0.0,
        worst_regret=1.0,
        regret_limit=0.05,
        passed=False,
    )
    monkeypatch.setattr(own, "check", lambda engine, subject, ids: red)
    done = CliRunner().invoke(command, [*WORDS, "--scheme", "fp16", "--json"])
    assert isinstance(done.exception, QuantchatError)
    (line,) = done.stdout.strip().splitlines()
    (engine,) = json.loads(line)["engines"]
    assert engine["rows"] == [] and engine["problem"].startswith("wrong")


@pytest.mark.usefixtures("in_process")
def test_a_wrong_kernel_means_that_nothing_is_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    first = decode._first_plan

    def with_kernels(*words: Any) -> Any:
        return dataclasses.replace(first(*words), triton=True)

    gate = KernelGate(cases=3, failures=("norm 3x4: 1.0 > 0.1",))
    monkeypatch.setattr(decode, "_first_plan", with_kernels)
    monkeypatch.setattr(decode, "_checked", lambda *words: gate)
    done = CliRunner().invoke(command, [*WORDS, "--scheme", "fp16"])
    assert isinstance(done.exception, QuantchatError)
    record = json.loads(done.stdout.strip().splitlines()[-1])
    assert record["engines"] == [] and record["kernel_gate"]["failures"]
    assert "gate kernels: 2 of 3 cases agree" in done.stdout


@pytest.mark.usefixtures("in_process")
@pytest.mark.parametrize(
    ("words", "match"),
    [
        (("--peers", "mystery"), "unknown peer"),
        (("--model", "starter"), "exclude each other"),
        (("--scheme", ","), "names nothing"),
        (("--tokens", "500"), "more than the model"),
        (("--prompt", "256"), "more than the model"),
        (("--context", "5,x"), "is no number"),
        (("--rows", "0"), "is no number"),
        (("--context", ","), "names nothing"),
    ],
)
def test_words_that_make_no_sense(words: tuple[str, ...], match: str) -> None:
    done = CliRunner().invoke(command, [*WORDS, *words])
    assert isinstance(done.exception, QuantchatError)
    assert match in str(done.exception)


def test_a_peer_that_takes_too_long_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "WORKER", (sys.executable, "-c", "import time; time.sleep(60)"))
    with (
        pytest.raises(EngineError, match="more than 0 s in all"),
        remote.Remote({"do": "x"}, budget_s=0.3) as peer,
    ):
        peer.answer()
    with pytest.raises(EngineError, match="more than 0 s in all"):
        peer.ask({"do": "peak"})
    assert peer._process.poll() is not None


def test_an_engine_goes_on_after_an_order_that_failed() -> None:
    import io

    from quantchat.bench import worker

    class Engine:
        facts = dataclasses.make_dataclass("F", [("device", str)])("cpu")

        def run(self, prompt: list[int], tokens: int, rows: int) -> RunTimes:
            if rows > 1:
                raise EngineError("no")
            return run_times(0.0, [1.0, 2.0, 4.0][:tokens], tokens, [5, 6, 7])

        def peak_bytes(self) -> int:
            return 7

    orders = [
        {"do": "load", "job": job("quantchat", "fp16").as_json()},
        {"do": "run", "prompt": [1], "tokens": 3, "rows": 2},
        {"do": "run", "prompt": [1], "tokens": 3, "rows": 1},
        {"do": "peak"},
    ]
    said = io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(worker.ENGINES, "quantchat", lambda job: Engine())
        worker.serve(io.StringIO("".join(json.dumps(o) + "\n" for o in orders)), said)
    answers = [json.loads(line) for line in said.getvalue().splitlines()]
    assert [answer["ok"] for answer in answers] == [True, False, True, True]
    times = answers[2]["times"]
    assert (times["prefill_s"], times["decode_s"], times["decode_steps"]) == (1.0, 2.0, 1)


def test_an_engine_that_cannot_start_says_why_and_leaves_no_process() -> None:
    with pytest.raises(QuantchatError, match="unknown shape"):
        RemoteEngine(job("quantchat", "fp16", shape="gpt-9"))


def test_a_process_that_dies_is_an_error_with_its_last_words(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    started = subprocess.Popen

    def dying(words: list[str], **options: object) -> object:
        return started(
            [sys.executable, "-c", "import sys; sys.stderr.write('out of luck'); sys.exit(3)"],
            **options,
        )

    monkeypatch.setattr(remote.subprocess, "Popen", dying)
    with pytest.raises(QuantchatError, match="out of luck"), remote.Remote({"do": "x"}) as dead:
        dead.answer()


@pytest.mark.usefixtures("in_process")
def test_a_first_scheme_that_does_not_run_leaves_the_rest() -> None:
    _, record, _ = run_bench("--scheme", "stored,int8", "--runs", "1")
    stored, int8 = record["engines"]
    assert "GGUF" in stored["problem"] and int8["rows"][0]["tok_per_s"] > 0
    done = CliRunner().invoke(command, [*WORDS, "--scheme", "stored"])
    assert isinstance(done.exception, QuantchatError) and "GGUF" in str(done.exception)
