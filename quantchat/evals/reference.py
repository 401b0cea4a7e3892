"""The model that others are measured against: its hidden states, kept, and its head.

Log-probabilities of T tokens would take T * vocab floats; the states in front of the head take
T * hidden and give the same numbers again, exactly, for one matmul. They outlive the run on disk.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal, TypeAlias

import torch

from quantchat.engine.loading import build_pool
from quantchat.evals import kept
from quantchat.evals.logprobs import hidden_states, log_softmax, row_slices
from quantchat.evals.subject import OnWork, Subject, phases
from quantchat.evals.text import Passages
from quantchat.hardware.execution import ExecutionPlan
from quantchat.model.decoder import Decoder
from quantchat.ops.kv_pool import KvPool
from quantchat.ops.linear import LinearOp

ReferenceKind: TypeAlias = Literal["fp32", "fp16"]
REFERENCES: Mapping[ReferenceKind, str] = MappingProxyType(
    {
        "fp32": "the file's own weights dense in float32, float32 KV",
        "fp16": "the file's own weights dense in 16 bits, 16-bit KV",
    }
)
VERSION = 1
"""Goes up when what is kept changes."""
HELD_BYTES = 256 << 20


@dataclass(frozen=True, slots=True)
class Reference:
    """Hidden states [S, C] of each window's scored rows in main memory, and the head."""

    head: LinearOp
    device: torch.device
    hidden: tuple[torch.Tensor, ...]
    from_cache: bool = False
    _held: dict[tuple[int, int, int], torch.Tensor] = field(default_factory=dict)
    """Log-probabilities of a short text, wanted again for every row of a study."""

    @torch.inference_mode()
    def log_probs(self, window: int, rows: slice) -> torch.Tensor:
        """Log-probabilities float32 [R, V] of some scored rows of a window; not to be written to."""
        key = (window, rows.start, rows.stop)
        known = self._held.get(key)
        if known is not None:
            return known
        made = log_softmax(self.head(self.hidden[window][rows].to(self.device)))
        if sum(held.nbytes for held in self._held.values()) + made.nbytes <= HELD_BYTES:
            self._held[key] = made
        return made

    @torch.inference_mode()
    def nll(self, passages: Passages) -> torch.Tensor:
        """Negative log-probabilities float64 [S] of all scored tokens."""
        parts = []
        for index, window in enumerate(passages.windows):
            targets = torch.tensor(window.ids[window.first_target :], device=self.device)
            for rows in row_slices(window.scored_tokens, self.head.out_features):
                picked = self.log_probs(index, rows).gather(1, targets[rows][:, None])
                parts.append(-picked[:, 0].double().cpu())
        return torch.cat(parts)


def reference_for(
    subject: Subject,
    passages: Passages,
    kind: ReferenceKind,
    device: str,
    on_work: OnWork,
    cancelled: Callable[[], bool],
) -> Reference:
    """The reference on these windows, its states out of the cache where they are there."""
    plan = subject.plan("fp16", "16bit", device, passages.longest_tokens)
    key = _key(subject, passages, kind, plan)
    hidden = kept.states(key, passages, hidden=subject.source.spec.hidden)
    if hidden is not None:
        ops = subject.ops(plan, torch.float32 if kind == "fp32" else None)
        on_work("reference: cached", 0, 0)
        return Reference(subject.dense_head(plan, ops), ops.device, hidden, from_cache=True)
    loading = phases("reference", on_work)
    decoder = (
        subject.float32_decoder(plan, loading, cancelled)
        if kind == "fp32"
        else subject.decoder(plan, loading, cancelled).decoder
    )
    on_work("reference", 0, passages.tokens)
    done = 0

    def count(tokens: int) -> None:
        nonlocal done
        done += tokens
        on_work("reference", done, passages.tokens)

    made = run_reference(
        decoder,
        build_pool(decoder, plan),
        passages,
        chunk_tokens=plan.prefill_chunk_tokens,
        cancelled=cancelled,
        on_tokens=count,
    )
    kept.keep_states(key, made.hidden)
    return made


def run_reference(
    decoder: Decoder,
    pool: KvPool,
    passages: Passages,
    *,
    chunk_tokens: int,
    cancelled: Callable[[], bool],
    on_tokens: Callable[[int], None],
) -> Reference:
    """Run the reference once over all windows. Raises Cancelled."""
    hidden = tuple(
        hidden_states(
            decoder,
            pool,
            window,
            chunk_tokens=chunk_tokens,
            cancelled=cancelled,
            on_tokens=on_tokens,
        ).cpu()
        for window in passages.windows
    )
    return Reference(decoder.head, decoder.ops.device, hidden)


def _key(subject: Subject, passages: Passages, kind: ReferenceKind, plan: ExecutionPlan) -> str:
    """Hash of all that the states hang on."""
    dtype = "float32" if kind == "fp32" else plan.compute_dtype
    facts = f"{VERSION}|{subject.identity}|{passages.digest}|{kind}|{plan.device_name}|{dtype}"
    return hashlib.sha256(facts.encode()).hexdigest()[:20]
