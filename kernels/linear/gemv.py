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

from .._gluon import (
    REINTERPRET_IS_PUBLIC,
    copies_end_a_stage,
    copy_to_shared,
    dependents_may_start,
    pair_high,
    pair_low,
    wait_for_producers,
    wait_for_stage,
)
from .codes import (
    DENSE,
    FP8,
    FP8_FACTOR_FP16,
    INT4,
    INT4_BOTTOM_MAGIC_FP16,
    INT4_MAGIC_BF16,
    INT4_TOP_MAGIC_FP16,
    unit_byte,
    unit_dense,
    unit_int4,
    unit_int4_halves,
    unit_sum,
)


@gluon.jit
def _blocks(step, W: gl.constexpr, UG: gl.constexpr):
    """Block along K of every warp in one step, [UG, W, 1, 1, 1]."""
    ug = gl.arange(0, UG)[:, None, None, None, None]
    warp = gl.arange(0, W)[None, :, None, None, None]
    return step * (W * UG) + ug * W + warp


@gluon.jit
def _fetch_words(
    shared,
    w_ptr,
    tile,
    step,
    part: gl.constexpr,
    outputs,
    K: gl.constexpr,
    CODE: gl.constexpr,
    PB: gl.constexpr,
    KB: gl.constexpr,
    GATED: gl.constexpr,
    W: gl.constexpr,
    UG: gl.constexpr,
    LV: gl.constexpr,
):
    """Starts the copy of int32 [UG, W, 8, 4, 4]: unit `part` of int4, else rows r or r + 8.

    What lies beyond the matrix is read from its edge: x is zero there.
    """
    r = gl.arange(0, 8)[None, None, :, None, None]
    c = gl.arange(0, 4)[None, None, None, :, None]
    i = gl.arange(0, 4)[None, None, None, None, :]
    block = _blocks(step, W, UG)
    if CODE == INT4:
        block = gl.minimum(block, KB - 1)
        offset = (block * PB + part) * 128 + r * 16 + c * 4 + i
        pointers = w_ptr + tile.to(gl.int64) * (KB * PB * 128) + offset
    else:
        WORDS: gl.constexpr = K // 2 if CODE == DENSE else K // 4
        if GATED:
            first = tile.to(gl.int64) * 8 + part * outputs
            row = gl.minimum(r, outputs - 1 - tile * 8)
        else:
            first = tile.to(gl.int64) * 16
            row = gl.minimum(r + 8 * part, outputs - 1 - tile * 16)
        chunk = gl.minimum(block * 4 + c, WORDS // 4 - 1)
        pointers = w_ptr + first * WORDS + (row * WORDS + chunk * 4 + i)
    copy_to_shared(shared, gl.set_auto_layout(pointers, LV), eviction_policy="evict_first")


@gluon.jit
def _fetch_scales(
    shared,
    s_ptr,
    tile,
    step,
    part: gl.constexpr,
    KB: gl.constexpr,
    SUB: gl.constexpr,
    W: gl.constexpr,
    UG: gl.constexpr,
    LS: gl.constexpr,
):
    """Starts the copy of pairs of fp16 (scale, offset) as int32 [UG, W, 8, 1, 2]."""
    r = gl.arange(0, 8)[None, None, :, None, None]
    half = gl.arange(0, 2)[None, None, None, None, :]
    block = gl.minimum(_blocks(step, W, UG), KB - 1)
    offset = (block * SUB + part) * 16 + r * 2 + half
    pointers = s_ptr + tile.to(gl.int64) * (KB * SUB * 16) + offset
    copy_to_shared(shared, gl.set_auto_layout(pointers, LS))


@gluon.jit
def _fetch_stage(
    words0,
    words1,
    pairs0,
    pairs1,
    item,
    slot,
    items,
    w_ptr,
    s_ptr,
    outputs,
    K: gl.constexpr,
    CODE: gl.constexpr,
    PB: gl.constexpr,
    SUB: gl.constexpr,
    KB: gl.constexpr,
    STEPS: gl.constexpr,
    GATED: gl.constexpr,
    W: gl.constexpr,
    UG: gl.constexpr,
    LV: gl.constexpr,
    LS: gl.constexpr,
):
    """Starts the copies of one step of one tile, as one group, empty beyond the last."""
    if item < items:
        tile = gl.program_id(0) + item // STEPS * gl.num_programs(0)
        step = item % STEPS
        _fetch_words(
            words0.index(slot), w_ptr, tile, step, 0, outputs, K, CODE, PB, KB, GATED, W, UG, LV
        )
        if CODE != INT4 or PB == 2:
            _fetch_words(
                words1.index(slot), w_ptr, tile, step, 1, outputs, K, CODE, PB, KB, GATED, W, UG, LV
            )
        if CODE == INT4:
            _fetch_scales(pairs0.index(slot), s_ptr, tile, step, 0, KB, SUB, W, UG, LS)
            if SUB == 2:
                _fetch_scales(pairs1.index(slot), s_ptr, tile, step, 1, KB, SUB, W, UG, LS)
    copies_end_a_stage()


@gluon.jit
def _load_x(
    x_ptr,
    step,
    part: gl.constexpr,
    first_row,
    rows,
    K: gl.constexpr,
    CODE: gl.constexpr,
    PB: gl.constexpr,
    ONE: gl.constexpr,
    W: gl.constexpr,
    UG: gl.constexpr,
    LV: gl.constexpr,
    MASKED: gl.constexpr,
):
    """Pairs of activations int32 [UG, W, 8 tokens, 4, 4] in the order of the weights' fragments."""
    n = gl.arange(0, 8)[None, None, :, None, None]
    c = gl.arange(0, 4)[None, None, None, :, None]
    i = gl.arange(0, 4)[None, None, None, None, :]
    block = _blocks(step, W, UG)
    if CODE == INT4:
        k = block * (PB * 32) + part * 16 + c * 4 + i
    elif CODE == DENSE:
        k = block * 16 + c * 4 + i
    else:
        k = block * 32 + c * 8 + part * 4 + i
    offset = k + n * 0
    if not ONE:
        offset += gl.minimum(first_row + n, rows - 1) * (K // 2)
    pointers = gl.set_auto_layout(x_ptr + offset, LV)
    if MASKED:
        mask = gl.set_auto_layout((k < K // 2) & (n >= 0), LV)
        x = gl.load(pointers, mask=mask, other=0)
    else:
        x = gl.load(pointers)
    return x


@gluon.jit
def _sum_row(
    sums,
    x_ptr,
    part: gl.constexpr,
    K: gl.constexpr,
    BLOCK: gl.constexpr,
    SUB: gl.constexpr,
    STEPS_2: gl.constexpr,
    BF16: gl.constexpr,
    W: gl.constexpr,
    UG: gl.constexpr,
):
    """Leaves one token's sums over every block of k, or half of it, in shared memory [blocks, 8]."""
    SPAN: gl.constexpr = BLOCK // SUB
    LANES: gl.constexpr = SPAN // 8
    N: gl.constexpr = STEPS_2 * UG * W
    LX: gl.constexpr = gl.BlockedLayout([1, 1, 4], [32 // LANES, 1, LANES], [W, 1, 1], [2, 1, 0])
    PLAIN: gl.constexpr = gl.SwizzledSharedLayout(1, 1, 1, [1, 0])
    block = gl.arange(0, N)[:, None, None]
    i = gl.arange(0, SPAN // 2)[None, None, :]
    k = block * (BLOCK // 2) + part * (SPAN // 2) + i
    mask = gl.set_auto_layout(k < K // 2, LX)
    pair = gl.load(gl.set_auto_layout(x_ptr + k, LX), mask=mask, other=0)
    total = gl.sum(pair_low(pair, BF16) + pair_high(pair, BF16), 2)
    # All eight columns are this token.
    total = total + gl.zeros([N, 8], gl.float32, gl.SliceLayout(2, LX))
    if REINTERPRET_IS_PUBLIC:
        table = sums.reinterpret(gl.float32, [N, 8], PLAIN)
    else:
        table = sums._reinterpret(gl.float32, [N, 8], PLAIN)
    table.store(total)


@gluon.jit
def _sum_fragments(zero, xa, xb, xc, xd, PB: gl.constexpr, SUB: gl.constexpr, BF16: gl.constexpr):
    """Sums of x over a block's k, or over either half, from its fragments [UG, W, 8, 4, 4]."""
    first = unit_sum(xa, zero, BF16)
    second = unit_sum(xb, zero, BF16)
    if PB == 2:
        first += unit_sum(xc, zero, BF16)
        second += unit_sum(xd, zero, BF16)
    if SUB == 1:
        first += second
    return first, second


@gluon.jit
def _scaled(
    acc, sums, x_sums, pair, W: gl.constexpr, UG: gl.constexpr, LC: gl.constexpr, BF16: gl.constexpr
):
    """acc plus scale times the sums of codes plus offset times those of x; pair [UG, W, 8, 1, 2]."""
    pair = gl.convert_layout(gl.reshape(pair, [UG, W, 8, 1, 2, 1]), LC, assert_trivial=True)
    scale = pair_low(pair, False)
    offset = pair_high(pair, False)
    if BF16:
        offset -= INT4_MAGIC_BF16 * scale
    else:
        half = gl.set_auto_layout(gl.arange(0, 2)[None, None, None, None, :, None], LC)
        offset -= gl.where(half == 0, INT4_TOP_MAGIC_FP16, INT4_BOTTOM_MAGIC_FP16) * scale
    sums = gl.convert_layout(gl.reshape(sums, [UG, W, 8, 4, 2, 2]), LC, assert_trivial=True)
    return acc + sums * scale + x_sums * offset


@gluon.jit
def _inverse_rms(partial_ptr, rows, first, eps, K: gl.constexpr, MB: gl.constexpr, W: gl.constexpr):
    """1 / root mean square of each token from its partial sums of squares fp32 [rows, K / 16]."""
    PARTS: gl.constexpr = (K + 15) // 16
    NEXT: gl.constexpr = 1 << (PARTS - 1).bit_length()
    LP: gl.constexpr = gl.BlockedLayout([1, 4], [1, 32], [W, 1], [1, 0])
    m = gl.arange(0, MB)[:, None]
    i = gl.arange(0, NEXT)[None, :]
    pointers = gl.set_auto_layout(partial_ptr + (first + m) * PARTS + i, LP)
    mask = gl.set_auto_layout((first + m < rows) & (i < PARTS), LP)
    squares = gl.sum(gl.load(pointers, mask=mask, other=0.0), 1)
    return 1.0 / gl.sqrt(squares / K + eps)


@gluon.jit
def linear_kernel(
    x_ptr,
    w_ptr,
    s_ptr,
    bias_ptr,
    squares_ptr,
    residual_ptr,
    gamma_ptr,
    y_ptr,
    h_ptr,
    squares_out_ptr,
    rows,
    outputs,
    eps,
    K: gl.constexpr,
    CODE: gl.constexpr,
    GROUP: gl.constexpr,
    BF16: gl.constexpr,
    ONE: gl.constexpr,
    NORMED: gl.constexpr,
    HAS_BIAS: gl.constexpr,
    GATED: gl.constexpr,
    RESIDUAL: gl.constexpr,
    PDL: gl.constexpr,
    W: gl.constexpr,
    UG: gl.constexpr,
    STAGES: gl.constexpr,
):
    """x_ptr and w_ptr are seen as int32; `outputs` counts results, of which GATED takes two rows."""
    PB: gl.constexpr = 2 if GROUP == 128 else 1
    SUB: gl.constexpr = 2 if GROUP == 32 else 1
    BLOCK: gl.constexpr = 64 * PB if CODE == INT4 else (32 if CODE == DENSE else 64)
    KB: gl.constexpr = (K + BLOCK - 1) // BLOCK
    STEPS: gl.constexpr = (KB + W * UG - 1) // (W * UG)
    MASKED: gl.constexpr = (KB % (W * UG) != 0) or (K % BLOCK != 0)
    PARTS: gl.constexpr = 2 if CODE != INT4 or PB == 2 else 1
    CHUNKS: gl.constexpr = 2 * PB if CODE == INT4 else (1 if CODE == DENSE else 2)
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
    if CODE == INT4:
        pairs0 = gl.allocate_shared_memory(gl.int32, [STAGES, UG, W, 8, 1, 2], STACK)
        pairs1 = pairs0
        if SUB == 2:
            pairs1 = gl.allocate_shared_memory(gl.int32, [STAGES, UG, W, 8, 1, 2], STACK)
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
    items = gl.maximum((tiles - pid + stride - 1) // stride, 0) * STEPS
    for ahead in gl.static_range(STAGES):
        _fetch_stage(
            words0,
            words1,
            pairs0,
            pairs1,
            ahead,
            ahead,
            items,
            w_ptr,
            s_ptr,
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
        )
    if PDL:
        wait_for_producers()

    m = gl.arange(0, 8)[None, :]
    r = gl.arange(0, 8)[:, None]
    token = gl.set_auto_layout(first_row + m + r * 0, LE)
    inverse = gl.full([8], 1.0, gl.float32, gl.SliceLayout(0, LE))
    if NORMED:
        if ONE:
            inverse = inverse * gl.sum(_inverse_rms(squares_ptr, rows, 0, eps, K, 1, W), 0)
        else:
            inverse = gl.convert_layout(
                _inverse_rms(squares_ptr, rows, first_row, eps, K, 8, W), gl.SliceLayout(0, LE)
            )

    xa = gl.zeros([UG, W, 8, 4, 4], gl.int32, LV)
    xb = xa
    xc = xa
    xd = xa
    if KEEP_X:
        xa = _load_x(x_ptr, 0, 0, first_row, rows, K, CODE, PB, ONE, W, UG, LV, MASKED)
        if CHUNKS >= 2:
            xb = _load_x(x_ptr, 0, 1, first_row, rows, K, CODE, PB, ONE, W, UG, LV, MASKED)
        if CHUNKS == 4:
            xc = _load_x(x_ptr, 0, 2, first_row, rows, K, CODE, PB, ONE, W, UG, LV, MASKED)
            xd = _load_x(x_ptr, 0, 3, first_row, rows, K, CODE, PB, ONE, W, UG, LV, MASKED)
    zero = gl.zeros([UG, W, 8, 4, 4], gl.float32, LV)
    f0 = zero
    f1 = zero
    if CODE == INT4:
        if ONE:
            _sum_row(sums0, x_ptr, 0, K, BLOCK, SUB, STEPS_2, BF16, W, UG)
            if SUB == 2:
                _sum_row(sums1, x_ptr, 1, K, BLOCK, SUB, STEPS_2, BF16, W, UG)
        elif KEEP_X:
            f0, f1 = _sum_fragments(zero, xa, xb, xc, xd, PB, SUB, BF16)

    BELOW: gl.constexpr = 0 if GATED else 8
    LOWER = outputs if GATED else 8
    add_upper = gl.zeros([8, 8], gl.float32, LE)
    add_lower = add_upper
    gamma_upper = add_upper
    gamma_lower = add_upper
    bias_upper = add_upper
    bias_lower = add_upper
    scale_upper = add_upper
    scale_lower = add_upper
    acc = gl.zeros([UG, W, 8, 4, 2, 2], gl.float32, LC)
    flat = gl.zeros([UG, W, 8, 4, 4], gl.float32, LV)
    for item in range(0, items):
        tile = pid + item // STEPS * stride
        step = item % STEPS
        stage = item % STAGES
        if not KEEP_X:
            xa = _load_x(x_ptr, step, 0, first_row, rows, K, CODE, PB, ONE, W, UG, LV, MASKED)
            if CHUNKS >= 2:
                xb = _load_x(x_ptr, step, 1, first_row, rows, K, CODE, PB, ONE, W, UG, LV, MASKED)
            if CHUNKS == 4:
                xc = _load_x(x_ptr, step, 2, first_row, rows, K, CODE, PB, ONE, W, UG, LV, MASKED)
                xd = _load_x(x_ptr, step, 3, first_row, rows, K, CODE, PB, ONE, W, UG, LV, MASKED)
        x0 = gl.zeros([UG, W, 1, 4, 1, 2], gl.float32, LC)
        x1 = x0
        if CODE == INT4 and ONE:
            x0 = sums0.index(step).load(LC)
            if SUB == 2:
                x1 = sums1.index(step).load(LC)
        if CODE == INT4 and not ONE:
            if not KEEP_X:
                f0, f1 = _sum_fragments(zero, xa, xb, xc, xd, PB, SUB, BF16)
            x0 = gl.convert_layout(gl.reshape(f0, [UG, W, 8, 4, 2, 2]), LC, assert_trivial=True)
            x1 = gl.convert_layout(gl.reshape(f1, [UG, W, 8, 4, 2, 2]), LC, assert_trivial=True)
        wait_for_stage(STAGES - 1)
        w0 = words0.index(stage).load(LV)
        w1 = w0
        if PARTS == 2:
            w1 = words1.index(stage).load(LV)
        s0 = gl.zeros([UG, W, 8, 1, 2], gl.int32, LS)
        s1 = s0
        if CODE == INT4:
            s0 = pairs0.index(stage).load(LS)
            if SUB == 2:
                s1 = pairs1.index(stage).load(LS)
        _fetch_stage(
            words0,
            words1,
            pairs0,
            pairs1,
            item + STAGES,
            stage,
            items,
            w_ptr,
            s_ptr,
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
        )
        if step == 0:
            n = gl.set_auto_layout(tile * TOP + r + m * 0, LE)
            p = token.to(gl.int64) * outputs + n
            upper_in = (n < outputs) & (token < rows)
            lower_in = (n + BELOW < outputs) & (token < rows)
            if RESIDUAL:
                add_upper = gl.load(residual_ptr + p, mask=upper_in, other=0.0).to(gl.float32)
                add_lower = gl.load(residual_ptr + p + 8, mask=lower_in, other=0.0).to(gl.float32)
                gamma_upper = gl.load(gamma_ptr + n, mask=upper_in, other=0.0).to(gl.float32)
                gamma_lower = gl.load(gamma_ptr + n + 8, mask=lower_in, other=0.0).to(gl.float32)
            if HAS_BIAS:
                bias_upper = gl.load(bias_ptr + n, mask=upper_in, other=0.0).to(gl.float32)
                bias_lower = gl.load(bias_ptr + n + LOWER, mask=lower_in, other=0.0).to(gl.float32)
            if CODE != INT4 and CODE != DENSE:
                scale_upper = gl.load(s_ptr + n, mask=upper_in, other=0.0)
                scale_lower = gl.load(s_ptr + n + LOWER, mask=lower_in, other=0.0)
        if CODE == INT4:
            if SUB == 2:
                c0, c1 = unit_int4_halves(w0, xa, xb, BF16)
                acc = _scaled(acc, c0, x0, s0, W, UG, LC, BF16)
                acc = _scaled(acc, c1, x1, s1, W, UG, LC, BF16)
            else:
                products = unit_int4(w0, xa, xb, BF16)
                if PB == 2:
                    products += unit_int4(w1, xc, xd, BF16)
                acc = _scaled(acc, products, x0, s0, W, UG, LC, BF16)
        elif CODE == DENSE:
            flat = unit_dense(w0, w1, xa, flat, BF16)
        else:
            flat = unit_byte(w0, w1, xa, xb, flat, CODE, BF16)
        if step == STEPS - 1:
            if CODE != INT4:
                acc = gl.convert_layout(
                    gl.reshape(flat, [UG, W, 8, 4, 2, 2]), LC, assert_trivial=True
                )
            mine = gl.sum(acc, 0)
            area = finished.index(item // STEPS % 2)
            area.store(mine)
            # [8 rows, 4 pairs, half, 2 tokens] -> rows r and r + 8 (or gate and up), [8, 8 tokens].
            total = gl.sum(area.load(LR), 0)
            total = gl.permute(total, (0, 1, 3, 2))
            upper, lower = gl.split(gl.reshape(total, [8, 8, 2]))
            upper = gl.convert_layout(upper, LE) * gl.expand_dims(inverse, 0)
            lower = gl.convert_layout(lower, LE) * gl.expand_dims(inverse, 0)
            n = gl.set_auto_layout(tile * TOP + r + m * 0, LE)
            p = token.to(gl.int64) * outputs + n
            upper_in = (n < outputs) & (token < rows)
            lower_in = (n + BELOW < outputs) & (token < rows)
            if CODE == FP8 and not BF16:
                upper *= FP8_FACTOR_FP16
                lower *= FP8_FACTOR_FP16
            if CODE != INT4 and CODE != DENSE:
                upper *= scale_upper
                lower *= scale_lower
            if HAS_BIAS:
                upper += bias_upper
                lower += bias_lower
            dtype: gl.constexpr = y_ptr.dtype.element_ty
            if GATED:
                gated = upper / (1.0 + gl.exp(-upper)) * lower
                gl.store(y_ptr + p, gated.to(dtype), mask=upper_in)
            elif RESIDUAL:
                u = (upper + add_upper).to(dtype)
                v = (lower + add_lower).to(dtype)
                gl.store(y_ptr + p, u, mask=upper_in)
                gl.store(y_ptr + p + 8, v, mask=lower_in)
                _hand_on(
                    u.to(gl.float32),
                    v.to(gl.float32),
                    gamma_upper,
                    gamma_lower,
                    h_ptr,
                    squares_out_ptr,
                    p,
                    tile,
                    tiles,
                    token,
                    rows,
                    upper_in,
                    lower_in,
                )
            else:
                gl.store(y_ptr + p, upper.to(dtype), mask=upper_in)
                gl.store(y_ptr + p + 8, lower.to(dtype), mask=lower_in)
            acc = gl.zeros([UG, W, 8, 4, 2, 2], gl.float32, LC)
            flat = gl.zeros([UG, W, 8, 4, 4], gl.float32, LV)


@gluon.jit
def _hand_on(
    u,
    v,
    gamma_upper,
    gamma_lower,
    h_ptr,
    squares_out_ptr,
    p,
    tile,
    tiles,
    token,
    rows,
    upper_in,
    lower_in,
):
    """What the next norm needs: the residual times gamma, and its sum of squares in this tile."""
    dtype: gl.constexpr = h_ptr.dtype.element_ty
    upper = u * gamma_upper
    lower = v * gamma_lower
    if dtype == gl.float16:
        upper = gl.minimum(gl.maximum(upper, -65504.0), 65504.0)
        lower = gl.minimum(gl.maximum(lower, -65504.0), 65504.0)
    gl.store(h_ptr + p, upper.to(dtype), mask=upper_in)
    gl.store(h_ptr + p + 8, lower.to(dtype), mask=lower_in)
    squares = gl.sum(gl.where(upper_in, u * u, 0.0) + gl.where(lower_in, v * v, 0.0), 0)
    t = gl.max(token, 0)
    gl.store(squares_out_ptr + t * tiles + tile, squares, mask=t < rows)
