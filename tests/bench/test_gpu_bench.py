"""Benchmarks on a real card, small: limits, gates through graphs of several rows, agreement."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from bench_subjects import job

pytestmark = pytest.mark.gpu

PROMPT = list(range(5, 69))
IDS = tuple((7 * i * i + 3) % 40_000 for i in range(24))


def test_the_limits_are_in_order() -> None:
    from quantchat.bench.ceilings import measure

    found = measure("cuda", 0)
    assert found.copy_gb_per_s is not None and found.graph_gap_us is not None
    assert 0.5 < found.copy_gb_per_s / found.read_gb_per_s < 1.5
    assert 0.1 < found.graph_gap_us < 20
    assert found.bf16_gflops is not None and found.bf16_gflops > 1000
    if torch.cuda.get_device_capability() >= (8, 9):
        assert found.fp8_gflops is not None and found.fp8_gflops > found.bf16_gflops


@pytest.mark.parametrize("kv", ["16bit", "int8"])
@pytest.mark.parametrize("scheme", ["fp16", "int8", "int4"])
@torch.inference_mode()
def test_the_gate_passes_and_rows_are_timed(scheme: str, kv: str) -> None:
    from quantchat.bench.own import OwnEngine

    words = {"shape": "smollm2-135m", "device": "cuda", "kv": kv, "rows": 4, "gate_ids": IDS}
    engine = OwnEngine(job("quantchat", scheme, context_tokens=128, threads=0, **words))
    gate = engine.facts.gate
    assert gate is not None and gate.passed, gate
    for rows in (1, 3, 4):
        run = engine.run(PROMPT, 12, rows)
        assert run.decode_steps == 10 and all(gap > 0 for gap in run.gaps_s)
    assert engine.run(PROMPT, 12).first_ids == engine.run(PROMPT, 12).first_ids


@pytest.mark.parametrize("kv", ["16bit", "int8"])
def test_captured_steps_agree_with_float32(kv: str, tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    import factory

    from quantchat.evals.agreement import agree
    from quantchat.evals.prompts import PROMPTS
    from quantchat.evals.subject import open_subject

    sizes = {"hidden_size": 256, "intermediate_size": 512, "head_dim": 64}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 1024}
    folder = factory.write_hf(tmp_path / "tiny", "llama", **sizes, **heads)
    subject = open_subject(str(folder))
    try:
        found = agree(
            subject,
            PROMPTS[:3],
            scheme="int4",
            kv=kv,
            device="cuda",
            tokens=32,
            on_work=lambda label, done, total: None,
            cancelled=lambda: False,
        )
    finally:
        subject.close()
    assert found.captured and found.plain is not None
    # Kernels may round differently, not worse, than plain torch in the same format.
    assert found.steps.nonfinite_positions == 0
    assert found.steps.kl_mean.value < max(1e-3, 4 * found.plain.kl_mean.value)
