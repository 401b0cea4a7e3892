"""What is checked before it is timed: all that the schemes launch, nothing else."""

from __future__ import annotations

from machines import machine

from quantchat.bench.kernel_scope import OLD_CARDS, Scope, scope_of
from quantchat.bench.remote import GATE_BYTES, MOST_GATES, gate_workers
from quantchat.hardware.execution import ExecutionPlan
from quantchat.hardware.plan import PlanRequest, plan
from quantchat.shapes import SHAPES


def planned(card: str) -> ExecutionPlan:
    request = PlanRequest(container="safetensors", stored_bytes=1, stored_types=frozenset({"BF16"}))
    return plan(machine(card), SHAPES["llama-3.1-8b"], request)


def test_a_scheme_brings_its_weights_head_inputs_and_cache() -> None:
    found = planned("H100")
    scope = scope_of(("int4", "fp8"), ("int8",), found, 90)
    assert scope.dtypes == (found.compute_dtype,)
    assert scope.parts is not None
    assert {"int4", "int4-ordered", "int8", "fp8", "fp8 inputs", "int8 KV", "dense"} == scope.parts
    assert scope.takes("") and scope.takes("int4")
    assert not scope.takes("nf4") and not scope.takes("16bit KV") and not scope.takes(OLD_CARDS)


def test_old_cards_and_weights_as_stored_are_checked_in_full() -> None:
    old = scope_of(("int4",), ("auto",), planned("T4"), 75)
    assert old.takes(OLD_CARDS) and old.takes(f"{planned('T4').kv} KV")
    stored = scope_of(("int4", "stored"), ("auto",), planned("H100"), 90)
    assert stored.parts is None and stored.takes("lut3")
    assert Scope().takes("anything") and len(Scope().dtypes) == 2


def test_every_scheme_has_its_cases() -> None:
    from quantchat.bench.ops_gate import TABLE_FORMS
    from quantchat.quant.registry import SCHEMES

    known = {"int4", "int4-ordered", "int8", "fp8", "dense", *TABLE_FORMS}
    for name in SCHEMES:
        parts = scope_of((name,), ("16bit",), planned("H100"), 90).parts
        if parts is not None:
            forms = {part for part in parts if not part.endswith((" KV", " inputs"))}
            assert forms <= known and len(forms) >= 1


def test_processes_fit_the_card() -> None:
    assert gate_workers(0) == gate_workers(GATE_BYTES) == 1
    assert gate_workers(1 << 50) <= MOST_GATES
