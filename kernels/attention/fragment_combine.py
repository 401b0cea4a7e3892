"""The parts of a context's splits put together, by the program of the fragment kernel that is last."""

from __future__ import annotations

from triton.experimental import gluon
from triton.experimental.gluon import language as gl

from .fragments import head_column

_LANE_VALUES = 64
"""Parts that a lane holds at a time."""


@gluon.constexpr_function
def splits_at_once(splits: int, group: int, columns: int, warps: int) -> int:
    """How many splits' parts are read together: both are powers of two."""
    return min(splits, max(1, _LANE_VALUES * 32 * warps // (group * columns)))


@gluon.constexpr_function
def combining_layout(splits: int, columns: int, warps: int) -> gl.BlockedLayout:
    """[splits, heads, columns]: a lane has all splits of its columns."""
    across = min(warps, columns // 64)
    return gl.BlockedLayout([splits, 1, 2], [1, 1, 32], [1, warps // across, across], [2, 1, 0])


@gluon.jit
def _stats(
    stats_ptr, first_slot, split, active, GROUP: gl.constexpr, GP: gl.constexpr, L: gl.constexpr
):
    """Top and norm of each split and head; past L1, for other multiprocessors have written them."""
    g = gl.set_auto_layout(gl.arange(0, GP)[None, :], L)
    mask = (split < active) & (g < GROUP)
    p_stats = stats_ptr + (first_slot + split * GROUP + g) * 2
    top = gl.load(p_stats, mask=mask, other=-float("inf"), cache_modifier=".cg")
    norm = gl.load(p_stats + 1, mask=mask, other=0.0, cache_modifier=".cg")
    return top, norm


@gluon.jit
def _parts(
    partial_ptr,
    first_slot,
    split,
    active,
    GROUP: gl.constexpr,
    D: gl.constexpr,
    DP: gl.constexpr,
    GP: gl.constexpr,
    KV: gl.constexpr,
    L: gl.constexpr,
):
    """Sums of each split, head and column; past L1, as above."""
    g = gl.set_auto_layout(gl.arange(0, GP)[None, :, None], L)
    column = gl.set_auto_layout(gl.arange(0, DP)[None, None, :], L)
    d, real = head_column(column, D, DP, KV)
    mask = (split < active) & (g < GROUP) & real
    p_part = partial_ptr + (first_slot + split * GROUP + g) * D + d
    return gl.load(p_part, mask=mask, other=0.0, cache_modifier=".cg")


@gluon.jit
def combine(
    partial_ptr,
    stats_ptr,
    out_ptr,
    first_slot,
    active,
    GROUP: gl.constexpr,
    D: gl.constexpr,
    DP: gl.constexpr,
    GP: gl.constexpr,
    SP: gl.constexpr,
    KV: gl.constexpr,
    W: gl.constexpr,
):
    """out [GROUP, D] from the parts of `active` splits, always in the same order."""
    SC: gl.constexpr = splits_at_once(SP, GP, DP, W)
    L: gl.constexpr = combining_layout(SC, DP, W)
    LS: gl.constexpr = gl.SliceLayout(2, L)
    LY: gl.constexpr = gl.SliceLayout(0, L)
    split = gl.set_auto_layout(gl.arange(0, SC)[:, None, None], L)
    split_all = gl.set_auto_layout(gl.arange(0, SP)[:, None], LS)
    part = _parts(partial_ptr, first_slot, split, active, GROUP, D, DP, GP, KV, L)
    top, norm = _stats(stats_ptr, first_slot, split_all, active, GROUP, GP, LS)
    highest = gl.max(top, 0)
    base = gl.where(highest == -float("inf"), 0.0, highest)
    share = gl.exp2(top - base[None, :])
    total = gl.sum(norm * share, 0)
    total = gl.where(total > 0.0, total, 1.0)
    if SC == SP:
        share = share / total[None, :]
        y = gl.sum(part * share[:, :, None], 0)
    else:
        y = gl.zeros([GP, DP], gl.float32, LY)
        split_some = gl.set_auto_layout(gl.arange(0, SC)[:, None], LS)
        for begin in range(0, active, SC):
            some, _ = _stats(stats_ptr, first_slot, begin + split_some, active, GROUP, GP, LS)
            part_share = gl.exp2(some - base[None, :]) / total[None, :]
            y += gl.sum(part * part_share[:, :, None], 0)
            next_split = begin + SC + split
            part = _parts(partial_ptr, first_slot, next_split, active, GROUP, D, DP, GP, KV, L)
    g_out = gl.set_auto_layout(gl.arange(0, GP)[:, None], LY)
    column = gl.set_auto_layout(gl.arange(0, DP)[None, :], LY)
    d, real = head_column(column, D, DP, KV)
    mask = (g_out < GROUP) & real
    gl.store(out_ptr + g_out * D + d, y.to(out_ptr.dtype.element_ty), mask=mask)
