"""Codes of three or four bits that index a table of each row's own, and the entries kept apart.

The stored format of SqueezeLLM (2306.07629): `W = table[q] + sparse`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch

from quantchat.quant.pack import unpack_nibbles, unpack_triples

LutBits: TypeAlias = Literal[3, 4]


@dataclass(frozen=True, slots=True)
class SparseRows:
    """A sparse matrix [N, K] by rows: what is added to the dense values.

    starts: int32 [N + 1]; columns: int32 [entries], ascending in a row; values: float16 [entries].
    """

    starts: torch.Tensor
    columns: torch.Tensor
    values: torch.Tensor

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return self.starts.nbytes + self.columns.nbytes + self.values.nbytes

    def rows(self) -> torch.Tensor:
        """Row of each entry, int64 [entries]."""
        counts = (self.starts[1:] - self.starts[:-1]).long()
        return torch.repeat_interleave(
            torch.arange(len(counts), device=counts.device), counts, output_size=len(self.columns)
        )

    def add_to(self, dense: torch.Tensor) -> torch.Tensor:
        """dense float [N, K] with the entries added, in place."""
        flat = self.rows() * dense.shape[1] + self.columns
        dense.view(-1).index_add_(0, flat, self.values.to(dense.dtype))
        return dense

    def take_rows(self, rows: torch.Tensor) -> SparseRows:
        """The rows [R] in that order."""
        starts = self.starts.long()
        counts = (starts[1:] - starts[:-1])[rows]
        ends = counts.cumsum(0)
        total = int(ends[-1]) if len(rows) else 0
        within = torch.arange(total, device=rows.device) - torch.repeat_interleave(
            ends - counts, counts, output_size=total
        )
        entry = within + torch.repeat_interleave(starts[rows], counts, output_size=total)
        fresh = torch.cat((ends.new_zeros(1), ends)).to(torch.int32)
        return SparseRows(fresh, self.columns[entry], self.values[entry])


@dataclass(frozen=True, slots=True)
class LutWeight:
    """`w = table[row, q]`, plus `sparse` where entries are kept apart.

    packed: uint8, 4 bits [N, K/2] low nibble first, 3 bits [N, 3 K/8], eight codes in three bytes
    from the lowest bit up; table: float16 [N, 2**bits], ascending.
    """

    packed: torch.Tensor
    table: torch.Tensor
    bits: LutBits
    sparse: SparseRows | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """(N, K)."""
        return self.packed.shape[0], self.packed.shape[1] * 8 // self.bits

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        sparse = 0 if self.sparse is None else self.sparse.nbytes
        return self.packed.nbytes + self.table.nbytes + sparse

    def codes(self) -> torch.Tensor:
        """uint8 [N, K]."""
        return unpack_nibbles(self.packed) if self.bits == 4 else unpack_triples(self.packed)

    def dequantize(self, dtype: torch.dtype) -> torch.Tensor:
        """[N, K] in `dtype`, summed in float32."""
        dense = self.table.float().gather(1, self.codes().long())
        if self.sparse is not None:
            self.sparse.add_to(dense)
        return dense.to(dtype)

    def take_rows(self, rows: torch.Tensor) -> LutWeight:
        """The rows [R] in that order."""
        sparse = None if self.sparse is None else self.sparse.take_rows(rows)
        packed, table = self.packed.index_select(0, rows), self.table.index_select(0, rows)
        return LutWeight(packed, table, self.bits, sparse)

    def tensors(self) -> dict[str, torch.Tensor]:
        """Parts by name, for the disk."""
        parts = {"packed": self.packed, "table": self.table}
        if self.sparse is not None:
            parts |= {
                "sparse_starts": self.sparse.starts,
                "sparse_columns": self.sparse.columns,
                "sparse_values": self.sparse.values,
            }
        return parts
