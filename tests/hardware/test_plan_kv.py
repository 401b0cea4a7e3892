"""KV precisions in the plan: served, refused, and which is said to be the better one."""

from __future__ import annotations

import dataclasses

import pytest
from machines import machine

from quantchat.errors import PlanError, UsageError
from quantchat.hardware.plan import PlanRequest, plan
from quantchat.kv_formats import KV_FORMATS, KvFormat
from quantchat.shapes import SHAPES


@pytest.mark.parametrize("kv", KV_FORMATS)
@pytest.mark.parametrize("name", ["T4", "A100", "H100"])
def test_every_kv_precision_is_served_everywhere(name: str, kv: KvFormat) -> None:
    made = plan(
        machine(name), SHAPES["smollm2-135m"], PlanRequest(scheme="int8", kv=kv, device="cuda")
    )
    assert made.kv == kv
    assert any(reason == f"KV {kv}: asked for" for reason in made.reasons)
    by_hand = any("no instruction" in reason for reason in made.reasons)
    assert by_hand == (kv == "fp8" and name != "H100")
    decode = next(op for op in made.ops if op.op == "attention, decode")
    assert (kv in decode.reason) == (kv != "16bit")


def test_kv_precisions_that_cannot_be() -> None:
    spec = dataclasses.replace(SHAPES["smollm2-135m"], head_dim=20)
    with pytest.raises(PlanError, match="multiple of 8"):
        plan(machine("H100"), spec, PlanRequest(kv="int4"))
    with pytest.raises(PlanError, match="multiple of 8"):
        plan(machine("H100"), spec, PlanRequest(kv="k8v4"))
    with pytest.raises(UsageError, match="int3") as caught:
        plan(machine("H100"), spec, PlanRequest(kv="int3"))
    assert "auto, 16bit, fp8, int8, k8v4, int4r, int4" in caught.value.hint


@pytest.mark.parametrize("name", ["H100", "T4"])
@pytest.mark.parametrize("device", ["cuda", "cpu"])
def test_heads_without_a_hadamard_matrix_are_not_rotated(name: str, device: str) -> None:
    spec = dataclasses.replace(SHAPES["smollm2-135m"], head_dim=80)
    with pytest.raises(PlanError, match=r"power of two.* 80 values") as caught:
        plan(machine(name), spec, PlanRequest(scheme="int8", kv="int4r", device=device))
    assert "k8v4" in caught.value.hint
    plain = plan(machine(name), spec, PlanRequest(scheme="int8", kv="int4", device=device))
    assert any("k8v4" in reason for reason in plain.reasons)
    assert not any("int4r" in reason for reason in plain.reasons)


def test_plain_int4_keys_name_the_better_choice() -> None:
    made = plan(machine("H100"), SHAPES["llama-3.1-8b"], PlanRequest(scheme="int8", kv="int4"))
    assert any("int4r costs less" in reason for reason in made.reasons)
