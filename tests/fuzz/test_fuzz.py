"""A fixed slice of the fuzzer's inputs: three thousand, the same in every run."""

from __future__ import annotations

import tempfile
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest
from fuzz import in_memory, many
from fuzz_kinds import KINDS

SEED = 20
EACH = 33
"""Inputs for each percent of a kind's share."""
FEW = {"chat templates": 40, "dense and large": 8, "tokenizer.json": 120, "files beside it": 80}
"""Kinds whose inputs take longer."""
SLICE = {name: FEW.get(name, EACH * kind.share) for name, kind in KINDS.items()}
del SLICE["vocab.json, .model"]  # transformers' own readers, which take seconds to load


@pytest.fixture(autouse=True)
def traced() -> Iterator[None]:
    tracemalloc.start()
    yield
    tracemalloc.stop()


def test_the_slice_is_large_enough() -> None:
    assert sum(SLICE.values()) >= 3000


@pytest.mark.parametrize("name", SLICE)
def test_damage_is_an_error_of_ours_and_takes_little(name: str) -> None:
    with tempfile.TemporaryDirectory(dir=in_memory()) as folder:
        tally = many(name, SEED, SLICE[name], Path(folder) / "input")
    assert not tally.faults
    assert tally.results.total() == SLICE[name]
    assert tally.results.total() > tally.results["accepted"]
