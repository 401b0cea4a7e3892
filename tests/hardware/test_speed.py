"""Predicted speed against what was measured, and where nothing is predicted."""

from __future__ import annotations

import pytest
from machines import ZEN5, machine

from quantchat import paths
from quantchat.hardware import bandwidth
from quantchat.hardware.offers import offers
from quantchat.hardware.plan import PlanRequest, plan
from quantchat.hardware.speed import predicted_tok_per_s
from quantchat.quant.registry import SCHEMES
from quantchat.shapes import SHAPES

LLAMA, SMALL = SHAPES["llama-3.1-8b"], SHAPES["smollm2-135m"]
STARTER = PlanRequest(
    container="gguf",
    stored_bytes=96_576_768,
    stored_types=frozenset({"Q4_1", "Q8_0", "F32"}),
)


@pytest.fixture(autouse=True)
def own_folder(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUANTCHAT_HOME", str(tmp_path))


@pytest.mark.parametrize(
    ("scheme", "measured", "within"),
    [
        ("int4", 568.4, 0.02),
        ("fp16", 186.0, 0.02),
        ("int8", 338.0, 0.02),
        ("fp8", 322.7, 0.02),
        ("smoothquant", 337.2, 0.02),
        ("llm-int8", 290.5, 0.03),
        ("nf4", 387.7, 0.05),
        ("nf4-dq", 372.6, 0.05),
        ("squeezellm", 312.4, 0.02),
        ("squeezellm-3", 415.8, 0.02),
        ("qoq", 479.9, 0.02),
    ],
)
def test_an_h100_is_predicted_as_measured(scheme: str, measured: float, within: float) -> None:
    made = plan(machine("H100"), LLAMA, PlanRequest(scheme=scheme, kv="16bit"))
    rate = predicted_tok_per_s(made, LLAMA, read_bytes_per_s=3.109e12, context_tokens=64)
    assert rate == pytest.approx(measured, rel=within)
    sheet = bandwidth.read_bytes_per_s(machine("H100"), made)
    assert sheet == pytest.approx(3.109e12, rel=0.01)


@pytest.mark.parametrize(
    ("scheme", "measured"), [("fp16", 67.4), ("int8", 85.9), ("int4", 107.6), ("stored", 98.7)]
)
def test_a_processor_is_predicted_within_an_eighth(scheme: str, measured: float) -> None:
    request = PlanRequest(
        scheme=scheme,
        container=STARTER.container,
        stored_bytes=STARTER.stored_bytes,
        stored_types=STARTER.stored_types,
    )
    made = plan(machine(isa=ZEN5), SMALL, request)
    rate = predicted_tok_per_s(made, SMALL, read_bytes_per_s=44.7e9, context_tokens=64)
    assert rate == pytest.approx(measured, rel=0.125)


def test_small_models_are_not_bound_by_bytes() -> None:
    made = plan(machine("H100"), SMALL, STARTER)
    rate = predicted_tok_per_s(made, SMALL, read_bytes_per_s=3.1e12)
    assert rate == pytest.approx(1268.8, rel=0.1)


def test_a_longer_context_is_slower_and_a_narrow_cache_less_so() -> None:
    def rate(kv: str, tokens: int) -> float:
        made = plan(machine("H100"), LLAMA, PlanRequest(scheme="int4", kv=kv))
        found = predicted_tok_per_s(made, LLAMA, read_bytes_per_s=3e12, context_tokens=tokens)
        assert found is not None
        return found

    assert rate("16bit", 64) > rate("int8", 8192) > rate("16bit", 8192)
    # Beyond the planned context there is nothing to read.
    assert rate("16bit", 16384) == rate("16bit", 10**6)


def test_nothing_is_predicted_without_a_basis() -> None:
    processor = plan(machine(), SMALL, PlanRequest())
    assert predicted_tok_per_s(processor, SMALL, read_bytes_per_s=None) is None
    assert bandwidth.read_bytes_per_s(machine(), processor) is None
    volta = machine("V100", cuda="12.6")
    assert (
        predicted_tok_per_s(plan(volta, SMALL, PlanRequest()), SMALL, read_bytes_per_s=9e11) is None
    )


def test_measured_bandwidth_is_kept_by_device_and_threads() -> None:
    one, other = (plan(machine(cores=cores), SMALL, PlanRequest()) for cores in (4, 8))
    bandwidth.keep_measured(one, 4e10)
    assert bandwidth.read_bytes_per_s(machine(), one) == 4e10
    assert bandwidth.read_bytes_per_s(machine(), other) is None
    card = plan(machine("H100"), SMALL, PlanRequest())
    bandwidth.keep_measured(card, 3.2e12)
    assert bandwidth.read_bytes_per_s(machine("H100"), card) == 3.2e12
    assert bandwidth.read_bytes_per_s(machine(), one) == 4e10


@pytest.mark.parametrize(
    "text", ["", "[]", '{"a": "fast"}', '{"a": 1e999}', '{"a": -3, "b": true}', "{" * 10**5]
)
def test_a_broken_file_is_no_trouble(text: str) -> None:
    made = plan(machine(), SMALL, PlanRequest())
    path = paths.cache_dir() / "bandwidth.json"
    path.write_text(text.replace('"a"', f'"{bandwidth.device_key(made)}"'))
    assert bandwidth.read_bytes_per_s(machine(), made) is None
    bandwidth.keep_measured(made, 3e10)
    assert bandwidth.read_bytes_per_s(machine(), made) == 3e10


def test_the_processor_reads_at_a_rate_that_can_be() -> None:
    from quantchat.engine.bandwidth import cpu_read_bytes_per_s

    assert 1e8 < cpu_read_bytes_per_s(1) < 1e13


def test_every_scheme_is_offered_or_refused() -> None:
    found = offers(machine("T4"), LLAMA, PlanRequest(), lambda plan: 3e11)
    assert [offer.scheme.name for offer in found] == list(SCHEMES)
    for offer in found:
        assert (offer.plan is None) == bool(offer.refusal)
        assert (offer.plan is None) == (offer.tok_per_s is None)
    by_name = {offer.scheme.name: offer for offer in found}
    assert by_name["fp8"].refusal.startswith("fp8 needs SM 80")
    assert by_name["int4"].tok_per_s > by_name["int8"].tok_per_s > 10
    assert "GGUF" in by_name["stored"].refusal


def test_an_export_is_offered_in_its_own_scheme_alone() -> None:
    request = PlanRequest(exported="nf4", stored_bytes=10**8)
    found = offers(machine("H100"), SMALL, request, lambda plan: 3e12)
    assert [offer.scheme.name for offer in found if offer.plan is not None] == ["nf4"]
    refused = next(offer for offer in found if offer.scheme.name == "int8")
    assert "exported in nf4" in refused.refusal and "original model" in refused.hint


def test_the_best_reading_counts() -> None:
    made = plan(machine(), SMALL, PlanRequest())
    for rate in (2e10, 4e10, 3e10):
        bandwidth.keep_measured(made, rate)
    assert bandwidth.read_bytes_per_s(machine(), made) == 4e10
