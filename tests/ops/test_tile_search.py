"""The search for tiles on a machine whose times are made up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest

from quantchat.errors import Cancelled
from quantchat.ops.tile_search import LinearShape, Tile, Trial, candidates, search

SM = 89


def shape(outputs: int, columns: int = 4096, code: str = "int4") -> LinearShape:
    return LinearShape(
        code=code,
        group_size=128 if code == "int4" else 0,
        outputs=outputs,
        columns=columns,
        gated=False,
        one_row=True,
    )


@dataclass
class Machine:
    """A step takes what its linears take; every timing costs the clock a second."""

    cost: dict[tuple[LinearShape, Tile], float] = field(default_factory=dict)
    broken: set[Tile] = field(default_factory=set)
    bound_s: float = 1000.0
    now_s: float = 0.0
    drift: float = 0.0
    """Seconds that a step gains with each timing."""
    timed: list[dict[LinearShape, Tile]] = field(default_factory=list)
    tried: list[LinearShape] = field(default_factory=list)

    def step_s(self, tiles: Mapping[LinearShape, Tile]) -> float:
        self.now_s += 1
        self.timed.append(dict(tiles))
        if self.broken & set(tiles.values()):
            raise RuntimeError("out of resource: registers")
        own = sum(self.cost.get(pair, 1.0) for pair in tiles.items())
        return own - self.drift * len(self.timed)

    def trial(self) -> Trial:
        return Trial(
            step_s=self.step_s,
            runs_not=lambda error: isinstance(error, RuntimeError),
            candidates=lambda shape: candidates(shape, SM),
            out_of_time=lambda: self.now_s >= self.bound_s,
            tried=self.tried.append,
        )


def start(*shapes: LinearShape) -> dict[LinearShape, Tile]:
    return {one: candidates(one, SM)[0] for one in shapes}


A, B = shape(28672), shape(6144)


def test_each_shape_gets_the_tile_that_makes_the_step_fastest() -> None:
    best_a, best_b = candidates(A, SM)[3], candidates(B, SM)[1]
    machine = Machine(cost={(A, best_a): 0.8, (B, best_b): 0.5, (B, candidates(B, SM)[2]): 0.7})
    found = search(start(A, B), machine.trial())
    assert found.tiles == {A: best_a, B: best_b}
    assert found.finished == {A, B}
    assert len(machine.tried) == sum(len(candidates(one, SM)) - 1 for one in (A, B))


def test_nothing_is_changed_for_less_than_the_noise() -> None:
    machine = Machine(cost={(A, tile): 0.998 for tile in candidates(A, SM)[1:]})
    assert search(start(A), machine.trial()).tiles == start(A)


def test_a_card_that_speeds_up_meanwhile_is_not_taken_for_a_better_tile() -> None:
    machine = Machine(drift=0.01)
    assert search(start(A, B), machine.trial()).tiles == start(A, B)


def test_tiles_that_do_not_run_are_skipped_and_other_errors_are_not() -> None:
    good, bad = candidates(A, SM)[4], candidates(A, SM)[1]
    machine = Machine(cost={(A, good): 0.5}, broken={bad})
    assert search(start(A), machine.trial()).tiles == {A: good}
    machine = Machine(broken={candidates(A, SM)[0]})
    with pytest.raises(RuntimeError):
        search(start(A), machine.trial())


def test_when_time_is_out_what_was_tried_enough_is_kept() -> None:
    second = candidates(A, SM)[1]
    machine = Machine(cost={(A, second): 0.5}, bound_s=4)
    found = search(start(A, B), machine.trial())
    assert found.tiles == {**start(A, B), A: second}
    assert found.finished == set()
    machine = Machine(cost={(A, second): 0.5}, bound_s=6)
    found = search(start(A, B), machine.trial())
    assert found.finished == {A}
    assert machine.now_s <= 6 + 1
    assert search(start(A), Machine(bound_s=0).trial()).tiles == start(A)


def test_all_shapes_have_their_likeliest_candidates_tried_first() -> None:
    machine = Machine()
    search(start(A, B), machine.trial())
    assert machine.tried[:4] == [A, B, A, B]


def test_it_stops_where_told_to() -> None:
    machine = Machine()

    def tried(shape: LinearShape) -> None:
        if len(machine.timed) > 3:
            raise Cancelled("loading was stopped")

    trial = machine.trial()
    stopping = Trial(
        step_s=trial.step_s,
        runs_not=lambda error: True,
        candidates=trial.candidates,
        out_of_time=trial.out_of_time,
        tried=tried,
    )
    with pytest.raises(Cancelled):
        search(start(A, B), stopping)
    assert len(machine.timed) == 4
