"""The parts of a context's splits put together, by the program that arrives last."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def combine_splits(
    partial_ptr,
    stats_ptr,
    out_ptr,
    first_slot,
    active,
    held,
    SHARE: tl.constexpr,
    D: tl.constexpr,
    DP: tl.constexpr,
    SPLITS: tl.constexpr,
    SP: tl.constexpr,
    GC: tl.constexpr,
):
    """out [held <= SHARE, D] from the parts of `active` splits, always in the same order."""
    split = tl.arange(0, SP)
    d = tl.arange(0, DP)
    for g0 in range(0, SHARE, GC):
        g = g0 + tl.arange(0, GC)
        m = (split < active)[:, None] & (g < held)[None, :]
        slot = first_slot + split[:, None] * held + g[None, :]
        # Past L1: other multiprocessors have written these.
        p_acc = partial_ptr + slot[:, :, None] * D + d[None, None, :]
        m_acc = m[:, :, None] & (d < D)[None, None, :]
        acc = tl.load(p_acc, mask=m_acc, other=0.0, cache_modifier=".cg")
        top = tl.load(stats_ptr + slot * 2, mask=m, other=-float("inf"), cache_modifier=".cg")
        norm = tl.load(stats_ptr + slot * 2 + 1, mask=m, other=0.0, cache_modifier=".cg")
        highest = tl.max(top, 0)
        share = tl.exp2(top - tl.where(g < held, highest, 0.0)[None, :])
        share = share / tl.where(g < held, tl.sum(norm * share, 0), 1.0)[None, :]
        y = tl.sum(acc * share[:, :, None], 0)
        p_out = out_ptr + g[:, None] * D + d[None, :]
        m_out = (g < held)[:, None] & (d < D)[None, :]
        tl.store(p_out, y.to(out_ptr.dtype.element_ty), mask=m_out)
