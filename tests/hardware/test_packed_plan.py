"""Plans for quantized folders: as stored where a kernel reads the codes, else what else and why."""

from __future__ import annotations

import pytest
from machines import ZEN5, machine

from quantchat.errors import PlanError
from quantchat.hardware.facts import Facts
from quantchat.hardware.plan import PlanRequest, plan
from quantchat.hardware.stored_types import PACKED_TYPES, runs_as_stored, stored_growth
from quantchat.shapes import SHAPES

LLAMA = SHAPES["llama-3.1-8b"]
CPU, T4, H100 = machine(isa=ZEN5), machine("T4"), machine("H100")


def request(kind: str, scheme: str = "auto", gib: float = 5.5) -> PlanRequest:
    return PlanRequest(
        scheme=scheme,
        container="safetensors",
        stored_bytes=int(gib * 2**30),
        stored_types=frozenset({kind, "BF16"}),
        context_tokens=4096,
    )


@pytest.mark.parametrize(
    ("facts", "kind", "scheme"),
    [
        (H100, "INT4-GROUPS", "stored"),
        (H100, "INT4-ACT-ORDER", "stored"),
        (H100, "INT8-ROWS", "stored"),
        (H100, "FP8-ROWS", "stored"),
        (H100, "NF4", "stored"),
        (H100, "LUT4", "stored"),
        (H100, "QOQ-INT4", "stored"),
        (H100, "ACT-ORDER", "fp16"),
        (H100, "FP8-BLOCKS", "fp16"),
        (H100, "MXFP4", "stored"),
        (H100, "NVFP4", "fp16"),
        (CPU, "MXFP4", "int8"),
        (H100, "BF16", "fp16"),
        (T4, "INT4-GROUPS", "stored"),
        (T4, "NF4", "int8"),
        (T4, "FP8-ROWS", "int8"),
        (CPU, "INT4-GROUPS", "stored"),
        (CPU, "INT4-ACT-ORDER", "stored"),
        (CPU, "INT8-ROWS", "stored"),
        (CPU, "NF4", "int8"),
        (CPU, "FP8-ROWS", "int8"),
        (CPU, "ACT-ORDER", "int8"),
    ],
)
def test_codes_run_as_stored_where_something_reads_them(
    facts: Facts, kind: str, scheme: str
) -> None:
    made = plan(facts, LLAMA, request(kind))
    assert made.scheme.name == scheme
    told = (*made.reasons, *made.refused)
    assert kind == "BF16" or any(kind in line for line in told)
    if scheme == "stored":
        assert any(op.op == f"linear {kind}" for op in made.ops)
        assert made.fit.weight_bytes >= 5.5 * 2**30


def test_a_plan_tells_that_codes_are_rounded_twice() -> None:
    made = plan(H100, LLAMA, request("ACT-ORDER", "int4"))
    assert any("decoded and encoded anew" in line for line in made.reasons)


@pytest.mark.parametrize("kind", ["NF4", "ACT-ORDER", "BF16", "FP8-ROWS"])
def test_as_stored_is_refused_where_nothing_reads_it(kind: str) -> None:
    with pytest.raises(PlanError, match="as stored") as caught:
        plan(CPU, LLAMA, request(kind, "stored"))
    assert caught.value.ways


@pytest.mark.parametrize("kind", sorted(PACKED_TYPES))
def test_every_kind_is_planned_on_every_machine(kind: str) -> None:
    for facts in (CPU, T4, H100):
        made = plan(facts, LLAMA, request(kind, gib=3))
        assert made.fit.verdict != "too_large" and made.ops


def test_growth_is_that_of_values_where_codes_are_not_read() -> None:
    assert (
        stored_growth(frozenset({"NF4"})) < 1.2 < 3 < stored_growth(frozenset({"NF4"}), codes=False)
    )
    assert not runs_as_stored(frozenset({"NF4", "F32"}), codes=False)
    assert runs_as_stored(frozenset({"INT8-ROWS", "Q8_0"}))
    assert not runs_as_stored(frozenset({"INT8-ROWS", "INT8-GROUPS"}))
