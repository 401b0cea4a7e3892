"""How a decode attention is cut along the context: static facts, so that a graph holds them."""

from __future__ import annotations

from dataclasses import dataclass

from .._launch import LOWEST_DOT_SM, power_of_2

_PROGRAMS_PER_SM = 2
_MOST_SPLITS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Splits:
    """Launch shape of one decode attention."""

    count: int
    """Programs along the context of one KV head; those beyond a sequence's length do nothing."""
    tile_tokens: int
    """Tokens of one step, and the least that a split is given."""
    use_dot: bool
    """Tensor cores, the query heads of a KV head padded to 16 rows."""
    warps: int
    stages: int


def splits_for(
    batch: int, heads: int, kv_heads: int, head_dim: int, max_context: int, sm: int, sms: int
) -> Splits:
    """Enough splits to fill the card at the longest context, however long sequences really are."""
    use_dot = sm >= LOWEST_DOT_SM
    padded = power_of_2(head_dim)
    group = power_of_2(heads // kv_heads)
    if use_dot:
        tile_tokens = 32 if padded >= 128 else 64
    else:
        tile_tokens = max(8, min(64, 8192 // (padded * group)))
    wanted = -(-_PROGRAMS_PER_SM * sms // (batch * kv_heads))
    count = max(1, min(_MOST_SPLITS, wanted, -(-max_context // tile_tokens)))
    return Splits(
        count=count, tile_tokens=tile_tokens, use_dot=use_dot, warps=4, stages=2 if use_dot else 1
    )
