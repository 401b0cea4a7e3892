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
def _stats(stats_ptr, first_slot, split, active, held, GP: gl.constexpr, L: gl.constexpr):
    """Top and norm of each split and head; past L1, for other multiprocessors have written them."""
    g = gl.set_auto_layout(gl.arange(0, GP)[None, :], L)
    mask = (split < active) & (g < held)
    p_stats = stats_ptr + (first_slot + split * held + g) * 2
    top = gl.load(p_stats, mask=mask, other=-float("inf"), cache_modifier=".cg")
    norm = gl.load(p_stats + 1, mask=mask, other=0.0, cache_modifier=".cg")
    return top, norm


@gluon.jit
def _parts(
    partial_ptr,
    first_slot,
    split,
    active,
    held,
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
    mask = (split < active) & (g < held) & real
    p_part = partial_ptr + (first_slot + split * held + g) * D + d
    return gl.load(p_part, mask=mask, other=0.0, cache_modifier=".cg")


@gluon.jit
def combine(
    partial_ptr,
    stats_ptr,
    out_ptr,
    first_slot,
    active,
    held,
    D: gl.constexpr,
    DP: gl.constexpr,
    GP: gl.constexpr,
    SP: gl.constexpr,
    KV: gl.constexpr,
    W: gl.constexpr,
):
    """out [held, D] from the parts of `active` splits, always in the same order."""
    SC: gl.constexpr = splits_at_once(SP, GP, DP, W)
    L: gl.constexpr = combining_layout(SC, DP, W)
    LS: gl.constexpr = gl.SliceLayout(2, L)
    LY: gl.constexpr = gl.SliceLayout(0, L)
    split = gl.set_auto_layout(gl.arange(0, SC)[:, None, None], L)
    split_2 = gl.set_auto_layout(gl.arange(0, SC)[:, None], LS)
    part = _parts(partial_ptr, first_slot, split, active, held, D, DP, GP, KV, L)
    top, norm = _stats(stats_ptr, first_slot, split_2, active, held, GP, LS)
    if SC == SP:
        highest = gl.max(top, 0)
        base = gl.where(highest == -float("inf"), 0.0, highest)
        share = gl.exp2(top - base[None, :])
        total = gl.sum(norm * share, 0)
        share = share / gl.where(total > 0.0, total, 1.0)[None, :]
        y = gl.sum(part * share[:, :, None], 0)
    else:
        LYG: gl.constexpr = gl.SliceLayout(1, LY)
        highest = gl.full([GP], -float("inf"), gl.float32, gl.SliceLayout(0, LS))
        total = gl.zeros([GP], gl.float32, gl.SliceLayout(0, LS))
        y = gl.zeros([GP, DP], gl.float32, LY)
        for begin in range(0, active, SC):
            new_highest = gl.maximum(highest, gl.max(top, 0))
            base = gl.where(new_highest == -float("inf"), 0.0, new_highest)
            keep = gl.exp2(highest - base)
            share = gl.exp2(top - base[None, :])
            total = total * keep + gl.sum(norm * share, 0)
            y = y * gl.convert_layout(keep, LYG, assert_trivial=True)[:, None]
            y += gl.sum(part * share[:, :, None], 0)
            highest = new_highest
            after = begin + SC
            part = _parts(partial_ptr, first_slot, after + split, active, held, D, DP, GP, KV, L)
            top, norm = _stats(stats_ptr, first_slot, after + split_2, active, held, GP, LS)
        total = gl.convert_layout(total, LYG, assert_trivial=True)
        y = y / gl.where(total > 0.0, total, 1.0)[:, None]
    g_out = gl.set_auto_layout(gl.arange(0, GP)[:, None], LY)
    column = gl.set_auto_layout(gl.arange(0, DP)[None, :], LY)
    d, real = head_column(column, D, DP, KV)
    mask = (g_out < held) & real
    gl.store(out_ptr + g_out * D + d, y.to(out_ptr.dtype.element_ty), mask=mask)
