"""How a decode attention is cut along the context: static facts, so that a graph holds them."""

from __future__ import annotations

from dataclasses import dataclass

from .._launch import LOWEST_DOT_SM, power_of_2
from ..rope_append.formats import KvFormat

_MOST_SPLITS = 64
_FEWEST_SPLITS = 4
"""However many rows there are: one of them may be far longer than the others."""
_MOST_COLUMNS = 256
_MOST_HEADS = 16
"""Query heads of a program: what fits into one product of tensor cores."""
_WARP_TOKENS = 16
_ALONE_TOKENS = 256
"""Tokens of a context that one program takes rather than put parts together."""
_COMBINED_VALUES = 8192
"""Parts that the plain path's combining program holds in registers at a time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Splits:
    """Launch shape of one decode attention."""

    count: int
    """Programs along the context of one part of the heads; those without a tile leave at once."""
    tile_tokens: int
    """Tokens of one step of a program."""
    warps: int
    alone: int = 0
    """On tensor cores, tiles of a context that a single program takes; 0 is the plain path."""

    def heads_at_once(self, heads: int, splits: int, padded: int) -> int:
        """Query heads whose parts the plain path combines together, a power of two."""
        return max(1, min(power_of_2(heads), _COMBINED_VALUES // (splits * padded)))


def parts_of(heads: int, kv_heads: int) -> int:
    """Programs that share the query heads of one KV head."""
    return -(-(heads // kv_heads) // _MOST_HEADS)


def heads_of_part(heads: int, kv_heads: int) -> int:
    """Query heads of every part but the last, which may hold fewer."""
    return -(-(heads // kv_heads) // parts_of(heads, kv_heads))


def splits_for(
    rows: int,
    heads: int,
    kv_heads: int,
    head_dim: int,
    max_context: int,
    kv: KvFormat,
    *,
    sm: int,
    sms: int,
) -> Splits:
    """A program for each multiprocessor at the longest context, however long sequences really are."""
    padded = power_of_2(head_dim)
    share = power_of_2(heads_of_part(heads, kv_heads))
    on_tensor_cores = sm >= LOWEST_DOT_SM and padded <= _MOST_COLUMNS
    if on_tensor_cores:
        # Measured: 16-bit pages fill the registers of four warps' tokens, codes leave room for eight.
        warps = 4 if kv == "16bit" or padded > 128 or share > 8 else 8
        tile_tokens = warps * _WARP_TOKENS
    else:
        warps = 4
        tile_tokens = max(4, min(64, 8192 // (padded * share)))
    wanted = max(_FEWEST_SPLITS, sms // (rows * kv_heads * parts_of(heads, kv_heads)))
    return Splits(
        count=max(1, min(_MOST_SPLITS, wanted, -(-max_context // tile_tokens))),
        tile_tokens=tile_tokens,
        warps=warps,
        alone=_ALONE_TOKENS // tile_tokens if on_tensor_cores else 0,
    )
