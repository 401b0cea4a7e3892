"""What comes out of the engine: frozen records, stamped where they happen (`time.perf_counter`).

Owns the words that engine, screens and commands share. All times in seconds, all sizes in bytes.
ITL is the gap between two tokens; TTFT runs from submit to the first token.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from quantchat.requests import Slot, WayOut

FinishReason: TypeAlias = Literal["stop", "length", "context", "cancelled"]
LoadPhase: TypeAlias = Literal[
    "import",
    "fetch",
    "read",
    "sample",
    "calibrate",
    "quantize",
    "upload",
    "compile",
    "warm",
    "tune",
    "wait",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelInfo:
    """A loaded model as the meters and exports name it."""

    slot: Slot
    model: str
    """The name the user knows it by."""
    path: str
    architecture: str
    parameters: int
    scheme: str
    scheme_detail: str
    """In words: "int4 group 64 (HQQ), int8 head"."""
    kv: str
    device: str
    """cpu or cuda."""
    device_name: str
    context_tokens: int
    weight_bytes: int
    bits_per_weight: float
    load_s: float
    identity: str
    """Of the model's file, as caches and measurements are keyed by it."""
    read_bytes_per_s: float | None
    """What the device reads: measured here, or a known card's; None where neither is known."""
    kv_bytes_per_token: int
    reasons: tuple[str, ...] = ()
    """The plan's decisions and refusals, a sentence each."""
    notes: tuple[str, ...] = ()
    """What of the file was rounded once more or left out, in words with the error."""
    opening: str = ""
    """The mark of reasoning that the chat template writes into the prompt: answers go on from it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryUse:
    """Who holds what. Peak and process count this process; total and free count the device."""

    weight_bytes: int
    kv_used_bytes: int
    kv_reserved_bytes: int
    workspace_bytes: int
    peak_bytes: int
    process_bytes: int
    device_total_bytes: int
    device_free_bytes: int
    others_bytes: int
    """Of the device, held by other programs: total less free less what is this process's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GapTrace:
    """All gaps between an answer's tokens in a bounded number of runs, oldest first."""

    run_tokens: int
    """Gaps in each run, the last one excepted."""
    mean_s: tuple[float, ...]
    max_s: tuple[float, ...]


NO_GAPS = GapTrace(run_tokens=1, mean_s=(), max_s=())


@dataclass(frozen=True, slots=True, kw_only=True)
class Metrics:
    """Latency of one request so far, measured in the engine, never at the screen."""

    prompt_tokens: int
    cached_tokens: int
    """Prompt tokens whose KV was already there."""
    completion_tokens: int
    context_tokens: int
    """Tokens in the context now."""
    context_tokens_max: int
    queue_s: float
    """Waiting for the engine, and for its turn among other requests."""
    template_s: float
    prefill_s: float
    first_sample_s: float
    ttft_s: float
    itl_p50_s: float
    itl_p95_s: float
    itl_max_s: float
    itl_recent_s: tuple[float, ...]
    """The last gaps, oldest first, for a sparkline."""
    itl_trace: GapTrace
    prefill_tok_per_s: float
    """Prompt tokens computed (not cached) over prefill time."""
    decode_tok_per_s: float
    """Tokens after the first over the time they took."""
    e2e_s: float
    read_bytes_per_token: int
    """What a decode step reads now: weights once, and the KV of the answer's own context."""
    decode_joules: float | None
    """Energy of the whole card from the first token to now; None where the driver does not tell."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadProgress:
    """A load is under way."""

    slot: Slot
    load_id: int
    phase: LoadPhase
    done: int
    total: int
    """In bytes where bytes move, else in steps; 0 when not known yet."""
    detail: str = ""
    time_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """The slot answers with the new model from here on."""

    slot: Slot
    load_id: int
    info: ModelInfo
    memory: MemoryUse
    phases: tuple[tuple[LoadPhase, float], ...] = ()
    """Seconds of each phase, in order; together the time from the request to this event."""
    time_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadFailed:
    """The load ended; the slot keeps what it had, unless that was unloaded to make room."""

    slot: Slot
    load_id: int
    message: str
    hint: str
    cancelled: bool = False
    lacks_memory: bool = False
    """Whether it might load with more memory free."""
    ways: tuple[WayOut, ...] = ()
    """Loads that would do instead."""
    time_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Unloaded:
    """The slot is empty and its memory given back: it was asked for, the model broke, or a load that is
    under way has no room beside it.
    """

    slot: Slot
    time_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """A request left the queue; its prompt is known."""

    request_id: int
    slot: Slot
    prompt_tokens: int
    cached_tokens: int
    context_tokens_max: int
    seed: int
    time_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """Something the user should know: turns left out, a fallback taken."""

    request_id: int
    slot: Slot
    kind: Literal["context", "fallback"]
    message: str
    time_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PrefillProgress:
    """A chunk of the prompt is in the cache."""

    request_id: int
    slot: Slot
    done_tokens: int
    total_tokens: int
    time_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """One token left the model. `text` may be empty while a character is incomplete."""

    request_id: int
    slot: Slot
    index: int
    token_id: int
    text: str
    time_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A token that a model could have written."""

    token_id: int
    text: str
    p: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenScore:
    """One token of an answer in the eyes of a model, and of the base where there is one."""

    token_id: int
    text: str
    p: float
    """Probability that the scoring model gives the token."""
    top: tuple[Candidate, ...]
    """Its five likeliest, likeliest first."""
    base_p: float | None
    base_top: tuple[Candidate, ...]
    kl: float | None
    """KL(base || scoring model) in nats over the whole vocabulary."""
    same_top: bool | None
    """Whether both models' likeliest token is the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """Scores of answer tokens from `first` on; the request is over where `done`."""

    request_id: int
    slot: Slot
    first: int
    scores: tuple[TokenScore, ...]
    exact: bool
    done: bool
    time_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Stats:
    """Meters of a running request, a few times a second."""

    request_id: int
    slot: Slot
    metrics: Metrics
    memory: MemoryUse
    time_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """The answer is complete; `text` is all of it."""

    request_id: int
    slot: Slot
    finish_reason: FinishReason
    text: str
    metrics: Metrics
    memory: MemoryUse
    time_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """The request ended with an error; what was written so far is kept. The engine lives on."""

    request_id: int
    slot: Slot
    message: str
    hint: str
    text: str
    ways: tuple[WayOut, ...] = ()
    """Loads with which it might be answered."""
    time_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineStopped:
    """The engine thread ended; `message` is empty after a plain close."""

    message: str
    hint: str
    time_s: float


Event: TypeAlias = (
    LoadProgress
    | Loaded
    | LoadFailed
    | Unloaded
    | Started
    | Notice
    | PrefillProgress
    | Token
    | Scored
    | Stats
    | Done
    | Failed
    | EngineStopped
)
