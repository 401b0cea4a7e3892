"""When two models take turns: both do not fit at once, so one goes before the other comes.

Pure decisions over requests and events; who loads and waits is the screen's or the runner's matter.
"""

from __future__ import annotations

from dataclasses import replace

from quantchat.events import LoadFailed, ModelInfo
from quantchat.requests import LoadRequest

TURNS_WORDS = "both do not fit into memory at once: they take turns"


def beside(request: LoadRequest, other: ModelInfo) -> LoadRequest:
    """The request for the device that the other model is on, unless it names one.

    Left to itself, an automatic choice could move the second model to the processor, where its
    speed says nothing about the scheme.
    """
    return replace(request, device=other.device) if request.device == "auto" else request


def must_take_turns(failed: LoadFailed, *, other_loaded: bool) -> bool:
    """Whether the load would have had a chance with the other side's model gone."""
    return failed.lacks_memory and other_loaded and not failed.cancelled
