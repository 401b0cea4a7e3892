"""Rows by expert times experts' int4 tiles, on the warpgroup products of SM 90.

As wide.py, but that a program goes from one block of rows to another, each with the weights of its
expert; whole tiles only. Owns products of many rows an expert.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.hopper import fence_async_shared, mbarrier

from .._gluon import dependents_may_start, everyone_arrives, tile_to_shared, wait_for_producers
from .._launch import Boxed, ceil_div, check_activation, check_out, launch, sm_count, sm_version
from .epilogue import gate_of
from .grouped_order import Order
from .pack import TILE_ROWS, UNIT_COLUMNS, Int4Tiles
from .reference import Gate
from .wide import (
    COLUMNS,
    COPY_REGISTERS,
    SM,
    TILES,
    BoxedTiles,
    stages_of,
    takes_wide,
    unit_sums,
    x_layout,
)
from .wide_sums import OUTPUTS, PART

_MOST_STAGES = 12


@gluon.constexpr_function
def _store_layout(OUTS, BM):
    columns = [[0, 1 << i] for i in range(BM.bit_length() - 1)]
    warps = [[16, 0], [32, 0], [64, 0]] if OUTS == 128 else [[16, 0], [32, 0], *columns[4:5]]
    rest = columns[4:] if OUTS == 128 else columns[5:]
    warps += [[0, 0]] * (3 - len(warps))
    return gl.DistributedLinearLayout(
        [[1, 0], [2, 0], [4, 0], *rest], [[8, 0], *columns[:4]], warps, [], [OUTS, BM]
    )


@gluon.jit
def _block_at(tables, item, parts, blocks):
    """Expert, first row and the one behind the last of an item's block."""
    block = gl.minimum(item // parts, blocks - 1)
    expert = gl.load(tables[0] + block)
    first = gl.load(tables[0] + blocks + block)
    return expert, first, gl.load(tables[0] + blocks * 2 + block)


@gluon.jit
def _copy(descs, stages, full, empty, tables, sizes, GROUP: gl.constexpr):
    """Keeps the stages filled."""
    blocks, _, tiles, units = sizes
    x_desc, w_desc, s_desc = descs
    xs, ws, ss = stages
    STAGES: gl.constexpr = xs.shape[0]
    BM: gl.constexpr = xs.shape[1]
    parts = (tiles + TILES - 1) // TILES
    i = 0
    item = gl.program_id(0)
    wait_for_producers()
    items = gl.load(tables[1]) * parts
    expert, first, _ = _block_at(tables, item, parts, blocks)
    while item < items:
        tile = expert * tiles + item % parts * TILES
        row = first
        item += gl.num_programs(0)
        # What comes next is on its way before it is needed.
        expert, first, _ = _block_at(tables, item, parts, blocks)
        for unit in range(0, units):
            slot = i % STAGES
            ready = full.index(slot)
            mbarrier.wait(empty.index(slot), (i // STAGES & 1) ^ 1)
            mbarrier.expect(ready, (BM * COLUMNS // 2 + TILES * (128 + 16)) * 4)
            tile_to_shared(w_desc, [tile, unit * 128], ready, ws.index(slot))
            tile_to_shared(s_desc, [tile, unit * COLUMNS // GROUP * 16], ready, ss.index(slot))
            tile_to_shared(x_desc, [row, unit * COLUMNS], ready, xs.index(slot))
            i += 1


@gluon.jit
def _multiply(
    stages,
    full,
    empty,
    tables,
    y_ptr,
    sizes,
    GATED: gl.constexpr,
    GELU: gl.constexpr,
    BF16: gl.constexpr,
):
    blocks, eighths, tiles, units = sizes
    outputs = eighths * 8
    xs, _, _ = stages
    BM: gl.constexpr = xs.shape[1]
    OUTS: gl.constexpr = OUTPUTS // 2 if GATED else OUTPUTS
    MMA: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [8, 1], [16, BM, 16])
    ROWS: gl.constexpr = _store_layout(OUTS, BM)
    parts = (tiles + TILES - 1) // TILES
    i = 0
    item = gl.program_id(0)
    wait_for_producers()
    items = gl.load(tables[1]) * parts
    _, first, end = _block_at(tables, item, parts, blocks)
    while item < items:
        n = item % parts * OUTS + gl.arange(0, OUTS, gl.SliceLayout(1, ROWS))
        m = first + gl.arange(0, BM, gl.SliceLayout(0, ROWS))
        inside = (m < end)[None, :] & (n < outputs)[:, None]
        item += gl.num_programs(0)
        _, first, end = _block_at(tables, item, parts, blocks)
        made = unit_sums(stages, full, empty, i, i + units, MMA, BF16)
        if GATED:
            # tile, gate or up, row, row of x: both of an output are in the same lane
            pair = gl.permute(gl.reshape(made, [OUTPUTS // 16, 2, 8, BM]), [0, 2, 3, 1])
            upper, lower = gl.split(pair)
            made = gl.reshape(gate_of(upper, GELU) * lower, [OUTS, BM])
        y = gl.convert_layout(made.to(y_ptr.dtype.element_ty), ROWS)
        p_y = y_ptr + m.to(gl.int64)[None, :] * outputs + n[:, None]
        gl.store(p_y, y, mask=inside)
        i += units


@gluon.jit(do_not_specialize=["blocks", "eighths", "tiles", "units"])
def grouped_wide_kernel(
    x_desc,
    w_desc,
    s_desc,
    blocks_ptr,
    used_ptr,
    y_ptr,
    blocks,
    eighths,
    tiles,
    units,
    GROUP: gl.constexpr,
    GATED: gl.constexpr,
    GELU: gl.constexpr,
    BF16: gl.constexpr,
    BM: gl.constexpr,
    STAGES: gl.constexpr,
):
    """`eighths`: results by eight, of which GATED takes two rows; `tiles` of an expert; `units` even."""
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
    sizes = (blocks, eighths, tiles, units)
    tables = (blocks_ptr, used_ptr)
    gl.warp_specialize(
        [
            (_multiply, (stages, full, empty, tables, y_ptr, sizes, GATED, GELU, BF16)),
            (_copy, ((x_desc, w_desc, s_desc), stages, full, empty, tables, sizes, GROUP)),
        ],
        [1],
        [COPY_REGISTERS],
    )


def boxed_experts(weight: Int4Tiles, count: int) -> BoxedTiles | None:
    """The tiles of `count` experts, `weight` the first; None where the kernel does not take them."""
    if sm_version(weight.words.device) != SM or not takes_wide(weight):
        return None
    parts = []
    for part in (weight.words, weight.pairs):
        shape = (count * part.shape[0], *part.shape[1:])
        parts.append(part.as_strided(shape, part.stride()))
    return BoxedTiles.of(replace(weight, words=parts[0], pairs=parts[1]))


def staged(block_rows: int) -> int:
    """Units in shared memory at once."""
    return min(_MOST_STAGES, int(stages_of(block_rows)))


def linear_grouped_wide(
    x: torch.Tensor,
    weight: Int4Tiles,
    order: Order,
    boxed: BoxedTiles,
    *,
    gated: bool = False,
    gate: Gate = "silu",
    out: torch.Tensor | None = None,
) -> torch.Tensor:
    """x fp16 or bf16 [S, K] by place times experts' weights, `weight` the first -> [S, N] by place.

    `boxed`: of all experts. `gated`: see launch.linear. Weights are rounded to x's dtype; see wide.takes_wide.
    """
    check_activation(x)
    slots, columns, card = order.tokens.shape[0], weight.columns, x.device
    assert x.shape == (slots, columns)
    outputs = weight.rows // 2 if gated else weight.rows
    assert weight.gated == gated
    if out is None:
        out = torch.empty(slots, outputs, dtype=x.dtype, device=card)
    check_out(out, (slots, outputs), x.dtype)
    tiles, stored = weight.words.shape[:2]
    blocks, rows = order.blocks.shape[1], order.block_rows
    launch(
        grouped_wide_kernel,
        (min(sm_count(card), blocks * ceil_div(tiles, PART // TILE_ROWS)), 1, 1),
        Boxed(x, (rows, UNIT_COLUMNS), x_layout(rows, x.dtype)),
        boxed.words,
        boxed.pairs,
        order.blocks,
        order.used,
        out,
        blocks,
        outputs // 8,
        tiles,
        ceil_div(stored, 2) * 2,
        GROUP=weight.group_size,
        GATED=gated,
        GELU=gate == "gelu_tanh",
        BF16=x.dtype == torch.bfloat16,
        BM=rows,
        STAGES=staged(rows),
        warps=8,
        dependent=True,
    )
    return out
