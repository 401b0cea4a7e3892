"""A shape small enough to measure in a test, and our engine on random weights of it."""

from __future__ import annotations

import dataclasses
from types import MappingProxyType

import pytest

from quantchat.bench.contest import Job
from quantchat.shapes import SHAPES
from quantchat.spec import DecoderSpec, RopeSpec

TINY = DecoderSpec(
    architecture="llama",
    layers=2,
    hidden=128,
    heads=4,
    kv_heads=2,
    head_dim=32,
    intermediate=256,
    vocab=320,
    context=256,
    norm_eps=1e-5,
    rope=RopeSpec(theta=10000.0, rotary_dim=32),
    activation="silu",
    attention_scale=32**-0.5,
)


def job(kind: str, variant: str, **changes: object) -> Job:
    """A job on the shape `tiny`."""
    fields: dict[str, object] = {
        "kind": kind,
        "variant": variant,
        "model": "",
        "shape": "tiny",
        "kv": "auto",
        "device": "cpu",
        "threads": 1,
        "context_tokens": 64,
        "rows": 1,
        "gate_ids": (),
    }
    return Job(**{**fields, **changes})  # type: ignore[arg-type]


def open_tiny(spec: DecoderSpec, scheme: str, **changes: object):  # type: ignore[no-untyped-def]
    """An OwnEngine on random weights of `spec`."""
    from quantchat.bench import random_model
    from quantchat.bench.own import OwnEngine

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(random_model, "SHAPES", MappingProxyType({**SHAPES, "tiny": spec}))
        return OwnEngine(job("quantchat", scheme, **changes))


def variants_of(spec: DecoderSpec) -> tuple[DecoderSpec, ...]:
    """Families that differ in what they hold."""
    return (
        spec,
        dataclasses.replace(spec, tied_head=True),
        dataclasses.replace(spec, architecture="qwen2", qkv_bias=True),
        dataclasses.replace(spec, architecture="qwen3", qk_norm=True),
    )
