"""The governor on machines made of formulas: quiet, busy, busy for a while, ever slower."""

from __future__ import annotations

from collections.abc import Callable

from quantchat.engine.threads import LONGEST_PAUSE, ThreadGovernor


def run(governor: ThreadGovernor, steps: int, cost_s: Callable[[int, int], float]) -> list[int]:
    used = []
    for step in range(steps):
        used.append(governor.threads)
        governor.took(cost_s(step, governor.threads))
    return used


def quiet(_: int, threads: int) -> float:
    return {2: 0.008, 1: 0.013}[threads]


def busy(_: int, threads: int) -> float:
    return {2: 0.100, 1: 0.015}[threads]


def test_a_quiet_machine_uses_all_cores_all_the_time() -> None:
    assert set(run(ThreadGovernor(2), 2000, quiet)) == {2}


def test_a_busy_neighbour_is_noticed_within_a_few_steps_and_tried_ever_more_rarely() -> None:
    governor = ThreadGovernor(2)
    run(governor, 50, quiet)
    used = run(governor, 3000, busy)
    assert used.index(1) <= 8
    assert used[20:].count(2) <= 10


def test_all_cores_come_back_when_the_neighbour_is_gone() -> None:
    governor = ThreadGovernor(2)
    run(governor, 50, quiet)
    run(governor, 500, busy)
    used = run(governor, LONGEST_PAUSE + 100, quiet)
    assert used[-1] == 2


def test_a_growing_context_is_not_a_neighbour() -> None:
    governor = ThreadGovernor(2)
    used = run(governor, 4000, lambda step, threads: quiet(step, threads) * (1 + step / 400))
    assert used.count(1) < 0.02 * len(used)
    assert used[-1] == 2


def test_one_core_has_nothing_to_choose() -> None:
    governor = ThreadGovernor(1)
    assert set(run(governor, 100, lambda step, _: 0.01 * (1 + step % 7))) == {1}


def test_many_cores_go_down_step_by_step() -> None:
    governor = ThreadGovernor(16)
    assert governor.options == (16, 15, 8)
    run(governor, 30, lambda _, threads: 0.1 / threads)
    used = run(governor, 200, lambda _, threads: {16: 0.2, 15: 0.01, 8: 0.02}[threads])
    assert used[-1] == 15
