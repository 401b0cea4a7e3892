"""The model's own text: several conversations written side by side, one token each at a step.

All rows stand at the same place, so that one attention call serves them all. The model answers in
its chat template; where an answer ends, the next question follows it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from quantchat.calibration.topics import TOPICS
from quantchat.errors import Cancelled
from quantchat.model.families import ModelSource
from quantchat.model.loader import load_decoder
from quantchat.model.weights import WeightRecipe
from quantchat.ops.batch import Batch, Span
from quantchat.ops.kv_pool import KvLayer, KvPool
from quantchat.ops.torch_ops import TorchOps
from quantchat.quant.registry import SCHEMES
from quantchat.requests import Message
from quantchat.tokenizer import Tokenizer

LIKELIEST_TOKENS = 4
"""An answer begins with the likeliest ones; after them they are drawn at temperature 1."""

OnProgress = Callable[[int, int], None]
"""Tokens done, in all."""


class LockstepOps(TorchOps):
    """Plain torch ops for one token of each sequence, all of the same length; page i is theirs."""

    def _attention(
        self, q: torch.Tensor, batch: Batch, pool: KvPool, layer: KvLayer, window: int
    ) -> torch.Tensor:
        spec, (rows, length) = self.spec, (q.shape[0], batch.spans[0].length)
        first = max(0, length - window) if window else 0
        # [S, Hk, group, D] against [S, Hk, T, D]
        out = F.scaled_dot_product_attention(
            q.view(rows, spec.kv_heads, -1, spec.head_dim),
            layer.k[:rows, first:length].transpose(1, 2),
            layer.v[:rows, first:length].transpose(1, 2),
            scale=spec.attention_scale,
        )
        return out.reshape(rows, -1)


@dataclass(slots=True)
class _Conversation:
    """One row: tokens that are still to be read, and how far its answer is."""

    waiting: list[int]
    topic: int
    answered: int = 0


def sample_text(
    source: ModelSource,
    tokenizer: Tokenizer,
    *,
    sequences: int,
    tokens: int,
    seed: int,
    device: torch.device,
    dtype: torch.dtype,
    on_progress: OnProgress,
    cancelled: Callable[[], bool],
) -> torch.Tensor:
    """ids int64 [sequences, tokens] on the CPU. Holds the whole model dense in `dtype` meanwhile."""
    ops = LockstepOps(source.spec, device=device, dtype=dtype)
    decoder = load_decoder(
        source,
        ops,
        WeightRecipe(scheme=SCHEMES["fp16"], group_size=0, dtype=dtype, device=device),
        context_tokens=tokens,
        cache=None,
        on_progress=lambda phase, done, total: None,
        cancelled=cancelled,
    ).decoder
    pool = KvPool(
        source.spec,
        pages=sequences,
        page_tokens=tokens,
        precision="16bit",
        dtype=dtype,
        device=device,
    )
    rows = [_Conversation(_question(tokenizer, row), row) for row in range(sequences)]
    generator = torch.Generator(device).manual_seed(seed)
    ids = torch.zeros((sequences, tokens), dtype=torch.int64)
    logits: torch.Tensor | None = None
    with torch.inference_mode():
        for at in range(tokens):
            if cancelled():
                raise Cancelled("calibration was stopped")
            picked = None if logits is None else _picked(logits, rows, generator)
            for row, conversation in enumerate(rows):
                ids[row, at] = _next(
                    conversation, None if picked is None else picked[row], tokenizer
                )
            logits = decoder.logits(decoder.forward(_step(ids[:, at], at, tokens, device), pool))
            on_progress(at + 1, tokens)
    return ids


def _question(tokenizer: Tokenizer, topic: int) -> list[int]:
    message = Message("user", TOPICS[topic % len(TOPICS)])
    return tokenizer.encode_chat([message])


def _next(conversation: _Conversation, picked: int | None, tokenizer: Tokenizer) -> int:
    """The row's next token: what is still to be read of a question, else what the model wrote."""
    if conversation.waiting:
        return conversation.waiting.pop(0)
    assert picked is not None, "a conversation begins with a question"
    conversation.answered += 1
    if picked in tokenizer.eos_ids:
        conversation.topic += len(TOPICS) // 2 + 1
        conversation.waiting = _question(tokenizer, conversation.topic)
        conversation.answered = 0
    return picked


def _picked(
    logits: torch.Tensor, rows: list[_Conversation], generator: torch.Generator
) -> list[int]:
    """A token of each row: the likeliest at first, then one drawn at temperature 1."""
    uniform = torch.rand(logits.shape, device=logits.device, generator=generator)
    # The largest of logits plus Gumbel noise is a draw from their softmax.
    noise = -(-uniform.clamp_min(1e-20).log()).clamp_min(1e-20).log()
    free = torch.tensor([row.answered >= LIKELIEST_TOKENS for row in rows], device=logits.device)
    picked: list[int] = (logits + noise * free[:, None]).argmax(dim=-1).tolist()
    return picked


def _step(ids: torch.Tensor, at: int, tokens: int, device: torch.device) -> Batch:
    """One token of every sequence, at place `at`."""
    rows = len(ids)
    return Batch(
        ids.to(device),
        torch.full((rows,), at, dtype=torch.int32, device=device),
        torch.arange(rows, device=device) * tokens + at,
        True,
        tuple(Span(row, 1, at + 1, (row,)) for row in range(rows)),
    )
