"""Sampling on a card with no host round trip: the engine's way to the kernels."""

from __future__ import annotations

import torch

from quantchat.kernels.sample.greedy import pick_best
from quantchat.kernels.sample.stochastic import pick_drawn
from quantchat.kernels.sample.workspace import Feedback, Workspace

__all__ = ["Feedback", "TokenPicker"]


class TokenPicker:
    """Picks tokens of up to `rows` rows of logits and feeds them back; owns the scratch memory."""

    def __init__(self, rows: int, vocab: int, device: torch.device, *, dependent: bool) -> None:
        self._workspace = Workspace.create(rows, vocab, device)
        self._dependent = dependent

    def greedy(
        self, logits: torch.Tensor, feedback: Feedback, *, penalty: torch.Tensor | None
    ) -> None:
        """The likeliest token of each row [R, vocab]; penalty float32 [R] or None."""
        pick_best(logits, feedback, self._workspace, penalty=penalty, dependent=self._dependent)

    def drawn(
        self,
        logits: torch.Tensor,
        feedback: Feedback,
        *,
        temperature: torch.Tensor,
        top_k: torch.Tensor,
        top_p: torch.Tensor,
        min_p: torch.Tensor,
        seeds: torch.Tensor,
        penalty: torch.Tensor | None,
    ) -> None:
        """A token of each row [R, vocab] as engine.sampler.pick_rows picks it; 0 degrees is greedy."""
        pick_drawn(
            logits,
            feedback,
            self._workspace,
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            min_p=min_p,
            seeds=seeds,
            penalty=penalty,
            dependent=self._dependent,
        )
