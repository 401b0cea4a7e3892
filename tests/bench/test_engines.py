"""Engines run forced lengths; ours and transformers agree on the same random weights."""

import dataclasses
from types import MappingProxyType

import pytest
from bench_subjects import TINY, job, open_tiny, variants_of

from quantchat.bench import random_model
from quantchat.bench.contest import row_prompts
from quantchat.engine.sequence import Sequence
from quantchat.hardware.plan import CONTEXT_DEFAULT_CPU
from quantchat.shapes import SHAPES
from quantchat.spec import DecoderSpec

PROMPT = [(5 * i + 1) % TINY.vocab for i in range(9)]


@pytest.mark.parametrize("kv", ["16bit", "int8"])
def test_a_run_has_the_length_asked_for_and_repeats(kv: str) -> None:
    engine = open_tiny(TINY, "int4", kv=kv)
    first, again = engine.run(PROMPT, 12), engine.run(PROMPT, 12)
    # The first step seats the sequence and is not timed.
    assert first.decode_steps == 10 and len(first.gaps_s) == 10 and first.first_step == 2
    assert first.decode_s == pytest.approx(sum(first.gaps_s))
    assert first.prefill_s > 0
    assert len(first.first_ids) == 12 and first.first_ids == again.first_ids
    assert engine.peak_bytes() > engine.facts.weight_bytes


def test_prompts_longer_than_a_chunk_are_read_in_chunks() -> None:
    engine = open_tiny(TINY, "fp16")
    whole = engine.run(PROMPT, 4).first_ids
    engine.plan = dataclasses.replace(engine.plan, prefill_chunk_tokens=4)
    assert engine.run(PROMPT, 4).first_ids == whole


@pytest.mark.parametrize("spec", variants_of(TINY), ids=lambda s: f"{s.architecture}{s.tied_head}")
def test_transformers_has_the_same_weights(
    spec: DecoderSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    from quantchat.bench.gate import compare, prompt_logits, reference_decoder
    from quantchat.bench.own import Subject
    from quantchat.bench.peer_transformers import TransformersEngine
    from quantchat.ops.kv_pool import KvPool

    monkeypatch.setattr(random_model, "SHAPES", MappingProxyType({**SHAPES, "tiny": spec}))
    peer = TransformersEngine(job("transformers", "fp32"))
    run = peer.run(PROMPT, 5)
    assert run.decode_steps == 3 and len(run.first_ids) == 5
    assert peer.facts.weight_bytes >= 4 * (spec.parameters - spec.hidden)
    ours = open_tiny(spec, "fp16")
    # fp32 on both sides: the dense recipe of the reference, without its 16-bit rounding.
    subject = Subject(random_model.random_source("tiny", spec), "tiny", True)
    reference = reference_decoder(ours, subject, spec.layers)
    pool = KvPool(
        spec,
        pages=4,
        page_tokens=16,
        precision="16bit",
        dtype=torch.float32,
        device=torch.device("cpu"),
    )
    with torch.inference_mode():
        theirs = peer._model(torch.tensor([PROMPT])).logits[0]
        kl, error, _ = compare(prompt_logits(reference, pool, PROMPT), theirs)
    # The reference's weights are rounded to bfloat16, the peer's are not.
    assert kl < 1e-4 and error < 0.01


def test_rows_are_written_together_each_with_its_own_prompt() -> None:
    engine = open_tiny(TINY, "fp16", rows=3)
    alone = [engine.run(prompt, 6).first_ids for prompt in row_prompts(PROMPT, 3)]
    assert len(set(alone)) > 1
    seen: list[tuple[int, ...]] = []
    leave = engine.runner.leave

    def noted(sequence: Sequence) -> None:
        seen.append(tuple(sequence.tokens[len(PROMPT) :][:6]))
        leave(sequence)

    engine.runner.leave = noted  # type: ignore[method-assign]
    together = engine.run(PROMPT, 6, rows=3)
    assert together.first_ids == alone[0] and seen == alone
    assert together.decode_steps == 4


def test_one_token_times_the_prompt_alone() -> None:
    engine = open_tiny(TINY, "int8")
    run = engine.run(PROMPT, 1)
    assert run.prefill_s > 0 and run.decode_steps == 0 and run.gaps_s == ()
    assert len(run.first_ids) == 1


def test_the_plan_is_that_of_the_app_and_grows_where_it_must() -> None:
    spec = dataclasses.replace(TINY, context=20_000)
    assert open_tiny(spec, "fp16").plan.context_tokens == CONTEXT_DEFAULT_CPU
    wide = open_tiny(spec, "fp16", context_tokens=9_000)
    assert wide.plan.context_tokens >= 9_000
    assert wide.run([1] * 8_990, 3).decode_steps == 1


def test_nf4_holds_a_quarter_and_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("bitsandbytes")
    from quantchat.bench.peer_transformers import TransformersEngine

    monkeypatch.setattr(random_model, "SHAPES", MappingProxyType({**SHAPES, "tiny": TINY}))
    plain = TransformersEngine(job("transformers", "bf16"))
    packed = TransformersEngine(job("bitsandbytes", "nf4-dq"))
    linears = TINY.linear_parameters
    saved = plain.facts.read_bytes - packed.facts.read_bytes
    # 2 bytes become half a byte, a scale in 8 bits for each 64 weights, and little more.
    assert 2 * linears * 0.7 < saved < 2 * linears * 0.75
    assert packed.facts.engine == "bitsandbytes" and packed.facts.version
    run = packed.run(PROMPT, 4, rows=2)
    assert run.decode_steps == 2 and len(run.first_ids) == 4
