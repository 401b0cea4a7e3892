"""Which rows of a file's tensor one of ours is, where files keep several in one."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from quantchat.checkpoints.base import TensorEntry
from quantchat.checkpoints.ggml.types import TYPES

if TYPE_CHECKING:
    import torch

if TYPE_CHECKING:
    import torch

PLAIN_BYTES = frozenset({"F32", "F16", "BF16"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """`count` runs of `run` rows from `start` on, each `step` rows behind the one before."""

    start: int
    run: int
    of: int
    """Rows of the whole tensor."""
    step: int = 0
    count: int = 1
    deep: bool = False
    """The file's tensor is [of / run, run, K]: one layer of it is meant."""

    @property
    def total(self) -> int:
        """Rows that are taken."""
        return self.run * self.count

    def whole_shape(self, columns: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of the file's tensor."""
        return (self.of // self.run, self.run, *columns) if self.deep else (self.of, *columns)

    def index(self, device: torch.device) -> torch.Tensor:
        """int64 [total]: the rows in order."""
        import torch

        runs = torch.arange(self.count, device=device)[:, None] * self.step
        return (self.start + runs + torch.arange(self.run, device=device)[None]).flatten()

    def view(self, entry: TensorEntry) -> TensorEntry | None:
        """The rows as an entry of their own; None where they are apart or no whole bytes."""
        sliced = entry.dtype in PLAIN_BYTES or entry.dtype in TYPES
        if self.count != 1 or not sliced or entry.nbytes % self.of:
            assert not self.deep, "experts are stored by rows"
            return None
        row_bytes = entry.nbytes // self.of
        columns = entry.shape[2:] if self.deep else entry.shape[1:]
        return replace(
            entry,
            name=f"{entry.name}[{self.start}:{self.start + self.run}]",
            shape=(self.run, *columns),
            offset=entry.offset + self.start * row_bytes,
            nbytes=self.run * row_bytes,
        )
