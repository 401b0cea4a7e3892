"""Which row of a captured step is whose, without a card: buffers and graphs are stood in for."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("triton")

import torch

from quantchat.engine.graph_runner import ROW_BUCKETS, GraphRunner
from quantchat.engine.sequence import Sequence
from quantchat.requests import Sampling


class Rows:
    """Stands for a step's buffers: each row picks its sequence's name and the token's number."""

    def __init__(self) -> None:
        self.seats: list[tuple[str, int] | None] = [None] * ROW_BUCKETS[-1]
        self.ring: dict[tuple[int, int], tuple[str, int]] = {}

    def clear(self) -> None:
        self.seats = [None] * len(self.seats)

    def seat(self, row: int, sequence: Any, tokens: list[int]) -> None:
        self.seats[row] = sequence.name, sequence.draws_of(len(tokens))

    def unseat(self, row: int) -> None:
        self.seats[row] = None

    def put_pages(self, row: int, start: int, pages: list[int]) -> None: ...

    def token(self, row: int, index: int) -> tuple[str, int]:
        return self.ring[index % 2, row]

    def step(self, rows: int) -> None:
        for row, seat in enumerate(self.seats[:rows]):
            if seat is not None:
                name, index = seat
                self.ring[index % 2, row] = name, index
                self.seats[row] = name, index + 1


class Graphs(dict[Any, Any]):
    """A graph of every variant."""

    def __init__(self, step: Callable[[int], None]) -> None:
        self._step = step

    def __contains__(self, variant: object) -> bool:
        return True

    def __missing__(self, variant: Any) -> Any:
        return SimpleNamespace(replay=lambda: self._step(variant.rows))


def answer(name: str) -> Any:
    return SimpleNamespace(
        name=name,
        pages=[1],
        tokens=[5],
        row=-1,
        finish=None,
        sampling=Sampling(),
        draws_of=lambda tokens: tokens - 1,
    )


@pytest.fixture
def runner(monkeypatch: pytest.MonkeyPatch) -> GraphRunner:
    event = SimpleNamespace(record=lambda: None, synchronize=lambda: None)
    monkeypatch.setattr(torch.cuda, "Event", lambda: event)
    made = GraphRunner.__new__(GraphRunner)
    rows = Rows()
    made._buffers = rows  # type: ignore[assignment]
    made._rows = [None] * ROW_BUCKETS[-1]
    made._indices = [0] * ROW_BUCKETS[-1]
    made._pages_written = [0] * ROW_BUCKETS[-1]
    made._pending = None
    made._graphs = Graphs(rows.step)
    return made


def take(pairs: list[tuple[Sequence, int]], picked: dict[str, list[tuple[str, int]]]) -> None:
    for each, token in pairs:
        sequence: Any = each
        if sequence.finish is None:
            sequence.tokens.append(token)
            picked.setdefault(sequence.name, []).append(token)  # type: ignore[arg-type]


@pytest.mark.parametrize("leaver", ["a", "b", "c"])
def test_answers_go_on_as_they_were_when_one_of_them_ends(runner: GraphRunner, leaver: str) -> None:
    answers = {name: answer(name) for name in "abc"}
    picked: dict[str, list[tuple[str, int]]] = {}
    live = list(answers.values())
    for step in range(12):
        if step == 4:
            gone = answers[leaver]
            gone.finish = "stop"
            live.remove(gone)
            runner.leave(gone)
        if step == 8:
            live.append(answer("late"))
        take(runner.decode(tuple(live)), picked)
    take(runner.flush(), picked)
    for each in live:
        name, tokens = each.name, picked[each.name]
        assert tokens == [(name, i) for i in range(len(tokens))], name
        assert len(tokens) == (4 if name == "late" else 12)


def test_an_answer_that_leaves_and_comes_back_goes_on(runner: GraphRunner) -> None:
    picked: dict[str, list[tuple[str, int]]] = {}
    a, b = answer("a"), answer("b")
    for live in ((a, b), (a, b)):
        take(runner.decode(live), picked)
    take(runner.flush(), picked)
    runner.leave(a)
    take(runner.decode((b,)), picked)
    take(runner.flush(), picked)
    for _ in range(3):
        take(runner.decode((b, a)), picked)
    take(runner.flush(), picked)
    assert picked == {"a": [("a", i) for i in range(5)], "b": [("b", i) for i in range(6)]}
