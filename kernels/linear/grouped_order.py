"""Slots of rows in the order of the experts that they have chosen, and results back by row.

A slot is one row's choice of one expert. Nothing is read back: a launch over blocks has room for the
most that there can be, and empty ones end at once. T rows, A experts of each, E experts, S = T * A.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl

from .._launch import ceil_div, check_activation, check_out, launch, power_of_2

FEW_SLOTS = 512
MANY_SLOTS = 4096
"""Slots that a program looks at in one go."""
_COLUMNS = 1024
_APART = 16
"""Tables begin at multiples of so many numbers."""
TABLE_BLOCKS = 128
_FEWEST_BINS = 64
NOBODY = tl.constexpr(-1)
"""In place of an expert: a block without rows."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Order:
    """Places of slots by expert, cut into blocks of rows that share one."""

    tokens: torch.Tensor
    """int32 [S]: the row of x at each place."""
    places: torch.Tensor
    """int32 [S]: the place of each slot."""
    blocks: torch.Tensor
    """int32 [3, blocks]: expert, first place and the one behind the last; then NOBODY, 0 and 1."""
    used: torch.Tensor
    """int32 [1]: blocks that have rows, which come first."""
    block_rows: int


@triton.jit(do_not_specialize=["S", "blocks"])
def order_kernel(
    experts_ptr,
    tokens_ptr,
    places_ptr,
    blocks_ptr,
    S,
    blocks,
    ACTIVE: tl.constexpr,
    BM: tl.constexpr,
    BS: tl.constexpr,
    BB: tl.constexpr,
    BE: tl.constexpr,
):
    """One program an expert; each counts all slots."""
    expert = tl.program_id(0)
    s = tl.arange(0, BS)
    e = tl.arange(0, BE)
    counts = tl.zeros([BE], tl.int32)
    for start in range(0, S, BS):
        inside = start + s < S
        chosen = tl.load(experts_ptr + start + s, mask=inside, other=0)
        counts += tl.histogram(chosen, BE, mask=inside)
    needed = (counts + BM - 1) // BM
    first = tl.sum(tl.where(e < expert, counts, 0))
    count = tl.sum(tl.where(e == expert, counts, 0))
    block = tl.sum(tl.where(e < expert, needed, 0))
    end = first + count
    taken = (count + BM - 1) // BM
    behind = block + taken
    if expert == tl.num_programs(0) - 1:
        tl.store(blocks_ptr + 3 * blocks, behind)
        behind = blocks
    for start in range(block, behind, BB):
        b = start + tl.arange(0, BB)
        full = b < block + taken
        begin = first + (b - block) * BM
        inside = b < behind
        tl.store(blocks_ptr + b, tl.where(full, expert, NOBODY), mask=inside)
        tl.store(blocks_ptr + blocks + b, tl.where(full, begin, 0), mask=inside)
        stop = tl.where(full, tl.minimum(begin + BM, end), 1)
        tl.store(blocks_ptr + 2 * blocks + b, stop, mask=inside)
    if count > 0:
        place = first
        for start in range(0, S, BS):
            chosen = tl.load(experts_ptr + start + s, mask=start + s < S, other=0x7FFFFFFF)
            taking = chosen == expert
            ones = taking.to(tl.int32)
            places = place + tl.cumsum(ones, 0) - 1
            place += tl.sum(ones)
            tl.store(places_ptr + start + s, places, mask=taking)
            tl.store(tokens_ptr + places, (start + s) // ACTIVE, mask=taking)


@triton.jit
def spread_kernel(x_ptr, tokens_ptr, out_ptr, C, BC: tl.constexpr):
    place = tl.program_id(0)
    c = tl.program_id(1) * BC + tl.arange(0, BC)
    inside = c < C
    token = tl.load(tokens_ptr + place).to(tl.int64)
    x = tl.load(x_ptr + token * C + c, mask=inside)
    tl.store(out_ptr + place.to(tl.int64) * C + c, x, mask=inside)


@triton.jit
def collect_kernel(
    y_ptr, places_ptr, shares_ptr, out_ptr, C, ACTIVE: tl.constexpr, BC: tl.constexpr
):
    """Each row's results times its shares, added in the order of its slots."""
    row = tl.program_id(0).to(tl.int64)
    c = tl.program_id(1) * BC + tl.arange(0, BC)
    inside = c < C
    total = tl.zeros([BC], tl.float32)
    for a in tl.static_range(ACTIVE):
        place = tl.load(places_ptr + row * ACTIVE + a).to(tl.int64)
        share = tl.load(shares_ptr + row * ACTIVE + a)
        total += tl.load(y_ptr + place * C + c, mask=inside, other=0.0).to(tl.float32) * share
    tl.store(out_ptr + row * C + c, total, mask=inside)


def order_warps(slots: int) -> int:
    """Warps of a program that looks at so many slots in one go."""
    return 4 if slots == FEW_SLOTS else 8


def bins_of(count: int) -> int:
    """Experts that are counted at once."""
    return max(_FEWEST_BINS, power_of_2(count))


def block_count(slots: int, experts: int, block_rows: int) -> int:
    """Blocks that so many slots can take at most, whoever chooses whom."""
    return slots // block_rows + experts


def order(experts: torch.Tensor, count: int, block_rows: int) -> Order:
    """experts int32 [T, A], numbers below `count` -> their order, slots of an expert as they came."""
    assert experts.dtype == torch.int32 and experts.ndim == 2 and experts.is_contiguous()
    slots, active = experts.numel(), experts.shape[1]
    assert slots > 0
    blocks = block_count(slots, count, block_rows)
    apart = ceil_div(slots, _APART) * _APART
    made = torch.empty(2 * apart + 3 * blocks + 1, dtype=torch.int32, device=experts.device)
    tokens, places, table = made[:slots], made[apart : apart + slots], made[2 * apart :]
    few = slots <= FEW_SLOTS
    launch(
        order_kernel,
        (count, 1, 1),
        experts,
        tokens,
        places,
        table,
        slots,
        blocks,
        ACTIVE=active,
        BM=block_rows,
        BS=FEW_SLOTS if few else MANY_SLOTS,
        BB=TABLE_BLOCKS,
        BE=bins_of(count),
        warps=order_warps(FEW_SLOTS if few else MANY_SLOTS),
    )
    return Order(
        tokens=tokens,
        places=places,
        blocks=table[:-1].view(3, blocks),
        used=table[-1:],
        block_rows=block_rows,
    )


def _columns(width: int) -> int:
    """Columns of a program that passes rows on."""
    return min(_COLUMNS, power_of_2(width))


def spread(x: torch.Tensor, made: Order) -> torch.Tensor:
    """x [T, C] -> [S, C]: the rows by place."""
    check_activation(x)
    slots, width = made.tokens.shape[0], x.shape[1]
    out = torch.empty(slots, width, dtype=x.dtype, device=x.device)
    block = _columns(width)
    grid = (slots, ceil_div(width, block), 1)
    launch(spread_kernel, grid, x, made.tokens, out, width, BC=block, warps=4)
    return out


def collect(y: torch.Tensor, made: Order, shares: torch.Tensor) -> torch.Tensor:
    """y [S, C] by place, shares fp32 [T, A] -> fp32 [T, C]."""
    check_activation(y, "y")
    rows, active = shares.shape
    check_out(shares, (rows, active), torch.float32)
    width = y.shape[1]
    out = torch.empty(rows, width, dtype=torch.float32, device=y.device)
    block = _columns(width)
    launch(
        collect_kernel,
        (rows, ceil_div(width, block), 1),
        y,
        made.places,
        shares,
        out,
        width,
        ACTIVE=active,
        BC=block,
        warps=4,
    )
    return out
