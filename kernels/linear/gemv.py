"""Decode linears on tensor cores: weights of 16 rows in registers, eight tokens at a time.

One program walks over tiles of 16 output rows; its warps share the K axis and are summed at the
end of a tile. Weights stream through shared memory, several stages ahead and, under dependent
launch, before the kernel ahead has ended. A lane's 16 bytes are, unpacked, its own fragments of
mma.m16n8k16: which k a fragment stands for does not matter as long as x is read in the same
order, so nothing moves between lanes.

The norm before a linear costs nothing here: the producer stores the residual times gamma and
partial sums of squares, and the root mean square divides the finished sum.
Shapes: UG blocks of a warp, W warps, 8 rows (or tokens, for x), 4 lanes a row.
"""

from __future__ import annotations

from triton.experimental import gluon
from triton.experimental.gluon import language as gl

from .._gluon import dependents_may_start, wait_for_producers, wait_for_stage
from .codes import (
    CODEBOOK4,
    DENSE,
    FP8,
    FP8_FACTOR_FP16,
    INT4,
    LUT3,
    LUT4,
    NESTED4,
    unit_byte,
    unit_dense,
    unit_int4,
    unit_int4_halves,
)
from .epilogue import (
    added,
    hand_on,
    load_halves,
    over_rms,
    places_of,
    scaled_and_biased,
    store_gated,
    store_halves,
    sum_of_warps,
)
from .fetch import fetch_stage
from .inputs import inverse_rms, load_fragments, load_plane, scaled, sum_fragments, sum_row
from .scales import halves, load_codes, nested_scales, next_scales
from .table_codes import block_lut3, unit_codebook, unit_lut4

BLOCKS = gl.constexpr(-1)
"""In place of a number of slots: a program's rows are some of those that share an expert."""


@gluon.jit(do_not_specialize_on_alignment=["rows"])
def linear_kernel(
    x_ptr,
    w_ptr,
    s_ptr,
    channel_ptr,
    table_ptr,
    nested_values_ptr,
    nested_pairs_ptr,
    bias_ptr,
    squares_ptr,
    row_scale_ptr,
    extra_ptr,
    chosen_ptr,
    residual_ptr,
    gamma_ptr,
    y_ptr,
    h_ptr,
    squares_out_ptr,
    rows,
    outputs,
    eps,
    w_quads,
    s_quads,
    K: gl.constexpr,
    CODE: gl.constexpr,
    GROUP: gl.constexpr,
    BF16: gl.constexpr,
    ONE: gl.constexpr,
    SHARE: gl.constexpr,
    CHANNEL: gl.constexpr,
    NORMED: gl.constexpr,
    ROW_SCALED: gl.constexpr,
    EXTRA: gl.constexpr,
    HAS_BIAS: gl.constexpr,
    GATED: gl.constexpr,
    GELU: gl.constexpr,
    RESIDUAL: gl.constexpr,
    PDL: gl.constexpr,
    W: gl.constexpr,
    UG: gl.constexpr,
    STAGES: gl.constexpr,
):
    """`outputs` counts results, of which GATED takes two rows.

    x_ptr, w_ptr, s_ptr (what a block has besides words) and table_ptr are seen as int32. With SHARE
    a program's row is a slot, and its weights those of the expert that the slot has chosen; with
    BLOCKS chosen_ptr has the expert of each program's rows, the first of them, the one behind them.
    """
    TILED: gl.constexpr = CODE == INT4 or CODE >= CODEBOOK4
    PB: gl.constexpr = 2 if (GROUP == 128) | (CODE == NESTED4) | (CODE == LUT3) else 1
    SUB: gl.constexpr = 2 if GROUP == 32 else 1
    BLOCK: gl.constexpr = 64 * PB if TILED else (32 if CODE == DENSE else 64)
    KB: gl.constexpr = (K + BLOCK - 1) // BLOCK
    STEPS: gl.constexpr = (KB + W * UG - 1) // (W * UG)
    MASKED: gl.constexpr = (KB % (W * UG) != 0) or (K % BLOCK != 0)
    PARTS: gl.constexpr = 2 if not TILED or (PB == 2 and CODE != LUT3) else 1
    CHUNKS: gl.constexpr = 2 * PB if TILED else (1 if CODE == DENSE else 2)
    # Tiles whose tables are read or on their way.
    TABLES: gl.constexpr = 1 << ((STAGES + STEPS - 1 + STEPS - 1) // STEPS - 1).bit_length()
    TABLE_PARTS: gl.constexpr = 4 if CODE == LUT4 else 2
    # x stays in registers where one step is a whole tile.
    KEEP_X: gl.constexpr = STEPS == 1 and UG * CHUNKS <= 16
    LC: gl.constexpr = gl.BlockedLayout(
        [UG, 1, 1, 1, 2, 2], [1, 1, 8, 4, 1, 1], [1, W, 1, 1, 1, 1], [5, 4, 3, 2, 1, 0]
    )
    LV: gl.constexpr = gl.BlockedLayout(
        [UG, 1, 1, 1, 4], [1, 1, 8, 4, 1], [1, W, 1, 1, 1], [4, 3, 2, 1, 0]
    )
    LS: gl.constexpr = gl.BlockedLayout(
        [UG, 1, 1, 1, 2], [1, 1, 8, 4, 1], [1, W, 1, 1, 1], [4, 3, 2, 1, 0]
    )
    LT: gl.constexpr = gl.BlockedLayout(
        [1, 1, 1, 1, 4], [1, 1, 8, 4, 1], [1, W, 1, 1, 1], [4, 3, 2, 1, 0]
    )
    # A finished tile: lane of row r and column pair c, both rows r and r + 8 in it.
    LR: gl.constexpr = gl.BlockedLayout(
        [W, 1, 1, 2, 2], [1, 8, 4, 1, 1], [1, W, 1, 1, 1], [4, 3, 2, 1, 0]
    )
    LE: gl.constexpr = gl.BlockedLayout([1, 2], [8, 4], [W, 1], [1, 0])
    STACK: gl.constexpr = gl.SwizzledSharedLayout(1, 1, 1, [4, 3, 2, 1, 0])
    WIDE: gl.constexpr = gl.SwizzledSharedLayout(1, 1, 1, [5, 4, 3, 2, 1, 0])
    STEPS_2: gl.constexpr = 1 << (STEPS - 1).bit_length()
    SUMS: gl.constexpr = [STEPS_2, UG, W, 1, 4, 1, 2]
    TOP: gl.constexpr = 8 if GATED else 16

    words0 = gl.allocate_shared_memory(gl.int32, [STAGES, UG, W, 8, 4, 4], STACK)
    words1 = words0
    if PARTS == 2:
        words1 = gl.allocate_shared_memory(gl.int32, [STAGES, UG, W, 8, 4, 4], STACK)
    pairs0 = words0
    pairs1 = words0
    if (CODE == INT4) | (CODE == CODEBOOK4):
        pairs0 = gl.allocate_shared_memory(gl.int32, [STAGES, UG, W, 8, 1, 2], STACK)
        pairs1 = pairs0
        if SUB == 2:
            pairs1 = gl.allocate_shared_memory(gl.int32, [STAGES, UG, W, 8, 1, 2], STACK)
    if CODE == LUT3:
        pairs0 = gl.allocate_shared_memory(gl.int32, [STAGES, UG, W, 8, 4, 2], STACK)
    tables = words0
    if CODE >= LUT4:
        tables = gl.allocate_shared_memory(gl.int32, [TABLES, 1, 1, 8, TABLE_PARTS, 4], STACK)
    sums0 = words0
    sums1 = words0
    if CODE == INT4 and ONE:
        sums0 = gl.allocate_shared_memory(gl.float32, SUMS, WIDE)
        sums1 = sums0
        if SUB == 2:
            sums1 = gl.allocate_shared_memory(gl.float32, SUMS, WIDE)
    finished = gl.allocate_shared_memory(gl.float32, [2, W, 8, 4, 2, 2], STACK)

    if PDL:
        dependents_may_start()
    tiles = (outputs + TOP - 1) // TOP
    pid = gl.program_id(0)
    stride = gl.num_programs(0)
    first_row = gl.program_id(1) * 8
    if SHARE != 0:
        # Which weights is known when the router is done; quads keep pointers on 16 bytes.
        if PDL:
            wait_for_producers()
        slot = gl.program_id(1)
        expert = gl.load(chosen_ptr + slot).to(gl.int64)
        if SHARE == BLOCKS:
            if expert < 0:
                return
            first_row = gl.load(chosen_ptr + gl.num_programs(1) + slot)
            rows = gl.load(chosen_ptr + gl.num_programs(1) * 2 + slot)
        else:
            first_row = slot * 0
            x_ptr += slot // SHARE * (K // 2)
            y_ptr += slot.to(gl.int64) * outputs
        w_ptr += expert * w_quads * 4
        if CODE == INT4:
            s_ptr += expert * s_quads * 4
        if CHANNEL:
            channel_ptr += expert * outputs * (2 if GATED else 1)
        if ROW_SCALED:
            row_scale_ptr += slot
    items = gl.maximum((tiles - pid + stride - 1) // stride, 0) * STEPS
    rings = (words0, words1, pairs0, pairs1, tables)
    sources = (w_ptr, s_ptr, table_ptr)
    for ahead in gl.static_range(STAGES):
        fetch_stage(
            rings,
            ahead,
            ahead,
            items,
            sources,
            outputs,
            K,
            CODE,
            PB,
            SUB,
            KB,
            STEPS,
            GATED,
            W,
            UG,
            LV,
            LS,
            LT,
            TABLES,
        )
    low = gl.zeros([1, 1, 8, 1, 4], gl.int32, LV)
    high = low
    if (CODE == CODEBOOK4) | (CODE == NESTED4):
        low = load_plane(table_ptr, 0, LV)
        high = load_plane(table_ptr, 1, LV)
    if CODE == NESTED4:
        word = load_codes(s_ptr, 0, tiles, STEPS, KB, W, UG, LV)
        nested_ptrs = (s_ptr, nested_values_ptr, nested_pairs_ptr)
        value, pair, word = next_scales(
            word, 0, nested_ptrs, outputs, tiles, K, STEPS, KB, GATED, W, UG, LV
        )
    if PDL:
        wait_for_producers()

    m = gl.arange(0, 8)[None, :]
    r = gl.arange(0, 8)[:, None]
    token = gl.set_auto_layout(first_row + m + r * 0, LE)
    inverse = gl.full([8], 1.0, gl.float32, gl.SliceLayout(0, LE))
    if NORMED:
        if ONE:
            inverse = inverse * gl.sum(inverse_rms(squares_ptr, rows, 0, eps, K, 1, W), 0)
        else:
            inverse = gl.convert_layout(
                inverse_rms(squares_ptr, rows, first_row, eps, K, 8, W), gl.SliceLayout(0, LE)
            )
    if ROW_SCALED:
        column = gl.arange(0, 8, gl.SliceLayout(0, LE))
        inverse = gl.load(row_scale_ptr + gl.minimum(first_row + column, rows - 1))

    xa = gl.zeros([UG, W, 8, 4, 4], gl.int32, LV)
    xb = xa
    xc = xa
    xd = xa
    if KEEP_X:
        xa, xb, xc, xd = load_fragments(
            x_ptr, 0, first_row, rows, K, CODE, PB, CHUNKS, ONE, W, UG, LV, MASKED
        )
    zero = gl.zeros([UG, W, 8, 4, 4], gl.float32, LV)
    f0 = zero
    f1 = zero
    if CODE == INT4:
        if ONE:
            sum_row(sums0, x_ptr, 0, K, BLOCK, SUB, STEPS_2, BF16, W, UG)
            if SUB == 2:
                sum_row(sums1, x_ptr, 1, K, BLOCK, SUB, STEPS_2, BF16, W, UG)
        elif KEEP_X:
            f0, f1 = sum_fragments(zero, xa, xb, xc, xd, PB, SUB, BF16)

    LOWER = outputs if GATED else 8
    FACTOR: gl.constexpr = FP8_FACTOR_FP16 if CODE == FP8 and not BF16 else 1.0
    nothing = gl.zeros([8, 8], gl.float32, LE)
    residual = (nothing, nothing)
    gamma = residual
    bias = residual
    scale = residual
    extra = residual
    acc = gl.zeros([UG, W, 8, 4, 2, 2], gl.float32, LC)
    flat = gl.zeros([UG, W, 8, 4, 4], gl.float32, LV)
    for item in range(0, items):
        tile = pid + item // STEPS * stride
        step = item % STEPS
        stage = item % STAGES
        if not KEEP_X:
            xa, xb, xc, xd = load_fragments(
                x_ptr, step, first_row, rows, K, CODE, PB, CHUNKS, ONE, W, UG, LV, MASKED
            )
        x0 = gl.zeros([UG, W, 1, 4, 1, 2], gl.float32, LC)
        x1 = x0
        if CODE == INT4 and ONE:
            x0 = sums0.index(step).load(LC)
            if SUB == 2:
                x1 = sums1.index(step).load(LC)
        if CODE == INT4 and not ONE:
            if not KEEP_X:
                f0, f1 = sum_fragments(zero, xa, xb, xc, xd, PB, SUB, BF16)
            x0 = gl.convert_layout(gl.reshape(f0, [UG, W, 8, 4, 2, 2]), LC, assert_trivial=True)
            x1 = gl.convert_layout(gl.reshape(f1, [UG, W, 8, 4, 2, 2]), LC, assert_trivial=True)
        wait_for_stage(STAGES - 1)
        w0 = words0.index(stage).load(LV)
        w1 = w0
        if PARTS == 2:
            w1 = words1.index(stage).load(LV)
        s0 = gl.zeros([UG, W, 8, 1, 2], gl.int32, LS)
        s1 = s0
        if (CODE == INT4) | (CODE == CODEBOOK4):
            s0 = pairs0.index(stage).load(LS)
            if SUB == 2:
                s1 = pairs1.index(stage).load(LS)
        if CODE == LUT3:
            t0, t1 = halves(pairs0.index(stage).load(LS), LV)
        if CODE >= LUT4:
            table = tables.index(item // STEPS % TABLES)
            e0 = table.slice(0, 1, dim=3).load(LV)
            e1 = table.slice(1, 1, dim=3).load(LV)
            if CODE == LUT4:
                e2 = table.slice(2, 1, dim=3).load(LV)
                e3 = table.slice(3, 1, dim=3).load(LV)
        fetch_stage(
            rings,
            item + STAGES,
            stage,
            items,
            sources,
            outputs,
            K,
            CODE,
            PB,
            SUB,
            KB,
            STEPS,
            GATED,
            W,
            UG,
            LV,
            LS,
            LT,
            TABLES,
        )
        if step == 0:
            n, p, upper_in, lower_in = places_of(tile, r, m, token, outputs, rows, TOP, GATED, LE)
            if RESIDUAL:
                residual = load_halves(residual_ptr + p, 8, upper_in, lower_in)
                gamma = load_halves(gamma_ptr + n, 8, upper_in, lower_in)
            if HAS_BIAS:
                bias = load_halves(bias_ptr + n, LOWER, upper_in, lower_in)
            if CHANNEL:
                scale = load_halves(channel_ptr + n, LOWER, upper_in, lower_in)
            if EXTRA:
                q = p + token.to(gl.int64) * outputs if GATED else p
                extra = load_halves(extra_ptr + q, LOWER, upper_in, lower_in)
        if CODE == INT4:
            if SUB == 2:
                c0, c1 = unit_int4_halves(w0, xa, xb, BF16)
                acc = scaled(acc, c0, x0, s0, W, UG, LC, BF16)
                acc = scaled(acc, c1, x1, s1, W, UG, LC, BF16)
            else:
                products = unit_int4(w0, xa, xb, BF16)
                if PB == 2:
                    products += unit_int4(w1, xc, xd, BF16)
                acc = scaled(acc, products, x0, s0, W, UG, LC, BF16)
        elif CODE == DENSE:
            flat = unit_dense(w0, w1, xa, flat, BF16)
        elif CODE == CODEBOOK4:
            top, bottom = halves(s0.to(gl.float32, bitcast=True), LV)
            flat = unit_codebook(w0, xa, xb, low, high, top, bottom, flat, BF16)
        elif CODE == NESTED4:
            a0, b0, a1, b1 = nested_scales(value, pair)
            value, pair, word = next_scales(
                word, item + 1, nested_ptrs, outputs, tiles, K, STEPS, KB, GATED, W, UG, LV
            )
            flat = unit_codebook(w0, xa, xb, low, high, a0, b0, flat, BF16)
            flat = unit_codebook(w1, xc, xd, low, high, a1, b1, flat, BF16)
        elif CODE == LUT4:
            flat = unit_lut4(w0, xa, xb, e0, e1, e2, e3, flat, BF16)
        elif CODE == LUT3:
            flat = block_lut3(w0, t0, t1, xa, xb, xc, xd, e0, e1, flat, BF16)
        else:
            flat = unit_byte(w0, w1, xa, xb, flat, CODE, BF16)
        if step == STEPS - 1:
            if CODE != INT4:
                acc = gl.convert_layout(
                    gl.reshape(flat, [UG, W, 8, 4, 2, 2]), LC, assert_trivial=True
                )
            mine = gl.sum(acc, 0)
            upper, lower = sum_of_warps(mine, finished.index(item // STEPS % 2), LR)
            upper = gl.convert_layout(upper, LE)
            lower = gl.convert_layout(lower, LE)
            sums = over_rms(upper, lower, inverse, extra, EXTRA)
            place = places_of(tile, r, m, token, outputs, rows, TOP, GATED, LE)
            sums = scaled_and_biased(sums, scale, bias, FACTOR, CHANNEL, HAS_BIAS)
            if GATED:
                store_gated(sums, y_ptr, place, GELU)
            elif RESIDUAL:
                sums = added(sums, residual, y_ptr)
                store_halves(sums, y_ptr, place)
                hand_on(sums, gamma, h_ptr, squares_out_ptr, place, tile, tiles, token, rows)
            else:
                store_halves(sums, y_ptr, place)
            acc = gl.zeros([UG, W, 8, 4, 2, 2], gl.float32, LC)
            flat = gl.zeros([UG, W, 8, 4, 4], gl.float32, LV)
