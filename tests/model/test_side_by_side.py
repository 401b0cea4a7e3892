"""Work in threads comes in order, bounded, and leaves nothing behind."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
import torch

from quantchat.model.side_by_side import in_turn


@pytest.fixture(params=[1, 3])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def test_results_come_in_order_and_no_more_than_asked_for(threads: int) -> None:
    begun: list[int] = []
    lock = threading.Lock()

    def work(number: int) -> int:
        with lock:
            begun.append(number)
        assert threads == 1 or torch.get_num_threads() == 1
        return number * number

    for place, found in enumerate(in_turn(work, range(20), 4)):
        assert found == place * place
        assert len(begun) <= place + threads
    assert sorted(begun) == list(range(20))
    assert torch.get_num_threads() == threads


def test_an_error_comes_in_its_turn_and_ends_all(threads: int) -> None:
    def work(number: int) -> int:
        if number == 2:
            raise ValueError("two")
        return number

    found: list[int] = []
    with pytest.raises(ValueError, match="two"):
        found.extend(in_turn(work, range(100), 4))
    assert not any(thread.name.startswith("weights") for thread in threading.enumerate())
    assert torch.get_num_threads() == threads


def test_who_stops_taking_leaves_nothing_under_way(threads: int) -> None:
    taken = in_turn(lambda number: number, range(1000), 4)
    assert next(taken) == 0
    taken.close()
    assert not any(thread.name.startswith("weights") for thread in threading.enumerate())
    assert torch.get_num_threads() == threads
