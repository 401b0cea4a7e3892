"""int4 tiles as stored times more rows than gemv.py takes, on the warpgroup products of SM 90.

One warp asks the card for tiles of x, words and scales, some stages ahead; eight make the words dense
in the registers that the tensor cores read while these are at work on the words before. Programs take
equal shares of all tiles' units; who comes last at a tile that is cut adds its parts in order. Weights
are asked for before the kernel ahead has ended.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch
from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.hopper import (
    fence_async_shared,
    mbarrier,
    warpgroup_mma,
    warpgroup_mma_init,
    warpgroup_mma_wait,
)

from .._gluon import dependents_may_start, everyone_arrives, tile_to_shared, wait_for_producers
from .._launch import Boxed, ceil_div, check_activation, check_out, launch, sm_count
from .pack import TILE_ROWS, UNIT_COLUMNS, Int4Tiles
from .wide_operand import dense, fetch, turn
from .wide_plan import WidePlan, wide_plan
from .wide_sums import OUTPUTS, PART, by_lanes, by_rows, finish, lanes_layout

SM = 90
"""Cards with warpgroup products of operands in registers, 227 KiB a program."""
TILES = gl.constexpr(PART // TILE_ROWS)
"""Of 16 outputs, a program."""
COLUMNS = gl.constexpr(UNIT_COLUMNS)
COPY_REGISTERS = gl.constexpr(24)
_WORDS = 128
"""Words of a tile's unit."""
_PAIRS = 16
_STAGED_BYTES = 190 * 1024
_MOST_TILES = 16384
"""Tiles of y whose parts are counted in memory that launches share."""


@gluon.jit
def _behind(tile, m, unit, sizes, BM: gl.constexpr):
    """Where the unit after this one is."""
    M, _, _, units, _ = sizes
    unit += 1
    if unit == units:
        unit = 0
        m += BM
        if m >= M:
            m = 0
            tile += TILES
    return tile, m, unit


@gluon.jit
def _copy_weights(descs, stages, full, slot, tile, unit, GROUP: gl.constexpr, BM: gl.constexpr):
    _, w_desc, s_desc = descs
    _, ws, ss = stages
    ready = full.index(slot)
    mbarrier.expect(ready, (BM * COLUMNS // 2 + TILES * (128 + 16)) * 4)
    tile_to_shared(w_desc, [tile, unit * 128], ready, ws.index(slot))
    tile_to_shared(s_desc, [tile, unit * COLUMNS // GROUP * 16], ready, ss.index(slot))


@gluon.jit
def _copy(descs, stages, full, empty, sizes, GROUP: gl.constexpr):
    """Keeps the stages filled."""
    M, _, tiles, units, share = sizes
    x_desc, _, _ = descs
    xs, _, _ = stages
    STAGES: gl.constexpr = xs.shape[0]
    BM: gl.constexpr = xs.shape[1]
    tiles_m = (M + BM - 1) // BM
    start = gl.program_id(0) * share
    count = gl.minimum(share, (tiles + TILES - 1) // TILES * tiles_m * units - start)
    number = start // units
    unit = start % units
    tile = number // tiles_m * TILES
    m = number % tiles_m * BM
    ahead = gl.minimum(count, STAGES)
    t = tile
    n = m
    u = unit
    for slot in range(ahead):
        _copy_weights(descs, stages, full, slot, t, u, GROUP, BM)
        t, n, u = _behind(t, n, u, sizes, BM)
    wait_for_producers()
    for slot in range(ahead):
        tile_to_shared(x_desc, [m, unit * COLUMNS], full.index(slot), xs.index(slot))
        tile, m, unit = _behind(tile, m, unit, sizes, BM)
    for i in range(ahead, count):
        slot = i % STAGES
        mbarrier.wait(empty.index(slot), (i // STAGES & 1) ^ 1)
        _copy_weights(descs, stages, full, slot, tile, unit, GROUP, BM)
        tile_to_shared(x_desc, [m, unit * COLUMNS], full.index(slot), xs.index(slot))
        tile, m, unit = _behind(tile, m, unit, sizes, BM)


@gluon.jit
def unit_sums(stages, full, empty, i, last, MMA: gl.constexpr, BF16: gl.constexpr):
    """Sums of units i to last, two of them in turn."""
    xs, ws, ss = stages
    STAGES: gl.constexpr = xs.shape[0]
    BM: gl.constexpr = xs.shape[1]
    OPERAND: gl.constexpr = gl.DotOperandLayout(0, MMA, 2)
    acc = warpgroup_mma_init(gl.zeros([OUTPUTS, BM], gl.float32, MMA))
    mbarrier.wait(full.index(i % STAGES), i // STAGES & 1)
    w0, s0 = fetch(ws.index(i % STAGES), ss.index(i % STAGES), 0)
    mbarrier.wait(full.index((i + 1) % STAGES), (i + 1) // STAGES & 1)
    w1, s1 = fetch(ws.index((i + 1) % STAGES), ss.index((i + 1) % STAGES), 0)
    w0 = turn(w0)
    for v in range(i, last, 2):
        w1 = turn(w1)
        a0 = dense(w0, s0, OPERAND, BF16)
        acc = warpgroup_mma(a0, xs.index(v % STAGES).permute((1, 0)), acc, is_async=True)
        then = (v + 2) % STAGES
        mbarrier.wait(full.index(then), (v + 2) // STAGES & 1, pred=v + 2 < last)
        w0, s0 = fetch(ws.index(then), ss.index(then), 0)
        acc = warpgroup_mma_init(warpgroup_mma_wait(1, deps=[acc]))
        mbarrier.arrive(empty.index((v + STAGES - 1) % STAGES), pred=v > i)
        w0 = turn(w0)
        a1 = dense(w1, s1, OPERAND, BF16)
        acc = warpgroup_mma(a1, xs.index((v + 1) % STAGES).permute((1, 0)), acc, is_async=True)
        then = (v + 3) % STAGES
        mbarrier.wait(full.index(then), (v + 3) // STAGES & 1, pred=v + 3 < last)
        w1, s1 = fetch(ws.index(then), ss.index(then), 0)
        acc, a0 = warpgroup_mma_wait(1, deps=[acc, a0])
        acc = warpgroup_mma_init(acc)
        mbarrier.arrive(empty.index(v % STAGES))
    total = warpgroup_mma_wait(0, deps=[acc])
    mbarrier.arrive(empty.index((last - 1) % STAGES))
    return total


@gluon.jit
def _multiply(
    stages,
    full,
    empty,
    outs,
    sizes,
    GATED: gl.constexpr,
    HAS_BIAS: gl.constexpr,
    BF16: gl.constexpr,
):
    """A program's share of all tiles."""
    xs, _, _ = stages
    bias_ptr, y_ptr, partial_ptr, arrived_ptr = outs
    M, _, tiles, units, share = sizes
    BM: gl.constexpr = xs.shape[1]
    SIZE: gl.constexpr = OUTPUTS * BM
    MMA: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [8, 1], [16, BM, 16])
    LANES: gl.constexpr = lanes_layout(BM)
    tiles_m = (M + BM - 1) // BM
    start = gl.program_id(0) * share
    end = gl.minimum(start + share, (tiles + TILES - 1) // TILES * tiles_m * units)
    piece = gl.arange(0, BM // 8, gl.SliceLayout(1, LANES))[:, None] * 1024
    p_part = partial_ptr + piece + gl.arange(0, 1024, gl.SliceLayout(0, LANES))[None, :]
    i = 0
    wait_for_producers()
    while start < end:
        number = start // units
        first = number * units
        stop = gl.minimum(first + units, end)
        last = i + stop - start
        tile = number // tiles_m * TILES
        m = number % tiles_m * BM
        total = unit_sums(stages, full, empty, i, last, MMA, BF16)
        if stop - start == units:
            finish(total, bias_ptr, y_ptr, tile, m, sizes, GATED, HAS_BIAS)
        else:
            # A program's first place is for a tile that another one began.
            place = gl.program_id(0) * 2 + (start == first).to(gl.int32)
            gl.store(p_part + place.to(gl.int64) * SIZE, by_lanes(total))
            everyone_arrives()
            began = first // share
            ended = (first + units - 1) // share
            p_arrived = arrived_ptr + number
            if gl.atomic_add(p_arrived, 1, sem="acq_rel") == ended - began:
                gl.store(p_arrived, 0)
                begun = (began * 2 + 1).to(gl.int64) * SIZE
                whole = gl.load(p_part + begun, cache_modifier=".cg")
                for other in range(began + 1, ended + 1):
                    more = (other * 2).to(gl.int64) * SIZE  # type: ignore[attr-defined]
                    whole += gl.load(p_part + more, cache_modifier=".cg")
                whole = by_rows(whole, MMA)
                finish(whole, bias_ptr, y_ptr, tile, m, sizes, GATED, HAS_BIAS)
        i = last
        start = stop


@gluon.jit(do_not_specialize=["M", "eighths", "tiles", "units", "share"])
def wide_int4_kernel(
    x_desc,
    w_desc,
    s_desc,
    bias_ptr,
    y_ptr,
    partial_ptr,
    arrived_ptr,
    M,
    eighths,
    tiles,
    units,
    share,
    GROUP: gl.constexpr,
    GATED: gl.constexpr,
    HAS_BIAS: gl.constexpr,
    BF16: gl.constexpr,
    BM: gl.constexpr,
    STAGES: gl.constexpr,
):
    """`eighths`: outputs (of one half where GATED) by eight; `units` even; `share` units a program."""
    xs = gl.allocate_shared_memory(x_desc.dtype, [STAGES, BM, COLUMNS], x_desc.layout)
    ws = gl.allocate_shared_memory(gl.int32, [STAGES, TILES, 128], w_desc.layout)
    ss = gl.allocate_shared_memory(gl.int32, [STAGES, TILES, 16], s_desc.layout)
    full = gl.allocate_shared_memory(gl.int64, [STAGES, 1], mbarrier.MBarrierLayout())
    empty = gl.allocate_shared_memory(gl.int64, [STAGES, 1], mbarrier.MBarrierLayout())
    for i in gl.static_range(STAGES):
        mbarrier.init(full.index(i), count=1)
        mbarrier.init(empty.index(i), count=1)
    fence_async_shared()
    everyone_arrives()
    dependents_may_start()
    stages = (xs, ws, ss)
    sizes = (M, eighths, tiles, units, share)
    outs = (bias_ptr, y_ptr, partial_ptr, arrived_ptr)
    gl.warp_specialize(
        [
            (_multiply, (stages, full, empty, outs, sizes, GATED, HAS_BIAS, BF16)),
            (_copy, ((x_desc, w_desc, s_desc), stages, full, empty, sizes, GROUP)),
        ],
        [1],
        [COPY_REGISTERS],
    )


def takes_wide(weight: Int4Tiles) -> bool:
    """Whether the kernel takes a weight, on cards of SM version SM."""
    outputs = weight.rows // 2 if weight.gated else weight.rows
    placed = (weight.words.data_ptr() | weight.pairs.data_ptr()) % 16 == 0
    fits = weight.group_size >= UNIT_COLUMNS and outputs % 8 == 0
    return fits and placed and weight.channel is None


@functools.cache
def _arrivals(device: torch.device) -> torch.Tensor:
    """Counts of finished parts, 0 between launches."""
    return torch.zeros(_MOST_TILES, dtype=torch.int32, device=device)


def stages_of(rows: int) -> int:
    """Units in shared memory at once, for so many rows of x."""
    weights = PART // TILE_ROWS * (_WORDS + _PAIRS) * 4
    return _STAGED_BYTES // (rows * UNIT_COLUMNS * 2 + weights)


@functools.cache
def x_layout(rows: int, dtype: torch.dtype) -> gl.NVMMASharedLayout:
    """How so many rows of x lie in shared memory."""
    element = gl.bfloat16 if dtype == torch.bfloat16 else gl.float16
    return gl.NVMMASharedLayout.get_default_for([rows, UNIT_COLUMNS], element)


@functools.cache
def word_layout() -> gl.NVMMASharedLayout:
    """How words and pairs lie there."""
    return gl.NVMMASharedLayout(swizzle_byte_width=0, element_bitwidth=32, rank=2)


@dataclass(frozen=True, slots=True, eq=False)
class BoxedTiles:
    """A weight's words and pairs as the card's copy engine takes boxes of them."""

    words: Boxed
    pairs: Boxed

    @classmethod
    def of(cls, weight: Int4Tiles) -> BoxedTiles:
        """Nothing is copied."""
        tiles, layout = weight.words.shape[0], word_layout()
        words = weight.words.view(tiles, -1)
        pairs = weight.pairs.view(torch.int32).view(tiles, -1)
        high = PART // TILE_ROWS
        return cls(Boxed(words, (high, _WORDS), layout), Boxed(pairs, (high, _PAIRS), layout))


def linear_wide(
    x: torch.Tensor,
    weight: Int4Tiles,
    *,
    bias: torch.Tensor | None = None,
    out: torch.Tensor | None = None,
    plan: WidePlan | None = None,
    boxed: BoxedTiles | None = None,
) -> torch.Tensor:
    """x fp16 or bf16 [M, K] times a weight [N, K] -> [M, N] of x's dtype; see `takes_wide`.

    bias [N]. Gated weights leave gate before up. Weights are rounded to x's dtype. `boxed`: of the
    weight, where it is at hand.
    """
    check_activation(x)
    rows, card = x.shape[0], x.device
    assert x.shape[1] == weight.columns, f"{tuple(x.shape)} times {weight.columns} columns"
    assert bias is None or (bias.shape == (weight.rows,) and bias.is_contiguous())
    if out is None:
        out = torch.empty(rows, weight.rows, dtype=x.dtype, device=card)
    check_out(out, (rows, weight.rows), x.dtype)
    tiles, stored = weight.words.shape[:2]
    units = ceil_div(stored, 2) * 2
    if plan is None:
        plan = wide_plan(rows, tiles * TILE_ROWS, units, sm_count(card))
    parts = plan.programs * 2 * PART * plan.rows if plan.cut else 0
    many = plan.tiles > _MOST_TILES
    if boxed is None:
        assert takes_wide(weight)
        boxed = BoxedTiles.of(weight)
    assert boxed.words.matrix.data_ptr() == weight.words.data_ptr()
    launch(
        wide_int4_kernel,
        (plan.programs, 1, 1),
        Boxed(x, (plan.rows, UNIT_COLUMNS), x_layout(plan.rows, x.dtype)),
        boxed.words,
        boxed.pairs,
        bias,
        out,
        torch.empty(parts, dtype=torch.float32, device=card),
        torch.zeros(plan.tiles, dtype=torch.int32, device=card) if many else _arrivals(card),
        rows,
        weight.rows // (16 if weight.gated else 8),
        tiles,
        units,
        plan.share,
        GROUP=weight.group_size,
        GATED=weight.gated,
        HAS_BIAS=bias is not None,
        BF16=x.dtype == torch.bfloat16,
        BM=plan.rows,
        STAGES=stages_of(plan.rows),
        warps=8,
        dependent=True,
    )
    return out
