"""How a decode attention is cut along the context: static facts, so that a graph holds them."""

from __future__ import annotations

from dataclasses import dataclass

from .._launch import LOWEST_DOT_SM, power_of_2
from ..rope_append.formats import KvFormat

_MOST_SPLITS = 64
_FEWEST_SPLITS = 4
"""However many rows there are: one of them may be far longer than the others."""
_LANE_BYTES = 192
"""Bytes of K that a lane holds at once at most, twice that with V."""
_ALONE_TOKENS = 256
"""Tokens of a context that one program takes rather than put parts together."""
_COMBINED_VALUES = 8192
"""Parts that the combining program holds in registers at a time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Splits:
    """Launch shape of one decode attention."""

    count: int
    """Programs along the context of one KV head; those without a tile leave at once."""
    tile_tokens: int
    """Tokens of one step; a context of no more has a single program and no parts."""
    use_dot: bool
    """Tensor cores, the query heads of a KV head padded to 16 rows."""
    warps: int
    alone: int = 0
    """Tiles of a context that a single program takes, where a warp has tokens of its own; else 0."""
    registers: int = 0
    """Most a thread may take, so that the kernels before and after fit beside; 0: no limit."""

    def options(self) -> dict[str, int]:
        """Keywords of the launch."""
        chosen = {"num_warps": self.warps, "num_stages": 1}
        return chosen | ({"maxnreg": self.registers} if self.registers else {})

    def heads_at_once(self, group: int, splits: int, padded: int) -> int:
        """Query heads whose parts are combined together, a power of two."""
        return max(1, min(power_of_2(group), _COMBINED_VALUES // (splits * padded)))


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
    group = power_of_2(heads // kv_heads)
    use_dot = sm >= LOWEST_DOT_SM
    if use_dot and group <= 16:
        return _by_warps(rows, kv_heads, group, max(64, padded), max_context, kv, sms)
    if use_dot:
        tile_tokens = 64 if padded > 128 else 128
    else:
        group = power_of_2(heads // kv_heads)
        tile_tokens = max(8, min(64, 8192 // (padded * group)))
    wanted = max(_FEWEST_SPLITS, sms // (rows * kv_heads))
    count = max(1, min(_MOST_SPLITS, wanted, -(-max_context // tile_tokens)))
    return Splits(count=count, tile_tokens=tile_tokens, use_dot=use_dot, warps=8 if use_dot else 4)


def _by_warps(
    rows: int, kv_heads: int, group: int, padded: int, max_context: int, kv: KvFormat, sms: int
) -> Splits:
    """Each warp takes 16 or 32 tokens at once, as its registers hold them."""
    warps = 4 if padded > 128 or group > 8 else 8
    token_bytes = padded * 2 if kv == "16bit" else (padded // 2 if kv == "int4" else padded)
    warp_tokens = 32 if token_bytes <= _LANE_BYTES else 16
    tile_tokens = warps * warp_tokens
    wanted = max(_FEWEST_SPLITS, sms // (rows * kv_heads))
    count = max(1, min(_MOST_SPLITS, wanted, -(-max_context // tile_tokens)))
    return Splits(
        count=count,
        tile_tokens=tile_tokens,
        use_dot=True,
        warps=warps,
        alone=max(1, _ALONE_TOKENS // tile_tokens),
    )
