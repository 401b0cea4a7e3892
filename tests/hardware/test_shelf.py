"""The shelf of recommended models: what it promises holds by the plan."""

from __future__ import annotations

import dataclasses

import pytest
from machines import GIB, card, machine

from quantchat.hardware.facts import Facts
from quantchat.hardware.shelf_choice import best_of_shelf, suits
from quantchat.hub.catalog import CATALOG
from quantchat.hub.shelf import SHELF, ShelfRow
from quantchat.quant.registry import SCHEMES
from quantchat.shapes import SHAPES


def with_card(gib: float, *, ram_gib: float = 16.0) -> Facts:
    """A machine whose desktop holds a quarter of a GiB of its card."""
    gpu = dataclasses.replace(
        card("4060Ti"), total_bytes=int(gib * GIB), free_bytes=int((gib - 0.25) * GIB)
    )
    return machine(gpu, ram_gib=ram_gib)


@pytest.mark.parametrize("alias", CATALOG)
def test_shapes_have_as_many_weights_as_was_published(alias: str) -> None:
    entry = CATALOG[alias]
    spec = SHAPES["smollm2-135m" if alias == "starter" else alias]
    assert spec.parameters == pytest.approx(entry.parameters, rel=1e-3)
    assert spec.context == entry.context_tokens


@pytest.mark.parametrize("row", SHELF, ids=lambda row: f"{row.memory_gib} GiB")
def test_a_card_of_the_class_holds_the_model_and_the_context(row: ShelfRow) -> None:
    assert suits(with_card(row.memory_gib * 0.97), row)
    assert not CATALOG[row.alias].gated and row.scheme in SCHEMES


def test_classes_rise_and_a_wider_card_is_used() -> None:
    sizes = [row.memory_gib for row in SHELF]
    assert len({row.alias for row in SHELF}) == len(SHELF)
    assert sizes == sorted(set(sizes)) and sizes[0] == 2 and sizes[-1] >= 48
    weights = [(SHAPES[row.alias].parameters, row.scheme == "int8") for row in SHELF]
    assert weights == sorted(set(weights))
    for row in SHELF:
        best = best_of_shelf(with_card(row.memory_gib * 0.97))
        assert best is not None and best.memory_gib >= row.memory_gib


def test_a_processor_gets_what_it_can_read_quickly_and_a_toy_nothing() -> None:
    best = best_of_shelf(machine(ram_gib=64.0))
    assert best is not None and best.memory_gib == 4
    assert best_of_shelf(machine(ram_gib=0.5)) is None
