"""Where a plan multiplies prompts in 8 bits, and what it says where it does not."""

from __future__ import annotations

import pytest
from machines import ZEN3, ZEN5, machine

from quantchat.hardware.plan import PlanRequest, plan
from quantchat.shapes import SHAPES


@pytest.mark.parametrize(
    ("name", "scheme", "activations"),
    [
        ("A100", "fp8", "16bit"),
        ("4060Ti", "fp8", "fp8"),
        ("H100", "fp8", "fp8"),
        ("T4", "w8a8", "16bit"),
        ("3090", "w8a8", "int8"),
    ],
)
def test_products_are_8bit_where_the_card_has_them(
    name: str, scheme: str, activations: str
) -> None:
    made = plan(machine(name), SHAPES["llama-3.1-8b"], PlanRequest(scheme=scheme))
    assert made.activations == activations
    refused = [reason for reason in made.refused if "products" in reason]
    assert bool(refused) == (activations == "16bit")
    kernels = [choice.kernel for choice in made.ops if choice.op == "linear"]
    assert any("product" in kernel for kernel in kernels) == (activations != "16bit")
    assert all("product" not in choice.kernel for choice in made.ops if choice.op == "head")


@pytest.mark.parametrize(
    ("isa", "ram_gib", "activations", "copy"),
    [
        (ZEN5, 16.0, "int8", None),
        (ZEN3, 16.0, "int8", "float32"),
        (ZEN3, 1.5, "16bit", None),
    ],
)
def test_int8_products_on_the_cpu_need_units_or_copies(
    isa: frozenset[str], ram_gib: float, activations: str, copy: str | None
) -> None:
    made = plan(
        machine(isa=isa, ram_gib=ram_gib),
        SHAPES["smollm2-135m"],
        PlanRequest(scheme="w8a8", context_tokens=512),
    )
    assert (made.activations, made.copy_dtype) == (activations, copy)


def test_fp8_on_the_cpu_says_that_it_gains_nothing() -> None:
    made = plan(machine(), SHAPES["smollm2-135m"], PlanRequest(scheme="fp8"))
    assert made.activations == "fp8"
    assert any("no gain" in reason for reason in made.refused)
    dense = plan(machine(), SHAPES["smollm2-135m"], PlanRequest(scheme="fp16"))
    head = SHAPES["smollm2-135m"].embedding_parameters
    # Its int8 head is half of a dense one; linears are held in 16 bits with their scales.
    assert made.fit.weight_bytes >= dense.fit.weight_bytes - head
