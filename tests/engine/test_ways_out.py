"""Ways out of a lack of memory: the plan's own numbers, and only what helps."""

from __future__ import annotations

import dataclasses

import pytest
from machines import GIB, machine

from quantchat.engine.ways_out import ways_out
from quantchat.hardware.execution import ExecutionPlan
from quantchat.hardware.plan import PlanRequest, plan
from quantchat.shapes import SHAPES

SPEC = SHAPES["llama-3.1-8b"]


def made(scheme: str, kv: str = "16bit", context: int = 8192, card: str = "H100") -> ExecutionPlan:
    return plan(
        machine(card),
        SPEC,
        PlanRequest(scheme=scheme, kv=kv, device="cuda", context_tokens=context),
    )


def test_wide_weights_get_four_ways() -> None:
    ways = ways_out(made("fp16"), SPEC, budget_bytes=12 * GIB, ram_free_bytes=20 * GIB)
    assert [way.field for way in ways] == ["scheme", "context_tokens", "kv", "device"]
    scheme, context, kv, device = (way.words for way in ways)
    assert ways[1].value < 8192 and ways[2].value == "int8" and ways[3].value == "cpu"
    assert scheme.startswith("scheme int8") or scheme.startswith("scheme int4")
    assert "instead of 1" in scheme
    assert context.startswith("a context of ")
    # 8192 tokens x 8 heads x 128 x 2 x 2 bytes x 32 layers are 1 GiB.
    assert "instead of 1.00 GiB" in context
    assert kv.startswith("int8 KV: 5") and "1.00 GiB" in kv
    assert device == "the device cpu: 20.0 GiB of memory free"


@pytest.mark.parametrize(("budget_gib", "scheme"), [(16, "int8"), (8, "int4")])
def test_the_widest_scheme_that_fits_is_named(budget_gib: int, scheme: str) -> None:
    ways = ways_out(made("fp16"), SPEC, budget_bytes=budget_gib * GIB, ram_free_bytes=GIB)
    assert ways[0].words.startswith(f"scheme {scheme}") and ways[0].value == scheme


@pytest.mark.parametrize(
    ("head_dim", "kv", "way"),
    [(128, "int8", "k8v4"), (128, "k8v4", "int4r"), (96, "k8v4", "int4"), (20, "16bit", "int8")],
)
def test_the_next_narrower_cache_that_the_heads_allow(head_dim: int, kv: str, way: str) -> None:
    spec = dataclasses.replace(SPEC, head_dim=head_dim)
    wish = PlanRequest(scheme="int8", kv=kv, device="cuda", context_tokens=4096)
    ways = ways_out(
        plan(machine("H100"), spec, wish), spec, budget_bytes=8 * GIB, ram_free_bytes=GIB
    )
    assert any(each.words.startswith(f"{way} KV: ") and each.value == way for each in ways), ways


def test_the_narrowest_cache_has_no_narrower() -> None:
    for kv in ("int4", "int4r"):
        ways = ways_out(made("int4", kv=kv), SPEC, budget_bytes=6 * GIB, ram_free_bytes=GIB)
        assert not any(" KV: " in way.words for way in ways)


def test_nothing_is_named_that_does_not_help() -> None:
    least = ways_out(
        made("int4", kv="int8", context=512), SPEC, budget_bytes=6 * GIB, ram_free_bytes=GIB
    )
    assert not any(way.words.startswith(("scheme", "a context", "int8 KV")) for way in least)
    assert least[-1].words.startswith("the device cpu")


def test_on_the_cpu_the_cpu_is_no_way_out() -> None:
    here = plan(machine(), SPEC, PlanRequest(scheme="int8", context_tokens=4096))
    ways = ways_out(here, SPEC, budget_bytes=8 * GIB, ram_free_bytes=8 * GIB)
    assert ways and not any(way.field == "device" for way in ways)
    assert any("a context of" in way.words for way in ways)
