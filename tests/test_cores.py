"""Pieces of work in threads: all of them, errors, torch's threads as they were."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from quantchat.cores import each
from quantchat.quant.rounding import int4_group, int8_channel


@pytest.fixture(params=[1, 3])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.mark.parametrize("count", [0, 1, 5, 40])
def test_every_item_is_worked_on_once(threads: int, count: int) -> None:
    found: list[int] = []
    each(found.append, range(count))
    assert sorted(found) == list(range(count))
    assert torch.get_num_threads() == threads


def test_what_fails_is_raised(threads: int) -> None:
    def work(number: int) -> None:
        if number == 7:
            raise ValueError("seven")

    with pytest.raises(ValueError, match="seven"):
        each(work, range(20))
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize("inference", [False, True])
def test_roundings_are_the_same_in_any_number_of_threads(inference: bool) -> None:
    weight = torch.randn(1200, 1024, generator=torch.Generator().manual_seed(1))
    before, made = torch.get_num_threads(), []
    try:
        for count in (1, 3):
            torch.set_num_threads(count)
            with torch.inference_mode(inference):
                made.append((int4_group(weight, 64), int8_channel(weight)))
    finally:
        torch.set_num_threads(before)
    for one, other in zip(*made, strict=True):
        for name, values in one.tensors().items():
            assert torch.equal(values, other.tensors()[name]), name
