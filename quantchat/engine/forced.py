"""A runner led along given tokens, its logits looked at: how checks see the path that answers run.

Owns a decoder that keeps its last logits, and the steering by the runner's own protocol: a sequence
that leaves and comes back is seated from its tokens, whatever the runner picked.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from collections.abc import Sequence as Tokens

import torch

from quantchat.engine.metrics import Clock
from quantchat.engine.runner import EagerRunner, Runner
from quantchat.engine.sequence import Sequence
from quantchat.hardware.execution import ExecutionPlan
from quantchat.model.decoder import Decoder
from quantchat.ops.batch import Batch
from quantchat.ops.kv_pool import KvPool
from quantchat.requests import ChatRequest, Message, Sampling
from quantchat.tokenizer import Tokenizer


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TappedDecoder(Decoder):
    """A decoder whose first row's logits can be read after each pass, captured or not."""

    tap: torch.Tensor
    """float32 [vocab], written by every pass that ends in logits."""

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """See Decoder.logits."""
        logits = Decoder.logits(self, hidden)
        self.tap.copy_(logits[0])
        return logits

    def step_logits(self, batch: Batch, pool: KvPool) -> torch.Tensor:
        """See Decoder.step_logits."""
        logits = Decoder.step_logits(self, batch, pool)
        self.tap.copy_(logits[0])
        return logits


def greedy_sequence(
    ids: Tokens[int], pages: Tokens[int], tokenizer: Tokenizer, request_id: int = 0
) -> Sequence:
    """A greedy sequence outside any queue, which owns `pages`."""
    request = ChatRequest(
        messages=(Message("user", ""),), sampling=Sampling(temperature=0, top_p=1)
    )
    now_s = time.perf_counter()
    sequence = Sequence.create(
        request_id,
        request,
        seed=0,
        ids=list(ids),
        clock=Clock(submitted_s=now_s, dequeued_s=now_s),
        tokenizer=tokenizer,
    )
    sequence.pages = list(pages)
    return sequence


def prefill(runner: Runner, sequence: Sequence, chunk_tokens: int) -> int:
    """Compute the sequence's tokens in chunks -> the token picked after them."""
    token: int | None = None
    while token is None:
        start = sequence.computed
        count = min(chunk_tokens, len(sequence.tokens) - start)
        token = runner.prefill(sequence, start, count)
        sequence.computed = start + count
    return token


def forced_steps(
    runner: Runner, tap: torch.Tensor, sequence: Sequence, tokens: Tokens[int]
) -> Iterator[torch.Tensor]:
    """Put each token behind the sequence and run one decode step; its logits float32 [vocab].

    What is yielded is the tap itself: use it before asking for the next. The cache must hold the
    sequence so far (`prefill` sees to it) and its pages must have room.
    """
    for token in tokens:
        sequence.tokens.append(token)
        runner.decode((sequence,))
        runner.flush()
        sequence.computed = len(sequence.tokens)
        runner.leave(sequence)
        yield tap


def tapped_runner(
    decoder: Decoder, pool: KvPool, plan: ExecutionPlan
) -> tuple[Runner, torch.Tensor]:
    """The plan's kind of runner over `decoder` and `pool`, and the tap of its logits."""
    tap = torch.zeros(decoder.spec.vocab, dtype=torch.float32, device=decoder.ops.device)
    # The very ops and kernels: which of them runs may depend on what the head is.
    fields = {field.name: getattr(decoder, field.name) for field in dataclasses.fields(decoder)}
    watched = TappedDecoder(**fields, tap=tap)
    if not (plan.graph and decoder.capturable):
        return EagerRunner(watched, pool), tap
    from quantchat.engine.graph_runner import GraphRunner

    return GraphRunner(watched, pool, context_tokens=plan.context_tokens), tap
