"""The gate lets right weights through and stops wrong ones."""

import dataclasses

import pytest
import torch
from bench_subjects import TINY, open_tiny, variants_of

from quantchat.bench.gate import (
    KL_LIMIT,
    REGRET_LIMIT,
    ROUNDED_LIMIT,
    WORST_REGRET_LIMIT,
    check,
    compare,
    drift,
    limits,
    regret_limit,
)
from quantchat.bench.own import Subject
from quantchat.bench.random_model import random_source
from quantchat.quant.registry import SCHEMES
from quantchat.spec import DecoderSpec

IDS = tuple((7 * i * i + 3) % TINY.vocab for i in range(20))


@pytest.mark.parametrize("spec", variants_of(TINY), ids=lambda s: f"{s.architecture}{s.tied_head}")
@pytest.mark.parametrize("scheme", ["fp16", "int8", "int4"])
def test_right_weights_pass(spec: DecoderSpec, scheme: str) -> None:
    gate = open_tiny(spec, scheme, gate_ids=IDS).facts.gate
    assert gate is not None and gate.passed, gate
    assert gate.layers == spec.layers and gate.positions == len(IDS)
    assert gate.relative_error > 0


@pytest.mark.parametrize("scheme", sorted(set(SCHEMES) - {"stored", "fp16", "int8", "int4"}))
def test_every_scheme_passes_on_random_weights(scheme: str) -> None:
    engine = open_tiny(TINY, scheme, gate_ids=IDS)
    gate = engine.facts.gate
    assert gate is not None and gate.passed, gate
    # Rounded inputs fall to either side: what is let through then is still far from a wrong sum.
    assert gate.relative_error < (ROUNDED_LIMIT / 2 if engine.plan.all_rows else 0.05), gate


@pytest.mark.parametrize("scheme", ["llm-int8", "qoq"])
def test_rounded_inputs_do_not_hide_a_wrong_linear(scheme: str) -> None:
    engine = open_tiny(TINY, scheme)
    decoder = engine.model.decoder
    layers = list(decoder.layers)
    right = layers[0].down

    class Wrong:
        def __init__(self) -> None:
            self.__dict__.update(right.__dict__)

        def __call__(self, x: torch.Tensor) -> torch.Tensor:
            return right(x).flip(-1)

    layers[0] = dataclasses.replace(layers[0], down=Wrong())
    engine.model.decoder = dataclasses.replace(decoder, layers=tuple(layers))
    gate = check(engine, Subject(random_source("tiny", TINY), "tiny", True), list(IDS))
    assert not gate.passed, gate


@pytest.mark.parametrize("kv", list(KL_LIMIT))
def test_every_precision_of_the_cache_passes(kv: str) -> None:
    gate = open_tiny(TINY, "fp16", gate_ids=IDS, kv=kv).facts.gate
    assert gate is not None and gate.passed, gate


@pytest.mark.parametrize("kv", list(KL_LIMIT))
def test_a_cache_that_forgets_is_seen(kv: str, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = open_tiny(TINY, "fp16", kv=kv)
    ops = engine.model.decoder.ops
    attend = type(ops).attend

    def blind(self, qkv, batch, *rest):  # type: ignore[no-untyped-def]
        return attend(self, qkv, batch, *rest).mul_(0 if batch.decode else 1)

    monkeypatch.setattr(type(ops), "attend", blind)
    gate = check(engine, Subject(random_source("tiny", TINY), "tiny", True), list(IDS))
    assert not gate.passed, gate


@pytest.mark.parametrize("part", ["o", "gate_up"])
def test_one_wrong_linear_is_seen(part: str) -> None:
    engine = open_tiny(TINY, "fp16")
    decoder = engine.model.decoder
    layers = list(decoder.layers)
    right = getattr(layers[1], part)

    class Wrong:
        def __init__(self) -> None:
            self.__dict__.update(right.__dict__)

        def __call__(self, x: torch.Tensor) -> torch.Tensor:
            return right(x).flip(-1)

    layers[1] = dataclasses.replace(layers[1], **{part: Wrong()})
    engine.model.decoder = dataclasses.replace(decoder, layers=tuple(layers))
    gate = check(engine, Subject(random_source("tiny", TINY), "tiny", True), list(IDS))
    assert not gate.passed, gate


@pytest.mark.parametrize("scheme", ["fp16", "llm-int8", "qoq"])
def test_a_runner_that_picks_other_tokens_is_seen(scheme: str) -> None:
    engine = open_tiny(TINY, scheme)
    decode = engine.runner.decode
    engine.runner.decode = lambda sequences: [
        (s, (t + 1) % TINY.vocab) for s, t in decode(sequences)
    ]
    gate = check(engine, Subject(random_source("tiny", TINY), "tiny", True), list(IDS))
    assert not gate.passed and gate.worst_regret > gate.regret_limit, gate
    kl_limit, error_limit = limits(engine.plan)
    assert gate.kl_mean <= kl_limit and gate.relative_error <= error_limit, gate


@pytest.mark.parametrize("scheme", ["fp16", "llm-int8", "qoq"])
def test_rows_that_disturb_each_other_are_seen(scheme: str) -> None:
    engine = open_tiny(TINY, scheme, rows=3)
    subject = Subject(random_source("tiny", TINY), "tiny", True)
    assert check(engine, subject, list(IDS)).passed
    decode = engine.runner.decode

    def crossed(sequences):  # type: ignore[no-untyped-def]
        pairs = decode(sequences)
        tokens = [token for _, token in pairs]
        return [(s, tokens[i - 1]) for i, (s, _) in enumerate(pairs)]

    engine.runner.decode = crossed
    gate = check(engine, subject, list(IDS))
    assert not gate.passed and gate.worst_regret > gate.regret_limit, gate


def test_a_nudge_moves_rounded_inputs_more_and_lets_more_regret_through() -> None:
    steady, moved = (drift(open_tiny(TINY, scheme), list(IDS)) for scheme in ("fp16", "qoq"))
    assert 0 < steady < moved
    assert regret_limit(steady) == REGRET_LIMIT
    assert regret_limit(0.2) == pytest.approx(0.3)
    assert regret_limit(float("inf")) == WORST_REGRET_LIMIT


def test_nan_never_passes() -> None:
    truth = torch.randn(3, 11)
    kl, error, _ = compare(torch.full_like(truth, float("nan")), truth)
    assert kl == error == float("inf")
    assert compare(truth, truth)[:2] == (pytest.approx(0, abs=1e-6), 0)
