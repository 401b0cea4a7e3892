"""Engines run forced lengths; ours and transformers agree on the same random weights."""

from types import MappingProxyType

import pytest
from bench_subjects import TINY, job, open_tiny, variants_of

from quantchat.bench import random_model
from quantchat.shapes import SHAPES
from quantchat.spec import DecoderSpec

PROMPT = [(5 * i + 1) % TINY.vocab for i in range(9)]


@pytest.mark.parametrize("kv", ["16bit", "int8"])
def test_a_run_has_the_length_asked_for_and_repeats(kv: str) -> None:
    engine = open_tiny(TINY, "int4", kv=kv)
    first, again = engine.run(PROMPT, 12), engine.run(PROMPT, 12)
    assert first.decode_steps == 11 and len(first.gaps_s) == 11
    assert first.decode_s == pytest.approx(sum(first.gaps_s))
    assert first.prefill_s > 0
    assert len(first.first_ids) == 12 and first.first_ids == again.first_ids
    assert engine.peak_bytes() > engine.facts.weight_bytes


def test_prompts_longer_than_a_chunk_are_read_in_chunks() -> None:
    import dataclasses

    engine = open_tiny(TINY, "fp16")
    whole = engine.run(PROMPT, 4).first_ids
    engine.plan = dataclasses.replace(engine.plan, prefill_chunk_tokens=4)
    assert engine.run(PROMPT, 4).first_ids == whole


@pytest.mark.parametrize("spec", variants_of(TINY), ids=lambda s: f"{s.architecture}{s.tied_head}")
def test_transformers_has_the_same_weights(
    spec: DecoderSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    from quantchat.bench.gate import compare, forced_logits, reference_decoder
    from quantchat.bench.own import Subject
    from quantchat.bench.peer_transformers import TransformersEngine
    from quantchat.ops.kv_pool import KvPool

    monkeypatch.setattr(random_model, "SHAPES", MappingProxyType({**SHAPES, "tiny": spec}))
    peer = TransformersEngine(job("transformers", "fp32"))
    run = peer.run(PROMPT, 5)
    assert run.decode_steps == 4 and len(run.first_ids) == 5
    assert peer.facts.weight_bytes >= 4 * spec.parameters
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
        kl, error, _ = compare(forced_logits(reference, pool, PROMPT), theirs)
    # The reference's weights are rounded to bfloat16, the peer's are not.
    assert kl < 1e-4 and error < 0.01
