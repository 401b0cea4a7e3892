"""What an engine in a benchmark is: the job it gets, the facts it states, the times it returns.

Owns the records that pass between the benchmark and the processes of its engines, as JSON.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal, Protocol, TypeAlias

EngineKind: TypeAlias = Literal["quantchat", "transformers", "llama.cpp"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One engine in one configuration."""

    kind: EngineKind
    variant: str
    """The scheme, or a peer's number format."""
    model: str
    """Alias, file or folder; empty where `shape` is given."""
    shape: str
    """Name of a known shape with random weights; empty where `model` is given."""
    kv: str
    device: str
    threads: int
    """CPU threads; 0 leaves it to the plan, which also tells the peers."""
    context_tokens: int
    """Longest sequence of any run."""
    gate_ids: tuple[int, ...]
    """Tokens that the correctness gate reads."""

    def as_json(self) -> dict[str, Any]:
        """For the engine's process."""
        return asdict(self)

    @staticmethod
    def from_json(fields: dict[str, Any]) -> Job:
        """The job that `as_json` wrote."""
        return Job(**{**fields, "gate_ids": tuple(fields["gate_ids"])})


@dataclass(frozen=True, slots=True, kw_only=True)
class GateResult:
    """The scheme's logits against the same weights in float32 reference operations."""

    positions: int
    layers: int
    """Layers compared; fewer than the model's where the reference would not fit."""
    kl_mean: float
    relative_error: float
    """Of the centred logits, in norm."""
    same_top_share: float
    worst_regret: float
    """Largest gap between the best logit and that of the token the runner chose."""
    passed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineFacts:
    """A loaded engine."""

    engine: str
    version: str
    scheme: str
    kv: str
    device: str
    weight_bytes: int
    """Bytes of weights held for decoding."""
    read_bytes: int
    """Bytes of weights that one decode step reads."""
    kv_bytes_per_token: int
    """Cache bytes that one decode step reads for each token of context."""
    load_s: float
    kernels: tuple[str, ...] = ()
    gate: GateResult | None = None
    """None where the engine is not ours to check."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunTimes:
    """One prompt read and one answer of forced length written."""

    prefill_s: float
    """Prompt to first token."""
    decode_s: float
    """First token to last."""
    decode_steps: int
    """Tokens after the first."""
    gaps_s: tuple[float, ...]
    """Time between neighbouring tokens; empty where the engine does not tell."""
    first_ids: tuple[int, ...]
    """How the answer begins; empty where the engine does not tell."""


class BenchEngine(Protocol):
    """An engine that is loaded and warm."""

    facts: EngineFacts

    def run(self, prompt: list[int], tokens: int) -> RunTimes:
        """Greedy, no end of sequence, nothing reused from earlier runs."""

    def peak_bytes(self) -> int:
        """Most memory held in the runs: of the card on a GPU, of the process on the CPU."""
