"""Schemes, the packed cache and exports of models whose blocks are not as Llama's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import factory
import pytest
import torch
from decoders import float32_decoder, logits_in_chunks, make_pool
from exports import IDS, export, logits

from quantchat.evals.subject import open_subject

CASES: list[tuple[str, str, float]] = [
    # family, scheme, most that logits may differ, as a share of their spread
    ("gemma3", "fp16", 0.04),
    ("phi2", "int8", 0.05),
    ("mixtral", "fp8", 0.3),
    ("granite", "int4", 0.15),
    ("qwen2moe", "int8", 0.1),
]
"""Random matrices lose more than trained ones; a wrong layout would make it more than 1."""


def write(folder: Path, family: str) -> Path:
    wide: dict[str, Any] = {"intermediate_size": 128}
    if family == "qwen2moe":
        wide |= {"moe_intermediate_size": 64, "shared_expert_intermediate_size": 64}
    return factory.write_hf(folder, family, **wide)


@pytest.mark.parametrize(("family", "scheme", "most"), CASES)
def test_rounded_kept_and_exported(
    family: str, scheme: str, most: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QUANTCHAT_HOME", str(tmp_path / "home"))
    path = write(tmp_path / "model", family)
    exact = float32_decoder(path, context_tokens=64)
    pool = make_pool(exact, pages=4, page_tokens=16)
    wanted = logits_in_chunks(exact, pool, IDS, [2], [len(IDS)])
    subject = open_subject(str(path))
    made = logits(subject, scheme)
    again = logits(subject, scheme)
    planned = subject.plan(scheme, "16bit", "cpu", 64)
    assert "norms and sums" in {choice.op for choice in planned.ops}
    subject.close()
    assert float((made - wanted).square().mean().sqrt()) < most * float(wanted.std())
    assert torch.equal(made, again)
    packed = list((tmp_path / "home").rglob("*.safetensors"))
    assert len(packed) == (0 if scheme == "fp16" else 1)
    out = export(path, tmp_path / "out", scheme)
    exported = open_subject(str(out))
    assert exported.source.spec == exact.spec
    assert torch.equal(logits(exported, scheme), made)
    exported.close()


@pytest.mark.parametrize("family", ["phi2", "gemma2", "granite"])
def test_a_head_alone_gives_the_models_logits(family: str, tmp_path: Path) -> None:
    subject = open_subject(str(write(tmp_path / "model", family)))
    plan = subject.plan("fp16", "16bit", "cpu", 64)
    ops = subject.ops(plan, torch.float32)
    decoder = subject.float32_decoder(plan, lambda *words: None, lambda: False)
    states = torch.randn(3, decoder.spec.hidden, generator=torch.Generator().manual_seed(2))
    head = subject.dense_head(plan, ops)
    assert torch.equal(head(states), decoder.logits(states))
    raw = states @ decoder.embedding.weight.dequantize(torch.float32).t()
    assert (head(states) - raw).abs().max() > 0.1
    subject.close()
