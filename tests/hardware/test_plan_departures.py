"""Models whose blocks are not as Llama's: their kernels, graphs and bytes, with reasons."""

from __future__ import annotations

import dataclasses

import pytest
from machines import machine

from quantchat.errors import PlanError
from quantchat.hardware.execution import PlanRequest
from quantchat.hardware.linears import linears_of, read_share
from quantchat.hardware.memory import decode_read_bytes, weight_bytes
from quantchat.hardware.plan import plan
from quantchat.hardware.speed import predicted_tok_per_s
from quantchat.quant.registry import SCHEMES
from quantchat.shapes import SHAPES
from quantchat.spec import DecoderSpec, ExpertsSpec, LongScaling

LLAMA = SHAPES["llama-3.2-1b"]
EXPERTS = ExpertsSpec(
    count=8,
    active=2,
    intermediate=1024,
    renormalise=True,
    shared_intermediate=512,
    dense_layers=(0,),
)
DEPARTURES: dict[str, DecoderSpec] = {
    "layer norms": dataclasses.replace(LLAMA, norm="layer"),
    "behind sub-blocks": dataclasses.replace(LLAMA, placement="post"),
    "beside the MLP": dataclasses.replace(LLAMA, placement="parallel"),
    "gelu_tanh": dataclasses.replace(LLAMA, activation="gelu_tanh"),
    "without gate": dataclasses.replace(LLAMA, gated=False),
    "over all heads": dataclasses.replace(LLAMA, qk_norm=True, qk_norm_wide=True),
    "soft-capped scores": dataclasses.replace(LLAMA, attention_softcap=50.0),
    "soft-capped logits": dataclasses.replace(LLAMA, logits_softcap=30.0),
    "scaled streams": dataclasses.replace(LLAMA, residual_scale=0.22),
    "bias of the head": dataclasses.replace(LLAMA, head_bias=True),
    "experts": dataclasses.replace(LLAMA, experts=EXPERTS),
}


@pytest.mark.parametrize("words", DEPARTURES)
def test_a_card_runs_kernels_between_products_and_says_why(words: str) -> None:
    made = plan(machine("H100"), DEPARTURES[words], PlanRequest(scheme="int4"))
    assert made.triton and made.graph
    assert made.fit.weight_bytes < 1.5e9 or words == "experts", "codes are held as they are"
    rows = {choice.op: choice for choice in made.ops}
    assert "triton" in rows["norms and sums"].kernel and words in rows["norms and sums"].reason
    assert "norm with residual" not in rows
    linear = next(choice for choice in made.ops if choice.op == "linear")
    assert linear.kernel == "tensor-core kernel, weights as stored"
    assert "five launches" not in linear.reason
    assert ("gate in the same launch" in linear.reason) == (words != "without gate")
    assert "triton" in rows["attention, decode"].kernel
    by_rows = [(choice.rows, choice.kernel) for choice in made.ops if choice.op == "experts"]
    grouped = [("1-8", "linear, chosen on the device"), (">8", "triton, grouped")]
    assert by_rows == (grouped if words == "experts" else [])


@pytest.mark.parametrize("scheme", ["nf4", "w8a8-minmax", "llm-int8"])
def test_experts_that_no_launch_chooses_between_run_op_by_op(scheme: str) -> None:
    made = plan(machine("H100"), DEPARTURES["experts"], PlanRequest(scheme=scheme))
    assert made.triton and not made.graph
    assert any("which experts a token takes" in why for why in made.refused)
    rows = {choice.op: choice for choice in made.ops}
    assert "torch" in rows["attention, decode"].kernel
    assert rows["experts"].kernel == "linear by linear"


def test_cards_without_triton_run_plain_ops() -> None:
    for words, spec in DEPARTURES.items():
        made = plan(machine("H100", triton=None), spec, PlanRequest(scheme="fp16"))
        assert not made.triton and not made.graph
        blocks = next(choice for choice in made.ops if choice.op == "norms and sums")
        assert "torch" in blocks.kernel and words in blocks.reason


@pytest.mark.parametrize("words", DEPARTURES)
def test_calibrated_schemes_are_refused_by_what_they_do_not_know(words: str) -> None:
    for scheme in ("awq", "smoothquant", "squeezellm", "qoq", "w8a8-static"):
        with pytest.raises(PlanError, match=words) as caught:
            plan(machine(), DEPARTURES[words], PlanRequest(scheme=scheme))
        assert {way.value for way in caught.value.ways} == {"int8", "int4", "nf4"}


def test_llama_like_blocks_keep_their_kernels() -> None:
    unturned = dataclasses.replace(LLAMA, rope_kinds=("main", "none") * 8)
    for spec in (LLAMA, unturned):
        assert not spec.departures
        made = plan(machine("H100"), spec, PlanRequest())
        assert made.triton and made.graph
        assert not [choice for choice in made.ops if choice.op == "norms and sums"]
    assert plan(machine(), unturned, PlanRequest(scheme="awq")).scheme.name == "awq"


@pytest.mark.parametrize("spec", [*DEPARTURES.values(), LLAMA], ids=[*DEPARTURES, "none"])
def test_linears_hold_all_weights(spec: DecoderSpec) -> None:
    linears = linears_of(spec)
    assert sum(linear.weights * linear.count for linear in linears) == spec.linear_parameters
    assert plan(machine(), spec, PlanRequest(scheme="int4")).scheme.name == "int4"


def test_a_token_reads_a_few_experts() -> None:
    spec, scheme = DEPARTURES["experts"], SCHEMES["fp16"]
    by_name = {linear.name: linear for linear in linears_of(spec)}
    assert by_name["expert down"].count == 8 * 15 and by_name["shared expert down"].count == 15
    assert by_name["down"].count == 1
    idle = 3 * 2048 * 1024 * 6 * 15
    every = weight_bytes(spec, scheme, 0)
    assert decode_read_bytes(spec, scheme, 0) == pytest.approx(every - 2 * idle, rel=1e-9)
    assert read_share(LLAMA) == 1.0
    made = plan(machine(), spec, PlanRequest(scheme="int8"))
    dense = dataclasses.replace(spec, experts=dataclasses.replace(EXPERTS, active=8))
    slower = plan(machine(), dense, PlanRequest(scheme="int8"))
    rates = [
        predicted_tok_per_s(one, shape, read_bytes_per_s=1e10)
        for one, shape in ((made, spec), (slower, dense))
    ]
    assert rates[0] and rates[1] and rates[0] > 1.2 * rates[1]


def test_long_factors_are_told_where_the_context_needs_them() -> None:
    scaling = LongScaling(
        short=(1.0,) * 32, long=(2.0,) * 32, original_context=4096, attention_factor=1.19
    )
    rope = dataclasses.replace(LLAMA.rope, scaling=scaling)
    spec = dataclasses.replace(LLAMA, rope=rope)
    long = plan(machine(), spec, PlanRequest(context_tokens=8192))
    assert any(why.startswith("long rope factors") for why in long.reasons)
    short = plan(machine(), spec, PlanRequest(context_tokens=4096))
    assert not any(why.startswith("long rope factors") for why in short.reasons)
