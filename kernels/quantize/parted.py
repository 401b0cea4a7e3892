"""The product of 8-bit codes with 8-bit weights by warps that each do one thing (SM 90).

One warp asks the card for tiles of codes and weights, some stages ahead; groups of four warps each
multiply 64 rows of the weight with the same rows of codes, straight from shared memory. Tiles that
fill no wave of programs are cut along K (shares.py); who comes last at such a tile adds the parts in
order. Weights are asked for before the kernel ahead has ended. Shapes and scales: see matmul.py.
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
    warpgroup_mma_wait,
)

from .._gluon import dependents_may_start, everyone_arrives, tile_to_shared, wait_for_producers
from .._launch import Boxed, ceil_div, launch, sm_count
from .shares import shares
from .tiles import GROUP_COLUMNS, PARTED_DEPTH, PARTED_GROUPS, Parted

DEPTH = gl.constexpr(PARTED_DEPTH)
COLUMNS = gl.constexpr(GROUP_COLUMNS)
WIDEST_INT8 = gl.constexpr(128)
"""Rows of codes in one int8 instruction: Triton has none of 256."""
GROUPS = gl.constexpr(PARTED_GROUPS)
REGISTERS = 168
"""Of a thread, before those that multiply take from the one that copies."""
PRODUCT_REGISTERS = gl.constexpr(240)
COPY_REGISTERS = gl.constexpr(24)


@gluon.jit
def _share(pid, sizes):
    """First step and the step behind the last in the tiles that are cut, and how many it meets."""
    _, _, steps, _, rest, sharers, _ = sizes
    begin = gl.minimum(pid, sharers) * (rest * steps) // sharers
    end = gl.minimum(pid + 1, sharers) * (rest * steps) // sharers
    return begin, end, (end + steps - 1) // steps - begin // steps


@gluon.jit
def _work(i, pid, begin, end, met, sizes):
    """Tile, first step and the step behind the last of a program's i-th piece of work."""
    _, _, steps, _, rest, _, _ = sizes
    tile = begin // steps + i
    first = gl.maximum(begin - tile * steps, 0)
    stop = gl.minimum(end - tile * steps, steps)
    if i >= met:
        tile = rest + (i - met) * gl.num_programs(0) + pid
        first = 0
        stop = steps
    return tile, first, stop


@gluon.jit
def _copy_weights(w_desc, ws, ready, slot, n, step, BYTES: gl.constexpr):
    mbarrier.expect(ready, BYTES)
    for group in gl.static_range(GROUPS):
        at = [n + group * COLUMNS, step * DEPTH]
        tile_to_shared(w_desc, at, ready, ws.index(slot * GROUPS + group))


@gluon.jit
def _copy(x_desc, w_desc, xs, ws, full, empty, sizes, BM: gl.constexpr):
    """Keeps the stages filled."""
    _, _, _, tiles_m, _, _, waves = sizes
    STAGES: gl.constexpr = full.shape[0]
    BYTES: gl.constexpr = (BM + GROUPS * COLUMNS) * DEPTH
    pid = gl.program_id(0)
    begin, end, met = _share(pid, sizes)
    tile, first, stop = _work(0, pid, begin, end, met, sizes)
    m = tile % tiles_m * BM
    n = tile // tiles_m * (GROUPS * COLUMNS)
    ahead = gl.minimum(stop - first, STAGES)
    for slot in range(ahead):
        _copy_weights(w_desc, ws, full.index(slot), slot, n, first + slot, BYTES)
    wait_for_producers()
    for slot in range(ahead):
        tile_to_shared(x_desc, [m, (first + slot) * DEPTH], full.index(slot), xs.index(slot))
    count = ahead
    for i in range(met + waves):
        tile, first, stop = _work(i, pid, begin, end, met, sizes)
        m = tile % tiles_m * BM
        n = tile // tiles_m * (GROUPS * COLUMNS)
        if i == 0:
            first += ahead
        for step in range(first, stop):
            slot = count % STAGES
            mbarrier.wait(empty.index(slot), (count // STAGES & 1) ^ 1)
            _copy_weights(w_desc, ws, full.index(slot), slot, n, step, BYTES)
            tile_to_shared(x_desc, [m, step * DEPTH], full.index(slot), xs.index(slot))
            count += 1


@gluon.jit
def _finish(total, column_scale, bias, row_scale_ptr, y_ptr, n0, m0, sizes, BM: gl.constexpr):
    """Scales sums [COLUMNS, BM rows] and writes them, 64 rows at a time to spare registers."""
    M, N, _, _, _, _, _ = sizes
    if BM > 64:
        HALF: gl.constexpr = BM // 2
        a, b = gl.split(gl.permute(gl.reshape(total, [COLUMNS, 2, HALF]), [0, 2, 1]))
        _finish(a, column_scale, bias, row_scale_ptr, y_ptr, n0, m0, sizes, HALF)
        _finish(b, column_scale, bias, row_scale_ptr, y_ptr, n0, m0 + HALF, sizes, HALF)
    else:
        MMA: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, BM, 32])
        ROW: gl.constexpr = gl.SliceLayout(1, MMA)
        OUT: gl.constexpr = gl.BlockedLayout([8, 1], [2, 16], [4, 1], [0, 1])
        y = gl.convert_layout(total, MMA, assert_trivial=True).to(gl.float32)
        m = m0 + gl.arange(0, BM, gl.SliceLayout(0, MMA))
        y *= gl.load(row_scale_ptr + m, mask=m < M, other=0.0)[None, :]
        y *= gl.convert_layout(column_scale, ROW, assert_trivial=True)[:, None]
        y += gl.convert_layout(bias, ROW, assert_trivial=True)[:, None]
        y = gl.convert_layout(y.to(y_ptr.dtype.element_ty), OUT)
        n = n0 + gl.arange(0, COLUMNS, gl.SliceLayout(1, OUT))
        m = m0 + gl.arange(0, BM, gl.SliceLayout(0, OUT))
        p_y = y_ptr + m.to(gl.int64)[None, :] * N + n[:, None]
        gl.store(p_y, y, mask=(m < M)[None, :] & (n < N)[:, None])


@gluon.jit
def _by_threads(total, BM: gl.constexpr, LANES: gl.constexpr):
    """Sums [COLUMNS, BM] as the tensor cores hold them -> [BM / 8, 128 threads, 4], nothing moves."""
    total = gl.reshape(total, [4, 2, 8, BM // 8, 4, 2])
    total = gl.permute(total, [3, 0, 2, 4, 1, 5])
    return gl.convert_layout(gl.reshape(total, [BM // 8, 128, 4]), LANES, assert_trivial=True)


@gluon.jit
def _by_rows(total, BM: gl.constexpr, MMA: gl.constexpr):
    """The reverse."""
    total = gl.permute(gl.reshape(total, [BM // 8, 4, 8, 4, 2, 2]), [1, 4, 2, 0, 3, 5])
    return gl.convert_layout(gl.reshape(total, [COLUMNS, BM]), MMA, assert_trivial=True)


@gluon.constexpr_function
def _lanes(BM):
    registers = [[0, 0, 1], [0, 0, 2]]
    step = 1
    while step < BM // 8:
        registers.append([step, 0, 0])
        step *= 2
    lanes = [[0, 1, 0], [0, 2, 0], [0, 4, 0], [0, 8, 0], [0, 16, 0]]
    warps = [[0, 32, 0], [0, 64, 0]]
    return gl.DistributedLinearLayout(registers, lanes, warps, [], [BM // 8, 128, 4])


@gluon.jit
def _multiply(
    io,
    bias_ptr,
    sums,
    sizes,
    GROUP: gl.constexpr,
    BM: gl.constexpr,
    INT8: gl.constexpr,
    HAS_BIAS: gl.constexpr,
):
    """One group's rows of every tile."""
    xs, ws, full, empty, row_scale_ptr, column_scale_ptr = io
    y_ptr, partial_ptr, arrived_ptr = sums
    _, N, steps, tiles_m, rest, sharers, waves = sizes
    STAGES: gl.constexpr = full.shape[0]
    WIDE: gl.constexpr = WIDEST_INT8 if INT8 and BM > WIDEST_INT8 else BM
    MMA: gl.constexpr = gl.NVMMADistributedLayout([3, 0], [4, 1], [16, WIDE, 32])
    SUM: gl.constexpr = gl.int32 if INT8 else gl.float32
    LANES: gl.constexpr = _lanes(BM)
    PART: gl.constexpr = GROUPS * COLUMNS * BM
    pid = gl.program_id(0)
    begin, end, met = _share(pid, sizes)
    piece = gl.arange(0, BM // 8, gl.SliceLayout(1, gl.SliceLayout(2, LANES)))
    thread = gl.arange(0, 128, gl.SliceLayout(0, gl.SliceLayout(2, LANES)))
    element = gl.arange(0, 4, gl.SliceLayout(0, gl.SliceLayout(1, LANES)))
    at = piece[:, None, None] * 512 + thread[None, :, None] * 4 + element[None, None, :]
    p_part = partial_ptr + GROUP * (COLUMNS * BM) + at
    column = gl.arange(0, COLUMNS, gl.SliceLayout(1, MMA))
    wait_for_producers()
    count = pid * 0
    for i in range(met + waves):
        tile, first, stop = _work(i, pid, begin, end, met, sizes)
        n0 = (tile // tiles_m * GROUPS + GROUP) * COLUMNS
        n = n0 + column
        scale = gl.load(column_scale_ptr + n, mask=n < N, other=0.0)
        bias = gl.zeros([COLUMNS], gl.float32, gl.SliceLayout(1, MMA))
        if HAS_BIAS:
            bias = gl.load(bias_ptr + n, mask=n < N, other=0.0).to(gl.float32)
        total = gl.zeros([COLUMNS, BM], SUM, MMA)
        for step in range(first, stop):
            slot = count % STAGES
            mbarrier.wait(full.index(slot), count // STAGES & 1)
            w = ws.index(slot * GROUPS + GROUP)
            x = xs.index(slot).permute((1, 0))
            total = warpgroup_mma(w, x, total, is_async=True)
            # One step's product runs on while the stage of the step before is given back.
            total = warpgroup_mma_wait(1, deps=[total])
            mbarrier.arrive(empty.index((count + STAGES - 1) % STAGES), pred=step > first)
            count += 1
        total = warpgroup_mma_wait(0, deps=[total])
        mbarrier.arrive(empty.index((count + STAGES - 1) % STAGES))
        last = tile >= 0
        if stop - first < steps:
            behind = gl.where(first > 0, 1, 0)
            gl.store(p_part + (pid * 2 + behind) * PART, _by_threads(total, BM, LANES))
            everyone_arrives()
            head = ((tile * steps + 1) * sharers - 1) // (rest * steps)
            tail = ((tile + 1) * steps * sharers - 1) // (rest * steps)
            p_arrived = arrived_ptr + tile * GROUPS + GROUP
            last = gl.atomic_add(p_arrived, 1, sem="acq_rel") == tail - head
            if last:
                gl.store(p_arrived, 0)
                whole = gl.load(p_part + head * 2 * PART, cache_modifier=".cg")
                for other in range(head + 1, tail + 1):
                    whole += gl.load(p_part + (other * 2 + 1) * PART, cache_modifier=".cg")
                total = _by_rows(whole, BM, MMA)
        if last:
            _finish(total, scale, bias, row_scale_ptr, y_ptr, n0, tile % tiles_m * BM, sizes, BM)


@gluon.jit(do_not_specialize=["M", "steps", "tiles_m", "rest", "sharers", "waves"])
def parted_matmul_kernel(
    x_desc,
    w_desc,
    row_scale_ptr,
    column_scale_ptr,
    bias_ptr,
    y_ptr,
    partial_ptr,
    arrived_ptr,
    M,
    N,
    steps,
    tiles_m,
    rest,
    sharers,
    waves,
    BM: gl.constexpr,
    STAGES: gl.constexpr,
    INT8: gl.constexpr,
    HAS_BIAS: gl.constexpr,
):
    xs = gl.allocate_shared_memory(x_desc.dtype, [STAGES, BM, DEPTH], x_desc.layout)
    ws = gl.allocate_shared_memory(w_desc.dtype, [STAGES * GROUPS, COLUMNS, DEPTH], w_desc.layout)
    full = gl.allocate_shared_memory(gl.int64, [STAGES, 1], mbarrier.MBarrierLayout())
    empty = gl.allocate_shared_memory(gl.int64, [STAGES, 1], mbarrier.MBarrierLayout())
    for i in gl.static_range(STAGES):
        mbarrier.init(full.index(i), count=1)
        mbarrier.init(empty.index(i), count=GROUPS)
    fence_async_shared()
    everyone_arrives()
    dependents_may_start()
    io = (xs, ws, full, empty, row_scale_ptr, column_scale_ptr)
    sums = (y_ptr, partial_ptr, arrived_ptr)
    sizes = (M, N, steps, tiles_m, rest, sharers, waves)
    gl.warp_specialize(
        [
            (_multiply, (io, bias_ptr, sums, sizes, 0, BM, INT8, HAS_BIAS)),
            (_multiply, (io, bias_ptr, sums, sizes, 1, BM, INT8, HAS_BIAS)),
            (_copy, (x_desc, w_desc, xs, ws, full, empty, sizes, BM)),
        ],
        [4, 1],
        [PRODUCT_REGISTERS, COPY_REGISTERS],
    )


@dataclass(frozen=True, slots=True, eq=False)
class LastingWeight:
    """What all launches on a weight use that nobody writes any more.

    They may read it, its scale and the bias while the kernel ahead still runs.
    """

    boxed: Boxed
    arrived: torch.Tensor
    """Counts of finished parts, 0 between launches."""

    @classmethod
    def of(cls, weight: torch.Tensor) -> LastingWeight:
        """For weight [N, K], on a card."""
        most = sm_count(weight.device) * PARTED_GROUPS
        arrived = torch.zeros(most, dtype=torch.int32, device=weight.device)
        return cls(_boxed(weight, GROUP_COLUMNS), arrived)


def parted_matmul(
    codes: torch.Tensor,
    row_scale: torch.Tensor,
    weight: torch.Tensor,
    column_scale: torch.Tensor,
    out: torch.Tensor,
    *,
    bias: torch.Tensor | None,
    tile: Parted,
    lasting: LastingWeight | None,
) -> None:
    """See matmul.scaled_matmul; arguments are checked there."""
    rows, depth = codes.shape
    columns = weight.shape[0]
    device = codes.device
    int8 = codes.dtype == torch.int8
    tiles_m = ceil_div(rows, tile.rows)
    steps = ceil_div(depth, PARTED_DEPTH)
    share = shares(tiles_m * ceil_div(columns, tile.columns), steps, sm_count(device))
    partial = torch.empty(
        share.parts * 2 * tile.columns * tile.rows,
        dtype=torch.int32 if int8 else torch.float32,
        device=device,
    )
    known = LastingWeight.of(weight) if lasting is None else lasting
    assert known.boxed.matrix.data_ptr() == weight.data_ptr()
    launch(
        parted_matmul_kernel,
        (share.programs, 1, 1),
        _boxed(codes, tile.rows),
        known.boxed,
        row_scale,
        column_scale,
        bias,
        out,
        partial,
        known.arrived,
        rows,
        columns,
        steps,
        tiles_m,
        share.rest,
        share.sharers,
        share.waves,
        BM=tile.rows,
        STAGES=tile.stages,
        INT8=int8,
        HAS_BIAS=bias is not None,
        warps=4,
        dependent=lasting is not None,
        registers=REGISTERS,
    )


@functools.cache
def tile_layout(rows: int, int8: bool) -> gl.NVMMASharedLayout:
    """How a tile of codes lies in shared memory."""
    code = gl.int8 if int8 else gl.float8e4nv
    return gl.NVMMASharedLayout.get_default_for([rows, PARTED_DEPTH], code)


def _boxed(codes: torch.Tensor, rows: int) -> Boxed:
    return Boxed(codes, (rows, PARTED_DEPTH), tile_layout(rows, codes.dtype == torch.int8))
