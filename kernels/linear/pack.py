"""Order of int4 codes and their scales as lanes read them; owns packing, knows no arithmetic.

A tile is 16 output rows, a unit of it 64 k: 32 lanes of four words. Lane 4 r + c holds of rows r
and r + 8 the eight k from 8 c of each 32; word s the four of them from 4 s % 8 of half s // 2:
nibbles 0 and 4 the first pair of row r, 1 and 5 that of row r + 8, 2 and 6, 3 and 7 the second
pairs. Scale and offset stand beside each other, fp16, rows r and r + 8 next to one another.
Gated weights (gate above up) have eight gate rows and the eight up rows of the same outputs in a
tile. Rows and columns beyond the matrix are zero. Two-level weights have a scale of each row
besides; their pairs are small integers, exact in fp16.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

GROUP_SIZES = (32, 64, 128)
TILE_ROWS = 16
UNIT_COLUMNS = 64


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Int4Tiles:
    """A matrix [N, K] of int4 groups in the order of the kernel."""

    words: torch.Tensor
    """int32 [tiles, units, 32, 4]."""
    pairs: torch.Tensor
    """fp16 [tiles, groups, 8, 2, 2]: rows r and r + 8, then scale and offset."""
    rows: int
    columns: int
    group_size: int
    gated: bool
    channel: torch.Tensor | None = None
    """fp32 [N]: scale of each row, in the matrix's own order."""

    @property
    def nbytes(self) -> int:
        """Bytes of codes, scales and offsets."""
        channel = 0 if self.channel is None else self.channel.nbytes
        return self.words.nbytes + self.pairs.nbytes + channel


def kernel_group(group_size: int) -> int | None:
    """Largest group of the kernel that divides a stored one; None where none does."""
    fitting = [size for size in GROUP_SIZES if group_size % size == 0]
    return max(fitting, default=None)


def tile_count(rows: int, gated: bool) -> int:
    """Tiles of a matrix of so many rows."""
    return -(-rows // 2 // (TILE_ROWS // 2)) if gated else -(-rows // TILE_ROWS)


def tile_rows(matrix: torch.Tensor, gated: bool) -> torch.Tensor:
    """[N, ...] -> [tiles, 2, 8, ...], zero rows where the matrix ends."""
    parts = matrix.chunk(2) if gated else (matrix,)
    step = TILE_ROWS // len(parts)
    tiles = -(-parts[0].shape[0] // step)
    padded = []
    for part in parts:
        rest = tiles * step - part.shape[0]
        if rest:
            part = torch.cat((part, part.new_zeros(rest, *part.shape[1:])))
        padded.append(part.reshape(tiles, step // 8, 8, *part.shape[1:]))
    return torch.cat(padded, dim=1)


def _block_columns(group_size: int) -> int:
    return max(group_size, UNIT_COLUMNS)


def pad_columns(matrix: torch.Tensor, columns: int) -> torch.Tensor:
    """[N, K] -> [N, columns], zero beyond K."""
    rest = columns - matrix.shape[1]
    if not rest:
        return matrix
    return torch.cat((matrix, matrix.new_zeros(matrix.shape[0], rest)), dim=1)


def pack(
    codes: torch.Tensor,
    scale: torch.Tensor,
    offset: torch.Tensor,
    group_size: int,
    *,
    gated: bool = False,
    channel: torch.Tensor | None = None,
) -> Int4Tiles:
    """Codes uint8 [N, K] in 0..15, scale and offset fp16 [N, K // group_size], in kernel order.

    channel fp32 [N] multiplies what they stand for.
    """
    rows, columns = codes.shape
    assert codes.dtype == torch.uint8, f"codes must be uint8: {codes.dtype}"
    assert group_size in GROUP_SIZES, f"group size {group_size} is none of {GROUP_SIZES}"
    assert columns % group_size == 0, f"group size {group_size} does not divide {columns}"
    assert scale.shape == offset.shape == (rows, columns // group_size)
    assert not gated or rows % 2 == 0
    assert channel is None or (channel.shape == (rows,) and channel.dtype == torch.float32)
    block = _block_columns(group_size)
    wide = -(-columns // block) * block
    tiled = tile_rows(pad_columns(codes, wide), gated)
    tiles, units = tiled.shape[0], wide // UNIT_COLUMNS
    # [T, half row, r, unit, 32-block, c, step in block, pair, element]
    view = tiled.view(tiles, 2, 8, units, 2, 4, 2, 2, 2)
    words = torch.zeros(tiles, units, 8, 4, 2, 2, dtype=torch.int32, device=codes.device)
    for half in range(2):
        for pair in range(2):
            for element in range(2):
                nibble = view[:, half, :, :, :, :, :, pair, element].permute(0, 2, 1, 4, 3, 5)
                shift = 4 * (half + 2 * pair + 4 * element)
                words |= nibble.to(torch.int32) << shift
    groups = wide // group_size
    both = torch.stack((pad_columns(scale, groups), pad_columns(offset, groups)), dim=-1).to(
        torch.float16
    )
    pairs = tile_rows(both, gated).permute(0, 3, 2, 1, 4).contiguous()
    return Int4Tiles(
        words=words.view(tiles, units, 32, 4),
        pairs=pairs,
        rows=rows,
        columns=columns,
        group_size=group_size,
        gated=gated,
        channel=None if channel is None else channel.contiguous(),
    )


def matrix_rows(tiled: torch.Tensor, rows: int, gated: bool) -> torch.Tensor:
    """Inverse of tile_rows: [tiles, 2, 8, ...] -> [N, ...]."""
    if not gated:
        return tiled.reshape(-1, *tiled.shape[3:])[:rows]
    parts = (tiled[:, i].reshape(-1, *tiled.shape[3:])[: rows // 2] for i in range(2))
    return torch.cat(tuple(parts))


def unpack(packed: Int4Tiles) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Inverse of pack: codes uint8 [N, K], scale and offset fp16 [N, K // group_size]."""
    tiles, units = packed.words.shape[:2]
    words = packed.words.view(tiles, units, 8, 4, 2, 2)
    view = torch.empty(tiles, 2, 8, units, 2, 4, 2, 2, 2, dtype=torch.uint8, device=words.device)
    for half in range(2):
        for pair in range(2):
            for element in range(2):
                shift = 4 * (half + 2 * pair + 4 * element)
                nibble = ((words >> shift) & 15).to(torch.uint8)
                view[:, half, :, :, :, :, :, pair, element] = nibble.permute(0, 2, 1, 4, 3, 5)
    codes = matrix_rows(view.view(tiles, 2, 8, -1), packed.rows, packed.gated)
    both = matrix_rows(packed.pairs.permute(0, 3, 2, 1, 4), packed.rows, packed.gated)
    groups = packed.columns // packed.group_size
    return (
        codes[:, : packed.columns].contiguous(),
        both[:, :groups, 0].contiguous(),
        both[:, :groups, 1].contiguous(),
    )
