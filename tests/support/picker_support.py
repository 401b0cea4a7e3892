"""Doubles around the model picker: verdicts without a plan, repositories without a hub."""

from __future__ import annotations

import threading

from quantchat.errors import Cancelled, QuantchatError
from quantchat.hub.search import FoundRepo
from quantchat.hub.variants import Offer, Variant
from quantchat.tui.control.fits import CONTEXTS, Fit, Fits, Verdict
from quantchat.tui.control.schemes import Held

GIB = 1 << 30


class FakeFits:
    """Implements `FitBook`: the larger the context, the worse; what is asked is noted."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.cancelled: list[str] = []
        self.errors: dict[str, QuantchatError] = {}
        self.given: dict[str, Fits] = {}
        """By name, in place of the usual ones."""
        self.hold = threading.Event()
        self.hold.set()
        """Cleared, a plan stands still until it is cancelled."""

    def fits(self, name: str, held: Held | None, cancel: threading.Event) -> Fits:
        """Those of a small model on a small device."""
        self.asked.append(name)
        while not self.hold.wait(0.005):
            if cancel.is_set():
                self.cancelled.append(name)
                raise Cancelled("not wanted any more")
        if name in self.errors:
            raise self.errors[name]
        return self.given.get(name) or fits(name)


def fits(
    name: str,
    *,
    weight_bytes: int = 2 * GIB,
    measured: frozenset[str] = frozenset(),
    reencoded: str = "",
) -> Fits:
    """On a device with 8 GiB, 6 of them free."""
    rows = tuple(_fit(tokens, weight_bytes, measured) for tokens in CONTEXTS)
    fitting = [row.context_tokens for row in rows if row.verdict != "too_large"]
    return Fits(
        name=name,
        device_name="Test card",
        free_bytes=6 * GIB,
        total_bytes=8 * GIB,
        scheme="int4",
        kv="16bit",
        longest_context_tokens=max(fitting, default=0),
        fits=rows,
        known="config",
        reencoded=reencoded,
    )


def refused(name: str) -> Fits:
    """What no reader of ours can load."""
    return Fits(
        name=name,
        device_name="Test card",
        free_bytes=6 * GIB,
        total_bytes=8 * GIB,
        scheme="",
        kv="",
        longest_context_tokens=0,
        fits=(),
        known="config",
        refusal="MambaForCausalLM is not among the families that can be loaded",
        hint="choose a Llama, Qwen or Mistral model",
    )


def _fit(context_tokens: int, weight_bytes: int, measured: frozenset[str]) -> Fit:
    kv_bytes = context_tokens * (128 << 10)
    need_bytes = weight_bytes + kv_bytes + GIB // 4
    verdict: Verdict = (
        "fits" if need_bytes < 5 * GIB else "tight" if need_bytes < 6 * GIB else "too_large"
    )
    return Fit(
        context_tokens=context_tokens,
        weight_bytes=weight_bytes,
        kv_bytes=kv_bytes,
        workspace_bytes=GIB // 4,
        load_peak_bytes=weight_bytes + GIB // 2,
        tok_per_s=40 * 2 * GIB / weight_bytes,
        speed_tokens=1024,
        verdict=verdict,
        measured=measured,
    )


def repo(name: str, **facts: object) -> FoundRepo:
    """A repository as the search tells of it."""
    told: dict[str, object] = {
        "downloads": 1234,
        "likes": 56,
        "updated": "2026-10-01",
        "gated": False,
        "private": False,
        "license": "apache-2.0",
        "tags": (),
        "parameters": 7_615_616_512,
    }
    return FoundRepo(repo=name, **{**told, **facts})  # type: ignore[arg-type]


def offer(name: str, **facts: object) -> Offer:
    """A repository with two GGUF files and a folder."""
    types = {"Q4_K_M": 4.0, "Q8_0": 8.0}
    variants = [
        Variant(
            name=f"{name}:model.{label}.gguf",
            container="gguf",
            label=label,
            bits=bits,
            size_bytes=int(bits * GIB),
            files=1,
        )
        for label, bits in types.items()
    ]
    folder = Variant(
        name=name,
        container="safetensors",
        label="BF16",
        bits=16.0,
        size_bytes=15 * GIB,
        files=7,
    )
    told: dict[str, object] = {
        "revision": "c" * 40,
        "gated": False,
        "private": False,
        "may_fetch": True,
        "license": "apache-2.0",
        "parameters": 7_615_616_512,
        "architecture": "Qwen2ForCausalLM",
        "config": {},
        "variants": (*variants, folder),
    }
    return Offer(repo=name, **{**told, **facts})  # type: ignore[arg-type]
