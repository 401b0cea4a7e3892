"""Scripted engines keep their rate, and the screen's cost is measured on the real app."""

import json
import sys
from collections.abc import Iterator

import pytest
from click.testing import CliRunner

from quantchat.bench.paced import PacedEngine, loops_of
from quantchat.bench.scripted import ScriptedEngine, long_answer
from quantchat.cli import bench_ui, bench_ui_search
from quantchat.cli.bench import command
from quantchat.cli.bench_ui_growth import slope
from quantchat.engine.api import Engine
from quantchat.events import Done, Event, Loaded, Token
from quantchat.requests import ChatRequest, LoadRequest, Message


@pytest.fixture(autouse=True)
def switch_interval() -> Iterator[None]:
    """An engine thread shortens it for the whole process."""
    before = sys.getswitchinterval()
    yield
    sys.setswitchinterval(before)


def answered(engine: Engine, count: int) -> list[Event]:
    events: list[Event] = []
    while sum(isinstance(event, Done) for event in events) < count:
        events += engine.wait(1.0)
    return events


def said(events: list[Event], slot: str) -> str:
    return "".join(e.text for e in events if isinstance(e, Token) and e.slot == slot)


def ask(slot: str = "main", max_tokens: int = 0) -> ChatRequest:
    return ChatRequest(slot=slot, messages=(Message("user", "?"),), max_tokens=max_tokens)


def test_the_script_is_said_whole_and_no_faster_than_asked() -> None:
    engine = ScriptedEngine("abcdefghij" * 4, 200.0)
    engine.load(LoadRequest(model="any"))
    assert isinstance(engine.drain()[0], Loaded)
    request_id = engine.chat(ask())
    events = answered(engine, 1)
    done = events[-1]
    assert isinstance(done, Done) and done.request_id == request_id
    assert done.text == "abcdefghij" * 4 == said(events, "main")
    assert done.metrics.completion_tokens == 10 and done.metrics.e2e_s >= 10 / 200.0


def test_two_scripts_are_said_beside_each_other() -> None:
    engine = ScriptedEngine(["left " * 8, "right " * 8], 400.0)
    engine.chat(ask("left"))
    engine.chat(ask("right"))
    events = answered(engine, 2)
    assert said(events, "left") == "left " * 8 and said(events, "right") == "right " * 8
    slots = [event.slot for event in events if isinstance(event, Token)]
    assert "right" in slots[: len(slots) // 2]


def test_a_paced_answer_takes_its_time_and_stops_when_told() -> None:
    engine = PacedEngine("one two three ", 500.0)
    try:
        engine.load(LoadRequest(model="any"))
        engine.chat(ask(max_tokens=50))
        events = answered(engine, 1)
        done = events[-1]
        assert isinstance(done, Done) and done.finish_reason == "length"
        assert done.metrics.completion_tokens == 50 and done.text == said(events, "main")
        assert 0 < done.metrics.decode_tok_per_s < 505
        request_id = engine.chat(ask(max_tokens=100_000))
        engine.wait(1.0)
        engine.cancel(request_id)
        done = answered(engine, 1)[-1]
        assert isinstance(done, Done) and done.finish_reason == "cancelled"
    finally:
        engine.close()
    assert loops_of(1e-3) > loops_of(1e-4) > 0


def test_the_long_answer_has_what_is_hard_to_draw() -> None:
    text = long_answer()
    assert text.count("\n- ") == 40 and text.count("\n| row") == 30
    code = text.split("```")[1]
    assert code.startswith("python\n") and len(code.strip().splitlines()) == 301


@pytest.mark.parametrize("streams", [1, 2])
def test_a_small_conversation_is_drawn_and_measured(
    streams: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench_ui, "long_answer", lambda code_lines: long_answer(20)[-1600:])
    words = ("--only", "conversation", "--rate", "400", "--history", "4")
    done = CliRunner().invoke(
        command, ("ui", *words, "--streams", str(streams)), catch_exceptions=False
    )
    record = json.loads(done.stdout.strip().splitlines()[-1])
    assert record["decode"] is None
    views = [each["view"] for each in record["conversation"]]
    assert views == (["chat"] if streams == 1 else ["tokens", "markdown"])
    for drawn in record["conversation"]:
        assert drawn["messages"] == 4
        screen = drawn["screen"]
        assert 0 <= screen["lag_p50_ms"] <= screen["lag_p99_ms"] <= screen["lag_max_ms"]
        assert screen["flushes"] >= 2 and screen["drawn_bytes"] > 1000
        assert screen["answer_s"] >= 400 / 400


def test_what_the_app_costs_beside_a_card_is_what_is_left_of_the_rate(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bench_ui, "PACED_S", 0.3)
    words = ("--only", "pace", "--pace", "400", "--runs", "1", "--streams", "2")
    done = CliRunner().invoke(command, ("ui", *words), catch_exceptions=False)
    (cost,) = json.loads(done.stdout.strip().splitlines()[-1])["pace"]
    assert cost["streams"] == 2 and cost["tokens"] == 120
    plain, app = cost["plain_tok_per_s"]["median"], cost["app_tok_per_s"]["median"]
    assert 0 < plain < 410 and cost["kept"]["median"] == pytest.approx(app / plain)
    assert "the app costs" in done.stdout and "two streams" in done.stdout


def test_memory_is_watched_over_messages() -> None:
    words = ("ui", "--only", "memory", "--messages", "40")
    done = CliRunner().invoke(command, words, catch_exceptions=False)
    grown = json.loads(done.stdout.strip().splitlines()[-1])["memory"]
    assert grown["messages"] == 40 and grown["text_bytes"] > 20 * 1000
    assert len(grown["resident_bytes"]) == 11 and min(grown["resident_bytes"]) > 2**20


def test_keys_typed_into_the_picker_are_timed_until_their_list_is_drawn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bench_ui_search, "TYPED", ("7-b", "x y"))
    monkeypatch.setattr(bench_ui_search, "BETWEEN_S", (0.01,))
    words = ("ui", "--only", "search", "--results", "300", "--runs", "1")
    done = CliRunner().invoke(command, words, catch_exceptions=False)
    record = json.loads(done.stdout.strip().splitlines()[-1])
    assert record["memory"] is None
    keys = record["search"]
    assert keys["results"] == 300 and (keys["columns"], keys["lines"]) == (200, 50)
    assert keys["answer_ms"]["samples"] == keys["loop_cpu_ms"]["samples"] == 12
    assert 0 < keys["answer_ms"]["lowest"] <= keys["answer_ms"]["highest"]
    assert 0 <= keys["late"] <= 12 and f"{keys['late']} over 50 ms" in done.stdout


def test_slopes_are_those_of_lines() -> None:
    assert slope([5, 7, 9, 11]) == pytest.approx(2)
    assert slope([4, 4, 4]) == 0 and slope([3]) == 0
