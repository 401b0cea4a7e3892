"""What an engine in a benchmark is: the job it gets, the facts it states, the times it returns.

Owns the records that pass between the benchmark and the processes of its engines, as JSON.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any, Literal, Protocol, TypeAlias

EngineKind: TypeAlias = Literal["quantchat", "transformers", "bitsandbytes", "torchao", "llama.cpp"]

FIRST_IDS = 16


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
    rows: int = 1
    """Most sequences that a run writes at once."""
    tune: bool = True
    """Whether our linears are fitted to a card that has no tiles for them, as the app does."""
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
    steps: int
    """Of the positions, those that the runner computed one at a time, as answers are."""
    kl_mean: float
    relative_error: float
    """Of the centred logits, in norm."""
    same_top_share: float
    worst_regret: float
    """Largest gap between the best logit and that of the token the runner chose."""
    regret_limit: float
    """What of it passes: the model's own answer to a nudge of its input decides."""
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
    tiles: tuple[str, ...] = ()
    """How the linears of single rows are launched, and how that is known; empty on the CPU."""
    tune_s: float = 0.0
    """Spent on finding that; 0 where it was known."""
    compile_s: float = 0.0
    """Spent on kernels that no cache had."""
    gate: GateResult | None = None
    """None where the engine is not ours to check."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunTimes:
    """Prompts read and an answer of forced length written to each, a token of each row a step."""

    prefill_s: float
    """Prompt to first token; of all rows together."""
    decode_s: float
    """Time of `decode_steps` steps."""
    decode_steps: int
    """Steps timed; 0 where only the prompt was."""
    first_step: int
    """The first step timed, counting from 1 for the one that computes the first token's successor."""
    gaps_s: tuple[float, ...]
    """Time of each of these steps; empty where the engine does not tell."""
    first_ids: tuple[int, ...]
    """How the first row's answer begins; empty where the engine does not tell."""


class BenchEngine(Protocol):
    """An engine that is loaded and warm."""

    facts: EngineFacts

    def run(self, prompt: list[int], tokens: int, rows: int = 1) -> RunTimes:
        """Greedy, no end of sequence, nothing reused from earlier runs.

        Row i reads the prompt turned by i tokens. One token means that only the prompt is timed.
        Raises EngineError where the engine does not write so many rows at once.
        """

    def peak_bytes(self) -> int:
        """Most memory held in the runs: of the card on a GPU, of the process on the CPU."""


def row_prompts(prompt: list[int], rows: int) -> list[list[int]]:
    """A prompt of its own for each row, all of one length and of the same tokens."""
    return [prompt[i % len(prompt) :] + prompt[: i % len(prompt)] for i in range(rows)]


def run_times(
    started_s: float, stamps_s: list[float], tokens: int, first_ids: list[int]
) -> RunTimes:
    """From the start and the moments at which the `tokens` tokens of a row were known.

    The first step is left out: it pays for taking its seat, which an answer does once.
    """
    assert len(stamps_s) == tokens
    timed = stamps_s[1:]
    gaps = tuple(b - a for a, b in pairwise(timed))
    return RunTimes(
        prefill_s=stamps_s[0] - started_s,
        decode_s=timed[-1] - timed[0] if gaps else 0.0,
        decode_steps=len(gaps),
        first_step=2,
        gaps_s=gaps,
        first_ids=tuple(first_ids[:FIRST_IDS]),
    )
