"""Which experts rows take and with what shares, from the router's scores or with them, in a launch."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from .._launch import ceil_div, check_activation, check_out, launch, power_of_2

LOWEST = tl.constexpr(-3.0e38)
MOST_ROUTED = 256
"""Experts whose scores one program has at once."""
ROUTE_ROWS = 16
ROUTE_DEPTH = 32


@triton.jit
def _taken(
    scores, COUNT: tl.constexpr, ACTIVE: tl.constexpr, RENORMALISE: tl.constexpr, BA: tl.constexpr
):
    """Shares and experts [M, BA] of rows of scores [M, BE]. Of equal scores the first is taken."""
    BM: tl.constexpr = scores.shape[0]
    e = tl.arange(0, scores.shape[1])[None, :]
    a = tl.arange(0, BA)[None, :]
    # What is no number comes last, and every expert before the places that stand for none.
    scores = tl.where(scores > LOWEST, scores, LOWEST)
    scores = tl.where(e < COUNT, scores, float("-inf"))
    top = tl.max(scores, 1)
    shares = tl.exp(scores - top[:, None])
    total = tl.sum(shares, 1)
    experts = tl.zeros([BM, BA], tl.int32)
    taken = tl.zeros([BM, BA], tl.float32)
    for i in tl.static_range(ACTIVE):
        best = tl.argmax(scores, 1, tie_break_left=True)[:, None]
        share = tl.sum(tl.where(e == best, shares, 0.0), 1)[:, None]
        experts = tl.where(a == i, best, experts)
        taken = tl.where(a == i, share, taken)
        scores = tl.where(e == best, float("-inf"), scores)
    if RENORMALISE:
        total = tl.sum(taken, 1)
    return taken / total[:, None], experts


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
    """One row a program."""
    row = tl.program_id(0).to(tl.int64)
    e = tl.arange(0, BE)[None, :]
    a = tl.arange(0, BA)[None, :]
    scores = tl.load(scores_ptr + row * COUNT + e, mask=e < COUNT, other=0.0)
    shares, experts = _taken(scores, COUNT, ACTIVE, RENORMALISE, BA)
    tl.store(shares_ptr + row * ACTIVE + a, shares, mask=a < ACTIVE)
    tl.store(experts_ptr + row * ACTIVE + a, experts, mask=a < ACTIVE)


@triton.jit(do_not_specialize=["M"])
def route_kernel(
    x_ptr,
    router_ptr,
    shares_ptr,
    experts_ptr,
    M,
    K,
    COUNT: tl.constexpr,
    ACTIVE: tl.constexpr,
    RENORMALISE: tl.constexpr,
    EVEN_K: tl.constexpr,
    BM: tl.constexpr,
    BE: tl.constexpr,
    BK: tl.constexpr,
    BA: tl.constexpr,
):
    """Products of three parts on tensor cores: as exact as fp32, since x has 16 bits."""
    m = tl.program_id(0) * BM + tl.arange(0, BM)
    e = tl.arange(0, BE)
    a = tl.arange(0, BA)[None, :]
    k = tl.arange(0, BK)
    p_x = x_ptr + (m % M).to(tl.int64)[:, None] * K + k[None, :]
    p_r = router_ptr + (e % COUNT)[None, :] * K + k[:, None]
    scores = tl.zeros([BM, BE], tl.float32)
    for start in range(0, K, BK):
        if EVEN_K:
            x = tl.load(p_x + start)
            router = tl.load(p_r + start)
        else:
            x = tl.load(p_x + start, mask=k[None, :] < K - start, other=0.0)
            router = tl.load(p_r + start, mask=k[:, None] < K - start, other=0.0)
        scores = tl.dot(x.to(tl.float32), router, scores, input_precision="tf32x3")
    shares, experts = _taken(scores, COUNT, ACTIVE, RENORMALISE, BA)
    place = m.to(tl.int64)[:, None] * ACTIVE + a
    inside = (m < M)[:, None] & (a < ACTIVE)
    tl.store(shares_ptr + place, shares, mask=inside)
    tl.store(experts_ptr + place, experts, mask=inside)


def choose(
    scores: torch.Tensor, active: int, *, renormalise: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """scores fp32 [T, E] -> shares fp32 and experts int32 [T, A], the highest first."""
    rows, count = scores.shape
    check_out(scores, (rows, count), torch.float32)
    shares, experts = _places(rows, active, count, scores.device)
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


def _places(
    rows: int, active: int, count: int, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    assert 1 <= active <= count
    shares = torch.empty(rows, active, dtype=torch.float32, device=device)
    return shares, torch.empty(rows, active, dtype=torch.int32, device=device)


def route_stages(count: int) -> int:
    """Steps in shared memory at once."""
    return 4 if count <= MOST_ROUTED // 2 else 2


def route(
    x: torch.Tensor, router: torch.Tensor, active: int, *, renormalise: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """`choose` of x fp16 or bf16 [T, C] times router fp32 [E, C]; E is at most MOST_ROUTED."""
    check_activation(x)
    rows, columns = x.shape
    count = router.shape[0]
    check_out(router, (count, columns), torch.float32)
    assert count <= MOST_ROUTED
    shares, experts = _places(rows, active, count, x.device)
    launch(
        route_kernel,
        (ceil_div(rows, ROUTE_ROWS), 1, 1),
        x,
        router,
        shares,
        experts,
        rows,
        columns,
        COUNT=count,
        ACTIVE=active,
        RENORMALISE=renormalise,
        EVEN_K=columns % ROUTE_DEPTH == 0,
        BM=ROUTE_ROWS,
        BE=max(ROUTE_ROWS, power_of_2(count)),
        BK=ROUTE_DEPTH,
        BA=power_of_2(active),
        warps=4,
        stages=route_stages(count),
    )
    return shares, experts
