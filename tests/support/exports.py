"""A model's logits under a scheme, and an export of it, both as the program makes them."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from decoders import logits_in_chunks, make_pool

from quantchat.calibration.settings import CalibrationSettings
from quantchat.engine.loading import build_decoder, calibrated_matrices
from quantchat.evals.subject import Subject, open_subject
from quantchat.model.export import write_config, write_marker, write_weights
from quantchat.model.weights import WeightReader, WeightRecipe
from quantchat.tokenizer.writing import copy_tokenizer

IDS = [5, 9, 17, 33, 41, 60, 7]
SETTINGS = CalibrationSettings(sequences=2, tokens=24)


def logits(subject: Subject, scheme: str) -> torch.Tensor:
    plan = subject.plan(scheme, "16bit", "cpu", 64)
    decoder = build_decoder(
        subject.source,
        plan,
        subject.ops(plan),
        on_progress=lambda *words: None,
        cancelled=lambda: False,
        calibration=SETTINGS,
    ).decoder
    pool = make_pool(decoder, pages=4, page_tokens=16)
    return logits_in_chunks(decoder, pool, IDS, [2], [len(IDS)])


def export(source: Path, out: Path, scheme: str) -> Path:
    """As `quantchat quantize` does, nothing measured."""
    out.mkdir()
    subject = open_subject(str(source))
    plan = subject.plan(scheme, "16bit", "cpu", 64)
    ops = subject.ops(plan)
    recipe = WeightRecipe(
        scheme=plan.scheme, group_size=plan.group_size, dtype=torch.bfloat16, device=ops.device
    )
    reader = WeightReader(subject.source, recipe)
    made = calibrated_matrices(
        subject.source, recipe, ops, SETTINGS, lambda *words: None, lambda: False
    )
    written = write_weights(
        out, reader, made, on_progress=lambda *words: None, cancelled=lambda: False
    )
    copy_tokenizer(source, out)
    write_config(out, json.loads((source / "config.json").read_text()), scheme)
    write_marker(out, reader, written, recipe={"scheme": scheme}, quality=[])
    subject.close()
    return out
