"""Memory that the splits of one attention share: made once, used by every layer in turn."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from .splits import Splits, parts_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Workspace:
    """Sums fp32 [slots, D], their (top, norm) fp32 [slots, 2], arrivals int32 [rows * programs].

    A slot is one query head of one split; the programs of a row are parts of the query heads of its
    KV heads. Arrivals are 0 between launches.
    """

    partial: torch.Tensor
    stats: torch.Tensor
    arrived: torch.Tensor

    @classmethod
    def create(
        cls,
        rows: int,
        heads: int,
        kv_heads: int,
        head_dim: int,
        splits: Splits,
        device: torch.device,
    ) -> Workspace:
        """For launches of that many rows or fewer."""
        slots = rows * heads * splits.count if splits.count > 1 else 1
        programs = rows * kv_heads * parts_of(heads, kv_heads)
        return cls(
            partial=torch.empty(slots, head_dim, dtype=torch.float32, device=device),
            stats=torch.empty(slots, 2, dtype=torch.float32, device=device),
            arrived=torch.zeros(programs, dtype=torch.int32, device=device),
        )

    @property
    def nbytes(self) -> int:
        """Bytes of all three."""
        return self.partial.nbytes + self.stats.nbytes + self.arrived.nbytes

    def check(self, rows: int, heads: int, kv_heads: int, head_dim: int, splits: Splits) -> None:
        """Asserts that a launch fits."""
        assert self.arrived.shape[0] >= rows * kv_heads * parts_of(heads, kv_heads)
        assert self.partial.shape[1] == head_dim
        assert splits.count == 1 or self.partial.shape[0] >= rows * heads * splits.count
