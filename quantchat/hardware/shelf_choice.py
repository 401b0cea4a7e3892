"""Which recommended model suits a machine best, by its plans; pure."""

from __future__ import annotations

from dataclasses import replace

from quantchat.errors import PlanError
from quantchat.hardware.execution import PlanRequest
from quantchat.hardware.facts import Facts
from quantchat.hardware.plan import plan
from quantchat.hub.shelf import SHELF, SHELF_CONTEXT_TOKENS, ShelfRow
from quantchat.shapes import SHAPES

IDLE_SHARE = 0.95
"""Of a device's memory that is free while no other program needs it."""
PROCESSOR_GIB = 4
"""Rows for wider cards write few tokens a second on a processor."""


def best_of_shelf(facts: Facts) -> ShelfRow | None:
    """The widest row that fits the machine once it is idle; None where none does."""
    idle = _idle(facts)
    return next((row for row in reversed(SHELF) if suits(idle, row)), None)


def suits(facts: Facts, row: ShelfRow) -> bool:
    """Whether a row's model fits in its scheme and its context, and is quick enough."""
    spec = SHAPES[row.alias]
    request = PlanRequest(
        scheme=row.scheme,
        context_tokens=min(SHELF_CONTEXT_TOKENS, spec.context),
        stored_bytes=spec.parameters * 2,
        stored_types=frozenset({"BF16"}),
    )
    try:
        made = plan(facts, spec, request)
    except PlanError:
        return False
    return made.fit.verdict == "fits" and (made.device == "cuda" or row.memory_gib <= PROCESSOR_GIB)


def _idle(facts: Facts) -> Facts:
    gpus = (replace(gpu, free_bytes=int(gpu.total_bytes * IDLE_SHARE)) for gpu in facts.gpus)
    ram_bytes = int(facts.cpu.ram_total_bytes * IDLE_SHARE)
    cpu = replace(facts.cpu, ram_free_bytes=max(ram_bytes, facts.cpu.ram_free_bytes))
    return replace(facts, gpus=tuple(gpus), cpu=cpu)
