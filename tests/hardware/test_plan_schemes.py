"""Every scheme of the table is planned on every kind of machine, with reasons, or refused with one."""

from __future__ import annotations

import dataclasses

import pytest
from machines import ZEN3, ZEN5, machine

from quantchat.errors import PlanError, UsageError
from quantchat.hardware.facts import Facts
from quantchat.hardware.holding import held_as
from quantchat.hardware.memory import weight_bytes
from quantchat.hardware.plan import PlanRequest, plan
from quantchat.quant.registry import OTHER_NAMES, SCHEMES
from quantchat.shapes import SHAPES

SMALL = SHAPES["smollm2-135m"]
LLAMA = SHAPES["llama-3.1-8b"]
TABLES = ("squeezellm", "squeezellm-3", "nf4", "nf4-dq", "fp4")
STARTER = PlanRequest(
    container="gguf",
    stored_bytes=96_576_768,
    stored_types=frozenset({"Q4_1", "Q8_0", "F32"}),
)
MACHINES: dict[str, Facts] = {
    "plain CPU": machine(isa=ZEN3),
    "CPU with int8 units": machine(isa=ZEN5),
    "V100": machine("V100", cuda="12.6"),
    "T4": machine("T4"),
    "A100": machine("A100"),
    "4060Ti": machine("4060Ti"),
    "H100": machine("H100"),
    "H100 without triton": machine("H100", triton=None),
}


def asked(name: str, **changes: object) -> PlanRequest:
    return dataclasses.replace(STARTER, scheme=name, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize("where", MACHINES)
@pytest.mark.parametrize("name", SCHEMES)
def test_every_scheme_is_planned_or_refused_in_words(where: str, name: str) -> None:
    facts, scheme = MACHINES[where], SCHEMES[name]
    sm = facts.gpus[0].sm if facts.gpus else 0
    ours = where not in ("plain CPU", "CPU with int8 units", "V100", "H100 without triton")
    if 0 < sm < scheme.lowest_sm or (name == "stored" and sm and not ours):
        with pytest.raises(PlanError) as caught:
            plan(facts, SMALL, asked(name))
        assert caught.value.hint
        return
    made = plan(facts, SMALL, asked(name))
    assert made.scheme is scheme
    assert any(line == f"{scheme.title}: asked for" for line in made.reasons)
    assert made.all_rows == (scheme.all_rows and made.activations != "16bit")
    assert made.activations in ("16bit", scheme.activations)
    linears = [choice for choice in made.ops if choice.op.startswith("linear")]
    assert linears and all(choice.kernel and choice.reason for choice in linears)
    held = held_as(scheme, sm=sm, triton=ours)
    in_memory = [line for line in made.refused if " in memory: " in line]
    assert bool(in_memory) == (held.weights != scheme.weights), made.refused
    if held.weights == "dense" and sm:
        assert made.fit.weight_bytes >= SMALL.linear_parameters * 2
    if name != "stored" and ours and held is scheme:
        assert made.fit.weight_bytes == weight_bytes(SMALL, scheme, made.group_size)


@pytest.mark.parametrize("name", TABLES)
def test_tables_need_the_tensor_core_kernel(name: str) -> None:
    there = plan(machine("A100"), LLAMA, PlanRequest(scheme=name))
    kernels = {c.rows: c.kernel for c in there.ops if c.op == "linear"}
    assert kernels == {
        "1-64": "tensor-core kernel, weights as stored",
        ">64": "dequantize + cuBLAS",
    }
    apart = [c for c in there.ops if c.op == "linear" and "kept apart" in c.reason]
    assert len(apart) == (2 if SCHEMES[name].sparse_share else 0)
    turing = plan(machine("T4"), SMALL, PlanRequest(scheme=name))
    assert [c.kernel for c in turing.ops if c.op == "linear"] == ["cuBLAS"]
    assert next(c.kernel for c in turing.ops if c.op == "head").startswith("triton")
    assert any("needs SM 80" in line and "16 bits" in line for line in turing.refused)
    processor = plan(machine(isa=ZEN5), SMALL, PlanRequest(scheme=name))
    assert [c.kernel for c in processor.ops if c.op == "linear"] == ["torch bf16 matmul"]
    assert any("not its bytes" in line for line in processor.refused)
    assert (
        there.fit.weight_bytes < 0.4 * plan(machine("A100"), LLAMA, PlanRequest()).fit.weight_bytes
    )


def test_what_a_card_cannot_keep_packed_is_told_where_it_does_not_fit() -> None:
    with pytest.raises(PlanError, match="nf4, not held as stored here, with int8 KV on Tesla T4"):
        plan(machine("T4"), LLAMA, PlanRequest(scheme="nf4"))


@pytest.mark.parametrize("name", [*TABLES, "qoq", "qoq-channel", "int4", "awq", "stored"])
def test_weights_of_four_bits_are_multiplied_in_float16_where_the_family_allows(name: str) -> None:
    assert plan(machine("H100"), SMALL, asked(name)).compute_dtype == "float16"
    qwen = dataclasses.replace(SMALL, architecture="qwen2")
    assert plan(machine("H100"), qwen, asked(name)).compute_dtype == "bfloat16"


@pytest.mark.parametrize("name", ["fp16", "int8", "llm-int8", "smoothquant", "fp8-static"])
def test_wider_weights_stay_in_bfloat16(name: str) -> None:
    assert plan(machine("H100"), SMALL, asked(name)).compute_dtype == "bfloat16"


@pytest.mark.parametrize(
    ("where", "name", "activations", "all_rows"),
    [
        ("H100", "llm-int8", "int8_outliers", True),
        ("H100", "qoq", "int8", True),
        ("A100", "qoq-channel", "int8", True),
        ("T4", "llm-int8", "16bit", False),
        ("T4", "qoq", "16bit", False),
        ("H100 without triton", "qoq", "16bit", False),
        ("plain CPU", "llm-int8", "int8_outliers", True),
        ("plain CPU", "qoq", "int8", True),
        ("H100", "smoothquant", "int8", False),
        ("H100", "w8a8-static", "int8", False),
        ("A100", "fp8-static", "16bit", False),
        ("4060Ti", "fp8-static", "fp8", False),
    ],
)
def test_inputs_are_rounded_where_the_device_can(
    where: str, name: str, activations: str, all_rows: bool
) -> None:
    made = plan(MACHINES[where], SMALL, asked(name))
    assert (made.activations, made.all_rows) == (activations, all_rows)
    wants = SCHEMES[name].activations
    said = made.reasons if activations == wants else made.refused
    assert any(line.startswith(("int8 inputs", f"{wants} products")) for line in said), said
    static = any("fixed by calibration" in line for line in made.reasons)
    assert static == (SCHEMES[name].calibration == "static" and activations != "16bit")


def test_outliers_are_spoken_of() -> None:
    made = plan(machine("H100"), LLAMA, PlanRequest(scheme="llm-int8"))
    assert any("6 and above" in line for line in made.reasons)
    inputs = next(choice for choice in made.ops if choice.op == "inputs to int8")
    assert "token by token" in inputs.reason
    assert {c.rows for c in made.ops if c.op == "linear"} == {"1-48", "49-384", ">384"}
    assert next(c for c in made.ops if c.op == "head").kernel.startswith("tensor-core")


def test_two_steps_expand_for_many_rows() -> None:
    made = plan(machine("H100"), LLAMA, PlanRequest(scheme="qoq", kv="int4"))
    kernels = {c.rows: c.kernel for c in made.ops if c.op == "linear"}
    assert kernels == {
        "1-48": "tensor-core kernel, weights as stored",
        ">48": "expand + int8 product",
    }
    assert made.group_size == 128
    assert not any("W4A8KV4" in line for line in made.reasons)
    other = plan(machine("H100"), LLAMA, PlanRequest(scheme="qoq"))
    assert any("W4A8KV4" in line for line in other.reasons) and other.kv == "16bit"
    assert plan(machine("H100"), LLAMA, PlanRequest(scheme="qoq-channel")).group_size == 0


@pytest.mark.parametrize("name", SCHEMES)
def test_blocks_that_are_encoded_anew_are_named(name: str) -> None:
    made = plan(machine("H100"), SMALL, asked(name))
    anew = any("Q4_1, Q8_0" in line and "encoded anew" in line for line in made.reasons)
    assert anew == (SCHEMES[name].rounding != "none")
    dense = asked(name, container="gguf", stored_types=frozenset({"F16", "F32"}))
    if name != "stored":
        assert not any("anew" in line for line in plan(machine("H100"), SMALL, dense).reasons)
    calibrated = any(line.startswith("calibration finds") for line in made.reasons)
    assert calibrated == (SCHEMES[name].calibration != "none")


@pytest.mark.parametrize("name", ["nf4", "nf4-dq", "fp4"])
def test_blocks_of_64_must_divide_the_rows(name: str) -> None:
    spec = dataclasses.replace(SMALL, intermediate=1504)
    with pytest.raises(PlanError, match="no group of 64 divides all of 576, 1504") as caught:
        plan(machine("H100"), spec, PlanRequest(scheme=name))
    assert "int8" in caught.value.hint


def test_three_bit_codes_come_by_eight() -> None:
    spec = dataclasses.replace(SMALL, intermediate=1500)
    with pytest.raises(PlanError, match="8 codes of a row together, and down has rows of 1500"):
        plan(machine(), spec, PlanRequest(scheme="squeezellm-3"))
    assert plan(machine(), spec, PlanRequest(scheme="squeezellm")).scheme.bits == 4


@pytest.mark.parametrize("name", OTHER_NAMES)
def test_what_others_call_a_scheme_is_taken(name: str) -> None:
    assert plan(machine("H100"), LLAMA, PlanRequest(scheme=name)).scheme.name == OTHER_NAMES[name]


def test_an_unknown_scheme_names_all() -> None:
    with pytest.raises(UsageError) as caught:
        plan(machine(), SMALL, PlanRequest(scheme="int5"))
    assert all(name in caught.value.hint for name in SCHEMES)
