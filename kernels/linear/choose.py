"""Which experts rows take and with what shares, from the router's scores, in one launch."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from .._launch import check_out, launch, power_of_2

LOWEST = tl.constexpr(-3.0e38)


@triton.jit
def choose_kernel(
    scores_ptr,
    shares_ptr,
    experts_ptr,
    COUNT: tl.constexpr,
    ACTIVE: tl.constexpr,
    RENORMALISE: tl.constexpr,
    BE: tl.constexpr,
    BA: tl.constexpr,
):
    """One row a program. Of equal scores the first is taken."""
    row = tl.program_id(0).to(tl.int64)
    e = tl.arange(0, BE)
    a = tl.arange(0, BA)
    scores = tl.load(scores_ptr + row * COUNT + e, mask=e < COUNT, other=0.0)
    # What is no number comes last, and every expert before the places that stand for none.
    scores = tl.where(scores > LOWEST, scores, LOWEST)
    scores = tl.where(e < COUNT, scores, float("-inf"))
    top = tl.max(scores, 0)
    shares = tl.exp(scores - top)
    total = tl.sum(shares, 0)
    experts = tl.zeros([BA], tl.int32)
    taken = tl.zeros([BA], tl.float32)
    for i in tl.static_range(ACTIVE):
        best = tl.argmax(scores, 0, tie_break_left=True)
        share = tl.sum(tl.where(e == best, shares, 0.0), 0)
        experts = tl.where(a == i, best, experts)
        taken = tl.where(a == i, share, taken)
        scores = tl.where(e == best, float("-inf"), scores)
    if RENORMALISE:
        total = tl.sum(taken, 0)
    tl.store(shares_ptr + row * ACTIVE + a, taken / total, mask=a < ACTIVE)
    tl.store(experts_ptr + row * ACTIVE + a, experts, mask=a < ACTIVE)


def choose(
    scores: torch.Tensor, active: int, *, renormalise: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """scores fp32 [T, E] -> shares fp32 and experts int32 [T, A], the highest first."""
    rows, count = scores.shape
    check_out(scores, (rows, count), torch.float32)
    assert 1 <= active <= count
    shares = torch.empty(rows, active, dtype=torch.float32, device=scores.device)
    experts = torch.empty(rows, active, dtype=torch.int32, device=scores.device)
    launch(
        choose_kernel,
        (rows, 1, 1),
        scores,
        shares,
        experts,
        COUNT=count,
        ACTIVE=active,
        RENORMALISE=renormalise,
        BE=power_of_2(count),
        BA=power_of_2(active),
        warps=1,
    )
    return shares, experts
