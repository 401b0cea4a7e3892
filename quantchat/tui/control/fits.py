"""What a model would be on this machine, per context length: the picker's verdicts.

Owns the records alone. Shapes come from files, or from the hub's config and headers; estimates are
`hardware`'s, measured figures the store's.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

from quantchat.tui.control.schemes import Held

Verdict: TypeAlias = Literal["fits", "tight", "too_large"]
Known: TypeAlias = Literal["file", "header", "config", "catalog"]

CONTEXTS = (4096, 8192, 16_384, 32_768, 65_536, 131_072)
"""Looked at as far as the model goes; its own longest is looked at too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """One context length; estimates, but for what `measured` names."""

    context_tokens: int
    weight_bytes: int
    """Dense copies for prefill counted in."""
    kv_bytes: int
    workspace_bytes: int
    load_peak_bytes: int
    tok_per_s: float | None
    """Behind `speed_tokens` of context; None where nothing is known."""
    speed_tokens: int
    verdict: Verdict
    measured: frozenset[str] = frozenset()
    """Names of the fields that were measured after a load on this machine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fits:
    """One model, or one variant of a repository."""

    name: str
    """What loads or fetches it."""
    device_name: str
    free_bytes: int
    """On the device now, and what the loaded model would give back."""
    total_bytes: int
    scheme: str
    """That the plan takes."""
    kv: str
    longest_context_tokens: int
    """That fits; 0 if nothing does."""
    fits: tuple[Fit, ...]
    """By context length; empty where the plan refuses the model."""
    known: Known
    """Where the model's shape comes from."""
    reencoded: str = ""
    """What is not kept as stored and what takes its place, in a few words."""
    refusal: str = ""
    """Why it cannot be loaded; empty where it can."""
    hint: str = ""


class FitBook(Protocol):
    """Where verdicts come from; may block and is run in a thread."""

    def fits(self, name: str, held: Held | None, cancel: threading.Event) -> Fits:
        """Of a model on disk, a repository, or `repository:file.gguf`.

        Asks the hub for a model that is not on disk: for config.json, or for the beginning of the
        GGUF file. Raises Cancelled, and QuantchatError where nothing is known of it.
        """
