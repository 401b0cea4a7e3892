"""A token drawn from each row under temperature, top-k, top-p and min-p, without sorting.

The threshold, the least logit that top-k and top-p keep, is found a digit of its ordered bits at
a time: a pass counts and weighs the logits that share the digits found so far, in a few tables so
that hot bins do not queue, and the last program of a row picks the bin in which the limit falls.
The last launch sums what each block keeps and finds block and token of the draw, in order of ids.
All sums are integers (see reference.py): nothing depends on the order of programs.

state of a row: 0 digits found, 1 tokens still allowed, 2 weight still allowed, 3 and 4 count and
weight of the bin chosen last.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

from .._launch import launch, power_of_2
from .feedback import arrived_last, feed_back
from .fixed_point import (
    draw_bits,
    inverse_temperature,
    key_16,
    key_32,
    min_p_weight,
    penalized,
    share,
    top_p_limit,
    weight_of,
)
from .greedy import check_logits, launch_best
from .workspace import BLOCK, BLOCKS_PER_TABLE, DIGIT_BITS, STATE_WORDS, Feedback, Workspace

_NONE = tl.constexpr(2147483647)
_COUNT_SHIFT = tl.constexpr(48)
_ONE_TOKEN = tl.constexpr(1 << 48)
_WEIGHT_MASK = tl.constexpr((1 << 48) - 1)
_STATE = tl.constexpr(STATE_WORDS)


@triton.jit
def _logits(
    logits_ptr,
    seen_ptr,
    penalty_ptr,
    row,
    v,
    m_v,
    V,
    KEY_BITS: tl.constexpr,
    PENALTY: tl.constexpr,
):
    """fp32 logits after the penalty, and their keys."""
    o_v = row.to(tl.int64) * V + v
    raw = tl.load(logits_ptr + o_v, mask=m_v, other=-float("inf"))
    x = raw.to(tl.float32)
    if PENALTY:
        seen = tl.load(seen_ptr + o_v, mask=m_v, other=0)
        x = penalized(x, seen, tl.load(penalty_ptr + row))
    if KEY_BITS == 16:
        return x, key_16(raw)
    return x, key_32(x)


@triton.jit
def digit_kernel(
    logits_ptr,
    seen_ptr,
    penalty_ptr,
    temperature_ptr,
    top_k_ptr,
    top_p_ptr,
    top_ptr,
    state_ptr,
    tables_ptr,
    arrivals_ptr,
    V,
    tables,
    B: tl.constexpr,
    KEY_BITS: tl.constexpr,
    DIGIT: tl.constexpr,
    PASS: tl.constexpr,
    PER_TABLE: tl.constexpr,
    AT_ONCE: tl.constexpr,
    PENALTY: tl.constexpr,
    PDL: tl.constexpr,
):
    BINS: tl.constexpr = 1 << DIGIT
    SHIFT: tl.constexpr = KEY_BITS - DIGIT * (PASS + 1)
    block = tl.program_id(0)
    row = tl.program_id(1)
    programs = tl.num_programs(0)
    if PDL:
        gdc_launch_dependents()
        gdc_wait()
    v = block * B + tl.arange(0, B)
    m_v = v < V
    x, key = _logits(logits_ptr, seen_ptr, penalty_ptr, row, v, m_v, V, KEY_BITS, PENALTY)
    inverse = inverse_temperature(tl.load(temperature_ptr + row))
    w = weight_of(x, tl.load(top_ptr + row), inverse)
    p_state = state_ptr + row * _STATE
    live = m_v & (w > 0)
    if PASS > 0:
        live = live & ((key >> (SHIFT + DIGIT)).to(tl.int64) == tl.load(p_state))
    # Bins in falling order of logits.
    digit = (BINS - 1) - ((key >> SHIFT) & (BINS - 1)).to(tl.int32)
    p_tables = tables_ptr + ((row.to(tl.int64) * (32 // DIGIT) + PASS) * tables) * BINS
    one = w + _ONE_TOKEN
    tl.atomic_add(
        p_tables + (block // PER_TABLE) * BINS + digit, one, mask=live, sem="relaxed", scope="gpu"
    )
    if arrived_last(arrivals_ptr, row, programs):
        j = tl.arange(0, BINS)
        count = tl.zeros([BINS], tl.int64)
        weight = tl.zeros([BINS], tl.int64)
        for start in range(0, tables, AT_ONCE):
            t = start + tl.arange(0, AT_ONCE)
            packed = tl.load(
                p_tables + t[:, None] * BINS + j[None, :],
                mask=(t < tables)[:, None],
                other=0,
                cache_modifier=".cg",
            )
            count += tl.sum(packed >> _COUNT_SHIFT, 0)
            weight += tl.sum(packed & _WEIGHT_MASK, 0)
        if PASS == 0:
            found = (row * 0).to(tl.int64)
            tokens = tl.load(top_k_ptr + row)
            limit = top_p_limit(tl.sum(weight, 0), tl.load(top_p_ptr + row))
        else:
            found = tl.load(p_state)
            tokens = tl.load(p_state + 1)
            limit = tl.load(p_state + 2)
        reached = (tl.cumsum(count, 0) >= tokens) | (tl.cumsum(weight, 0) >= limit)
        chosen = tl.minimum(tl.min(tl.where(reached, j, _NONE), 0), BINS - 1)
        before = j < chosen
        here = j == chosen
        tl.store(arrivals_ptr + row, 0)
        # Every thread has read the old state by now.
        tl.debug_barrier()
        tl.store(p_state, (found << DIGIT) | (BINS - 1 - chosen).to(tl.int64))
        tl.store(p_state + 1, tokens - tl.sum(tl.where(before, count, 0), 0))
        tl.store(p_state + 2, limit - tl.sum(tl.where(before, weight, 0), 0))
        tl.store(p_state + 3, tl.sum(tl.where(here, count, 0), 0))
        tl.store(p_state + 4, tl.sum(tl.where(here, weight, 0), 0))


@triton.jit
def draw_kernel(
    logits_ptr,
    penalty_ptr,
    temperature_ptr,
    min_p_ptr,
    seeds_ptr,
    top_ptr,
    top_ids_ptr,
    state_ptr,
    above_ptr,
    ties_ptr,
    arrivals_ptr,
    ids_ptr,
    positions_ptr,
    seq_lens_ptr,
    indices_ptr,
    active_ptr,
    ring_ptr,
    ring_rows,
    seen_ptr,
    V,
    B: tl.constexpr,
    BLOCKS: tl.constexpr,
    KEY_BITS: tl.constexpr,
    PENALTY: tl.constexpr,
    PDL: tl.constexpr,
):
    block = tl.program_id(0)
    row = tl.program_id(1)
    programs = tl.num_programs(0)
    if PDL:
        gdc_launch_dependents()
        gdc_wait()
    temperature = tl.load(temperature_ptr + row)
    inverse = inverse_temperature(temperature)
    top = tl.load(top_ptr + row)
    least = min_p_weight(tl.load(min_p_ptr + row))
    p_state = state_ptr + row * _STATE
    threshold = tl.load(p_state)
    v = block * B + tl.arange(0, B)
    m_v = v < V
    x, key = _logits(logits_ptr, seen_ptr, penalty_ptr, row, v, m_v, V, KEY_BITS, PENALTY)
    w = weight_of(x, top, inverse)
    key_64 = key.to(tl.int64)
    over = m_v & (key_64 > threshold) & (w >= least)
    tl.store(above_ptr + row * programs + block, tl.sum(tl.where(over, w, 0), 0))
    tied = m_v & (key_64 == threshold)
    tl.store(ties_ptr + row * programs + block, tl.sum(tied.to(tl.int32), 0))
    if arrived_last(arrivals_ptr, row, programs):
        # Of the logits at the threshold, as many as are still allowed, lowest ids first.
        tokens = tl.load(p_state + 1)
        limit = tl.load(p_state + 2)
        tie_count = tl.load(p_state + 3)
        tie_weight = tl.load(p_state + 4) // tl.maximum(tie_count, 1)
        by_weight = (limit + tie_weight - 1) // tl.maximum(tie_weight, 1)
        allowed = tl.minimum(tl.minimum(tokens, by_weight), tie_count)
        allowed = tl.where(tie_weight >= least, allowed, 0)

        j = tl.arange(0, BLOCKS)
        o_j = row * programs + j
        m_j = j < programs
        above = tl.load(above_ptr + o_j, mask=m_j, other=0, cache_modifier=".cg")
        ties = tl.load(ties_ptr + o_j, mask=m_j, other=0, cache_modifier=".cg").to(tl.int64)
        left = allowed - (tl.cumsum(ties, 0) - ties)
        taken = tl.minimum(tl.maximum(left, 0), ties)
        kept = above + taken * tie_weight
        index = tl.load(indices_ptr + row)
        bits = draw_bits(tl.load(seeds_ptr + row), index)
        target = share(tl.sum(kept, 0), bits)
        chosen = tl.min(tl.where(m_j & (tl.cumsum(kept, 0) > target), j, _NONE), 0)
        chosen = tl.minimum(chosen, programs - 1)
        rest = target - tl.sum(tl.where(j < chosen, kept, 0), 0)
        quota = tl.sum(tl.where(j == chosen, taken, 0), 0)

        v = chosen * B + tl.arange(0, B)
        m_v = v < V
        x, key = _logits(logits_ptr, seen_ptr, penalty_ptr, row, v, m_v, V, KEY_BITS, PENALTY)
        w = weight_of(x, top, inverse)
        key_64 = key.to(tl.int64)
        tied_here = (m_v & (key_64 == threshold)).to(tl.int32)
        tie_kept = (tied_here != 0) & (tl.cumsum(tied_here, 0) <= quota)
        keep = (m_v & (key_64 > threshold) & (w >= least)) | tie_kept
        passed = tl.cumsum(tl.where(keep, w, 0), 0) > rest
        token = tl.min(tl.where(passed & m_v, v, _NONE), 0)
        token = tl.where(temperature > 0.0, token, tl.load(top_ids_ptr + row))
        token = tl.minimum(token, V - 1)
        tl.store(arrivals_ptr + row, 0)
        feed_back(
            row,
            token,
            ids_ptr,
            positions_ptr,
            seq_lens_ptr,
            indices_ptr,
            active_ptr,
            ring_ptr,
            ring_rows,
            seen_ptr,
            V,
            PENALTY,
        )


def pick_drawn(
    logits: torch.Tensor,
    feedback: Feedback,
    workspace: Workspace,
    *,
    temperature: torch.Tensor,
    top_k: torch.Tensor,
    top_p: torch.Tensor,
    min_p: torch.Tensor,
    seeds: torch.Tensor,
    penalty: torch.Tensor | None = None,
    dependent: bool = False,
) -> None:
    """Tokens of logits [R, V] fp16, bf16 or fp32 as reference.draw picks them, fed back.

    temperature (0 is greedy), top_p, min_p, penalty: float32 [R]; top_k, seeds: int64 [R].
    Four launches for 16-bit logits; six for fp32 ones or with a penalty, whose order has 32 bits.
    """
    check_logits(logits, workspace)
    rows = logits.shape[0]
    feedback.check(rows)
    for tensor in (temperature, top_p, min_p):
        assert tensor.dtype == torch.float32 and tensor.shape[0] >= rows
    for tensor in (top_k, seeds):
        assert tensor.dtype == torch.int64 and tensor.shape[0] >= rows
    key_bits = 32 if penalty is not None or logits.dtype == torch.float32 else 16
    seen = None if feedback.seen is None else feedback.seen.view(torch.uint8)
    grid = (workspace.blocks, rows, 1)
    launch_best(logits, feedback, workspace, penalty=penalty, finish=False, dependent=dependent)
    for index in range(key_bits // DIGIT_BITS):
        launch(
            digit_kernel,
            grid,
            logits,
            seen,
            penalty,
            temperature,
            top_k,
            top_p,
            workspace.top,
            workspace.state,
            workspace.tables,
            workspace.arrivals,
            workspace.vocab,
            workspace.tables.shape[2],
            B=BLOCK,
            KEY_BITS=key_bits,
            DIGIT=DIGIT_BITS,
            PASS=index,
            PER_TABLE=BLOCKS_PER_TABLE,
            AT_ONCE=16,
            PENALTY=penalty is not None,
            PDL=dependent,
            warps=4,
            dependent=dependent,
            fused=False,
        )
    launch(
        draw_kernel,
        grid,
        logits,
        penalty,
        temperature,
        min_p,
        seeds,
        workspace.top,
        workspace.top_ids,
        workspace.state,
        workspace.above,
        workspace.ties,
        workspace.arrivals,
        feedback.ids,
        feedback.positions,
        feedback.seq_lens,
        feedback.indices,
        feedback.active,
        feedback.ring,
        feedback.ring.shape[1],
        seen,
        workspace.vocab,
        B=BLOCK,
        BLOCKS=power_of_2(workspace.blocks),
        KEY_BITS=key_bits,
        PENALTY=penalty is not None,
        PDL=dependent,
        warps=4,
        dependent=dependent,
        fused=False,
    )
