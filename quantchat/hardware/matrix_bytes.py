"""Bytes of one matrix in a stored format, as it lies in a card's memory; pure."""

from __future__ import annotations

from dataclasses import dataclass

from quantchat.quant.scheme import Scheme, WeightFormat

ROW_SCALE_BYTES = 4
"""int8, fp8 and progressive: one fp32 scale per output row."""
GROUP_PAIR_BYTES = 4
"""int4 and progressive: 16-bit scale and 16-bit offset per group."""
BLOCK_SCALE_BYTES = 4
NESTED_SCALE_BYTES = 1
NESTED_BLOCK = 256
NESTED_PAIR_BYTES = 8
"""Per 256 block scales: fp32 scale and fp32 offset."""
NESTED_MAP_BYTES = 256 * 4
CODEBOOK_BYTES = 8 * 16 * 2
"""One table of 16, once for each of the eight lanes that hold parts of it."""
TABLE_VALUE_BYTES = 2
SPARSE_ENTRY_BYTES = 6
"""int32 column and 16-bit value."""
SPARSE_ROW_BYTES = 4
"""int32 start."""
PAIR_GROUPS = (128, 64, 32)
"""Groups that the kernel reads; a wider one is repeated."""
PAIRED_UNITS = 128
"""Columns of a whole block where the kernel reads two units at once: nested scales, 3-bit codes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MatrixFormat:
    """What decides the bytes of a matrix besides its size."""

    weights: WeightFormat
    group_size: int
    dense_bytes: int
    fp8_bytes: int = 1
    """Of a code: 1, or 2 where values are held instead."""
    nested: bool = False
    """Block scales in 8 bits."""
    sparse_share: float = 0.0

    @staticmethod
    def of(
        scheme: Scheme, weights: WeightFormat, group_size: int, dense_bytes: int, fp8_bytes: int
    ) -> MatrixFormat:
        """A scheme's matrices, `weights` being its own format or its head's."""
        return MatrixFormat(
            weights=weights,
            group_size=group_size,
            dense_bytes=dense_bytes,
            fp8_bytes=fp8_bytes,
            nested=scheme.rounding == "nf4_dq",
            sparse_share=scheme.sparse_share,
        )

    def nbytes(self, rows: int, columns: int) -> int:
        """Of [rows, columns]; not for the file's own format, whose bytes the file tells."""
        elements = rows * columns
        if self.weights == "dense":
            return elements * self.dense_bytes
        if self.weights == "int8_channel":
            return elements + rows * ROW_SCALE_BYTES
        if self.weights == "fp8_channel":
            return elements * self.fp8_bytes + rows * ROW_SCALE_BYTES
        if self.weights == "int4_group":
            assert self.group_size > 0
            return elements // 2 + elements // self._group(columns) * GROUP_PAIR_BYTES
        if self.weights == "codebook4":
            return self._nested(rows, columns) if self.nested else self._codebook(rows, columns)
        if self.weights == "lut4" or self.weights == "lut3":
            bits = 4 if self.weights == "lut4" else 3
            held = columns if bits == 4 else _whole(columns, PAIRED_UNITS)
            tables = rows * (1 << bits) * TABLE_VALUE_BYTES
            return rows * held * bits // 8 + tables + self._sparse(rows, columns)
        if self.weights == "progressive4":
            group = next(size for size in (*PAIR_GROUPS, 1) if self._group(columns) % size == 0)
            pairs = rows * (columns // group) * GROUP_PAIR_BYTES
            return elements // 2 + pairs + rows * ROW_SCALE_BYTES
        raise AssertionError(f"no size rule for {self.weights}")

    def _group(self, columns: int) -> int:
        group = self.group_size or columns
        assert columns % group == 0, (columns, group)
        return group

    def _codebook(self, rows: int, columns: int) -> int:
        blocks = rows * (columns // self._group(columns))
        return rows * columns // 2 + blocks * BLOCK_SCALE_BYTES + CODEBOOK_BYTES

    def _nested(self, rows: int, columns: int) -> int:
        group = self._group(columns)
        held = _whole(columns, PAIRED_UNITS)
        codes = rows * (held // 2 + held // group * NESTED_SCALE_BYTES)
        pairs = -(-rows * (columns // group) // NESTED_BLOCK) * NESTED_PAIR_BYTES
        return codes + pairs + NESTED_MAP_BYTES + CODEBOOK_BYTES

    def _sparse(self, rows: int, columns: int) -> int:
        entries = round(self.sparse_share * rows * columns)
        return entries * SPARSE_ENTRY_BYTES + (rows + 1) * SPARSE_ROW_BYTES if entries else 0


def _whole(columns: int, block: int) -> int:
    return -(-columns // block) * block
