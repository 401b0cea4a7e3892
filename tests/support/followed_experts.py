"""Experts that note their routers' scores, and take the experts that others have taken."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from quantchat.model.decoder import Decoder
from quantchat.ops.plain import Experts


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FollowedExperts(Experts):
    """Experts whose choices come from scores that another decoder had at the same place."""

    noted: list[torch.Tensor]
    """Scores [T, E] of each call, of all layers in the order of execution."""
    leading: Iterator[torch.Tensor] | None
    """The same of the other decoder; None: choices are one's own."""

    def pick(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """See Experts.pick; scores are always seen."""
        return self.choose(x.float() @ self.router.t())

    def choose(self, scores: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """See Experts.choose."""
        self.noted.append(scores.cpu())
        weights, chosen = Experts.choose(self, scores)
        if self.leading is None:
            return weights, chosen
        chosen = Experts.choose(self, next(self.leading))[1].to(scores.device)
        weights = torch.softmax(scores, dim=-1).gather(1, chosen)
        if self.spec.renormalise:
            weights = weights / weights.sum(dim=-1, keepdim=True)
        return weights, chosen


def followed(
    decoder: Decoder, leading: list[torch.Tensor] | None
) -> tuple[Decoder, list[torch.Tensor]]:
    """The decoder and what it will note; `leading` may grow until a call asks for its part."""
    noted: list[torch.Tensor] = []
    leads = None if leading is None else _growing(leading)

    def change(experts: Experts) -> FollowedExperts:
        parts = {f.name: getattr(experts, f.name) for f in dataclasses.fields(experts)}
        return FollowedExperts(**parts, noted=noted, leading=leads)

    blocks = tuple(
        dataclasses.replace(block, mlp=change(block.mlp))
        if isinstance(block.mlp, Experts)
        else block
        for block in decoder.blocks
    )
    return dataclasses.replace(decoder, blocks=blocks), noted


def _growing(parts: list[torch.Tensor]) -> Iterator[torch.Tensor]:
    i = 0
    while True:
        yield parts[i]
        i += 1
