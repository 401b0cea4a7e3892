"""The scripted engine keeps its rate, and the screen's cost is measured on the real app."""

import json

import pytest
from click.testing import CliRunner

from quantchat.bench.scripted import ScriptedEngine, long_answer
from quantchat.cli import bench_ui
from quantchat.cli.bench import command
from quantchat.events import Done, Loaded, Token
from quantchat.requests import ChatRequest, LoadRequest, Message


def test_the_script_is_said_whole_and_no_faster_than_asked() -> None:
    engine = ScriptedEngine("abcdefghij" * 4, 200.0)
    engine.load(LoadRequest(model="any"))
    assert isinstance(engine.drain()[0], Loaded)
    request_id = engine.chat(ChatRequest(messages=(Message("user", "?"),)))
    events = []
    while not any(isinstance(event, Done) for event in events):
        events += engine.wait(1.0)
    done = events[-1]
    assert isinstance(done, Done) and done.request_id == request_id
    assert done.text == "abcdefghij" * 4 == "".join(e.text for e in events if isinstance(e, Token))
    assert done.metrics.completion_tokens == 10 and done.metrics.e2e_s >= 10 / 200.0


def test_the_long_answer_has_what_is_hard_to_draw() -> None:
    text = long_answer()
    assert text.count("\n- ") == 40 and text.count("\n| row") == 30
    code = text.split("```")[1]
    assert code.startswith("python\n") and len(code.strip().splitlines()) == 301


def test_a_small_conversation_is_drawn_and_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_ui, "TURNS", 4)
    monkeypatch.setattr(bench_ui, "long_answer", lambda code_lines: long_answer(20)[-1600:])
    words = ("ui", "--only", "conversation", "--rate", "400")
    done = CliRunner().invoke(command, words, catch_exceptions=False)
    record = json.loads(done.stdout.strip().splitlines()[-1])
    screen = record["conversation"]
    assert record["decode"] is None
    assert 0 <= screen["lag_p50_ms"] <= screen["lag_p99_ms"] <= screen["lag_max_ms"]
    assert screen["flushes"] >= 2 and screen["drawn_bytes"] > 1000
    assert screen["answer_s"] >= 400 / 400
