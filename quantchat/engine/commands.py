"""What the engine thread is told through its queue: frozen records."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from quantchat.engine.load_job import LoadJob
from quantchat.errors import DeviceLostError
from quantchat.requests import ChatRequest, ScoreRequest, Slot

if TYPE_CHECKING:
    from quantchat.engine.model import LoadedModel


@dataclass(frozen=True, slots=True)
class Install:
    """Put a finished model into its slot."""

    job: LoadJob
    model: list[LoadedModel]
    """Taken out by whoever installs it, so that the command holds it no longer."""


@dataclass(frozen=True, slots=True)
class Unload:
    """Empty the slot at the user's wish."""

    slot: Slot


@dataclass(frozen=True, slots=True)
class MakeRoom:
    """Empty the slot for the model that is being loaded into it."""

    job: LoadJob
    done: threading.Event


@dataclass(frozen=True, slots=True)
class Lost:
    """A load met a dead card."""

    problem: DeviceLostError


@dataclass(frozen=True, slots=True)
class Chat:
    """Answer."""

    request_id: int
    request: ChatRequest
    submitted_s: float


@dataclass(frozen=True, slots=True)
class Score:
    """Say how likely given tokens are."""

    request_id: int
    request: ScoreRequest


@dataclass(frozen=True, slots=True)
class Cancel:
    """Stop an answer or a scoring."""

    request_id: int


@dataclass(frozen=True, slots=True)
class Close:
    """End the engine thread."""


Command: TypeAlias = Install | Unload | MakeRoom | Lost | Chat | Score | Cancel | Close
