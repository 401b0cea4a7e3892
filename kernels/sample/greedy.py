"""The largest logit of each row, lowest id first among equals, and the step's feedback.

One launch: every program reduces a block of logits, the last one of a row to arrive reduces the
blocks. The same launch begins a random draw: it leaves the largest logit and clears the tables.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

from .._launch import launch, power_of_2
from .feedback import arrived_last, feed_back
from .fixed_point import penalized
from .workspace import BLOCK, Feedback, Workspace

_NO_ID = tl.constexpr(2147483647)


@triton.jit
def best_kernel(
    logits_ptr,
    penalty_ptr,
    best_ptr,
    best_ids_ptr,
    top_ptr,
    top_ids_ptr,
    tables_ptr,
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
    table_words,
    B: tl.constexpr,
    BLOCKS: tl.constexpr,
    CLEARED: tl.constexpr,
    PENALTY: tl.constexpr,
    FEEDBACK: tl.constexpr,
    PDL: tl.constexpr,
):
    block = tl.program_id(0)
    row = tl.program_id(1)
    programs = tl.num_programs(0)
    if PDL:
        gdc_launch_dependents()
        gdc_wait()
    v = block * B + tl.arange(0, B)
    m_v = v < V
    o_v = row.to(tl.int64) * V + v
    x = tl.load(logits_ptr + o_v, mask=m_v, other=-float("inf")).to(tl.float32)
    if PENALTY:
        seen = tl.load(seen_ptr + o_v, mask=m_v, other=0)
        x = penalized(x, seen, tl.load(penalty_ptr + row))
    best = tl.max(x, 0)
    best_id = tl.min(tl.where((x == best) & m_v, v, _NO_ID), 0)
    tl.store(best_ptr + row * programs + block, best)
    tl.store(best_ids_ptr + row * programs + block, best_id)
    if not FEEDBACK:
        share = tl.cdiv(table_words, programs)
        for start in range(0, share, CLEARED):
            i = start + tl.arange(0, CLEARED)
            word = block * share + i
            zero = tl.zeros([CLEARED], tl.int64)
            m_word = (i < share) & (word < table_words)
            tl.store(tables_ptr + row.to(tl.int64) * table_words + word, zero, mask=m_word)
    if arrived_last(arrivals_ptr, row, programs):
        j = tl.arange(0, BLOCKS)
        o_j = row * programs + j
        m_j = j < programs
        bests = tl.load(best_ptr + o_j, mask=m_j, other=-float("inf"), cache_modifier=".cg")
        best_ids = tl.load(best_ids_ptr + o_j, mask=m_j, other=_NO_ID, cache_modifier=".cg")
        top = tl.max(bests, 0)
        token = tl.min(tl.where(bests == top, best_ids, _NO_ID), 0)
        token = tl.minimum(token, V - 1)
        tl.store(arrivals_ptr + row, 0)
        if FEEDBACK:
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
        else:
            tl.store(top_ptr + row, top)
            tl.store(top_ids_ptr + row, token)


def check_logits(logits: torch.Tensor, workspace: Workspace) -> None:
    """Asserts a contiguous fp16, bf16 or fp32 matrix that the workspace is made for."""
    assert logits.ndim == 2 and logits.is_contiguous(), (logits.shape, logits.stride())
    assert logits.dtype in (torch.float16, torch.bfloat16, torch.float32), logits.dtype
    assert logits.shape[0] <= workspace.rows and logits.shape[1] == workspace.vocab


def launch_best(
    logits: torch.Tensor,
    feedback: Feedback,
    workspace: Workspace,
    *,
    penalty: torch.Tensor | None,
    finish: bool,
    dependent: bool,
) -> None:
    """The launch alone; `finish` feeds the token back, else it is left in the workspace."""
    rows = logits.shape[0]
    table_words = workspace.tables[0].numel()
    seen = feedback.seen
    assert penalty is None or seen is not None
    launch(
        best_kernel,
        (workspace.blocks, rows, 1),
        logits,
        penalty,
        workspace.best,
        workspace.best_ids,
        workspace.top,
        workspace.top_ids,
        workspace.tables,
        workspace.arrivals,
        feedback.ids,
        feedback.positions,
        feedback.seq_lens,
        feedback.indices,
        feedback.active,
        feedback.ring,
        feedback.ring.shape[1],
        None if seen is None else seen.view(torch.uint8),
        workspace.vocab,
        table_words,
        B=BLOCK,
        BLOCKS=power_of_2(workspace.blocks),
        CLEARED=256,
        PENALTY=penalty is not None,
        FEEDBACK=finish,
        PDL=dependent,
        warps=4,
        dependent=dependent,
        fused=False,
    )


def pick_best(
    logits: torch.Tensor,
    feedback: Feedback,
    workspace: Workspace,
    *,
    penalty: torch.Tensor | None = None,
    dependent: bool = False,
) -> None:
    """Greedy tokens of logits [R, V] fp16, bf16 or fp32, fed back; penalty float32 [R] or None."""
    check_logits(logits, workspace)
    feedback.check(logits.shape[0])
    launch_best(logits, feedback, workspace, penalty=penalty, finish=True, dependent=dependent)
