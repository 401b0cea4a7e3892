"""Launches decode attention: checks, shapes and host facts, and which kernel runs.

From SM 80 on fragment_kernel.py, whose products are tensor cores'; attend_kernel.py elsewhere. Both
turn raw qkv rows into attended heads in one launch. A program serves one part of the query heads of
a KV head of one row, all of them up to 16, over its tiles of the context, and norms and turns them
itself; where its tiles end with the newest token it attends to that token's K and V as stored, and
the first part stores them, so no program reads what another writes. The last program to arrive puts
the sums of a part together, in the order of splits.
"""

from __future__ import annotations

import torch

from .._launch import (
    check_activation,
    check_out,
    launch,
    power_of_2,
    sm_count,
    sm_version,
)
from ..rope_append.formats import ROTATED, VECTORS, KvFormat, check_pages
from ..rope_append.turn import turn
from . import fragment_launch
from .attend_kernel import attend_kernel
from .splits import Splits, heads_of_part, parts_of, splits_for
from .workspace import Workspace

_LOG2_E = 1.4426950408889634


def attend(
    qkv: torch.Tensor,
    positions: torch.Tensor,
    seq_lens: torch.Tensor,
    slots: torch.Tensor,
    block_table: torch.Tensor,
    cos: torch.Tensor,
    sin: torch.Tensor,
    k_cache: torch.Tensor,
    v_cache: torch.Tensor,
    *,
    heads: int,
    scale: float,
    kv: KvFormat = "16bit",
    window: int = 0,
    cap: float = 0.0,
    k_params: torch.Tensor | None = None,
    v_params: torch.Tensor | None = None,
    q_weight: torch.Tensor | None = None,
    k_weight: torch.Tensor | None = None,
    eps: float = 0.0,
    out: torch.Tensor | None = None,
    workspace: Workspace | None = None,
    splits: Splits | None = None,
    dependent: bool = False,
) -> torch.Tensor:
    """Appends each row's token and attends to the newest `window` (0: all) tokens: [M, heads * D].

    qkv [M, (heads + 2 Hk) * D] fp16 or bf16, one row a sequence; positions int32 [M]; seq_lens
    int32 [M], the new token included (0: zeros, nothing is stored); slots int64 [M], -1 stores
    nothing; block_table int32 [M, max_pages]; cos, sin fp32 [context, R] turn the first 2 R values
    of a head in adjacent pairs; pages and params as rope_append/formats.py has them. q_weight,
    k_weight [D] norm the heads first (both or none). A `cap` c makes a score s c * tanh(s / c), 0:
    none. Where `kv` rotates, a launch of its own turns q and k into a copy of the rows first. A
    workspace whose splits fit is reused between launches of one stream; without one a fresh one is
    made. A `dependent` launch reads positions, lengths, page table and older tokens before the
    kernel ahead of it has ended: they must be complete since the last full boundary of the stream
    (a graph launch, a copy, a kernel launched plainly), as within a decode step. The plain path
    waits all the same.
    """
    check_activation(qkv, "qkv")
    rows = qkv.shape[0]
    page_tokens, kv_heads = k_cache.shape[1], k_cache.shape[2]
    head_dim = qkv.shape[1] // (heads + 2 * kv_heads)
    assert qkv.shape[1] == (heads + 2 * kv_heads) * head_dim and heads % kv_heads == 0
    assert head_dim % 8 == 0 and cos.shape[1] * 2 <= head_dim
    for vector, dtype in ((positions, torch.int32), (seq_lens, torch.int32), (slots, torch.int64)):
        assert vector.shape == (rows,) and vector.dtype == dtype and vector.is_contiguous()
    assert block_table.dtype == torch.int32 and block_table.shape[0] == rows
    assert block_table.stride(1) == 1
    for angles in (cos, sin):
        assert angles.dtype == torch.float32 and angles.is_contiguous()
        assert angles.shape == cos.shape
    k_format, v_format = VECTORS[kv]
    assert k_cache.shape[:3] == v_cache.shape[:3]
    check_pages(k_cache, k_params, k_format, head_dim, qkv.dtype)
    check_pages(v_cache, v_params, v_format, head_dim, qkv.dtype)
    assert (q_weight is None) == (k_weight is None)
    if q_weight is not None and k_weight is not None:
        assert q_weight.shape == k_weight.shape == (head_dim,)
    if out is None:
        out = torch.empty(rows, heads * head_dim, dtype=qkv.dtype, device=qkv.device)
    check_out(out, (rows, heads * head_dim), qkv.dtype)
    rotary_half = cos.shape[1]
    if kv in ROTATED:
        qkv = turn(
            qkv,
            positions,
            cos,
            sin,
            heads=heads,
            kv_heads=kv_heads,
            q_weight=q_weight,
            k_weight=k_weight,
            eps=eps,
            dependent=dependent,
        )
        q_weight = k_weight = None
        rotary_half = 0
    sm = sm_version(qkv.device)
    capacity = block_table.shape[1] * page_tokens
    if splits is None:
        splits = splits_for(
            rows, heads, kv_heads, head_dim, capacity, kv, sm=sm, sms=sm_count(qkv.device)
        )
    if workspace is None:
        workspace = Workspace.create(rows, heads, kv_heads, head_dim, splits, qkv.device)
    workspace.check(rows, heads, kv_heads, head_dim, splits)
    if splits.alone:
        fragment_launch.attend_fragments(
            qkv,
            positions,
            seq_lens,
            slots,
            block_table,
            cos,
            sin,
            k_cache,
            v_cache,
            heads=heads,
            rotary_half=rotary_half,
            scale_log2=scale * _LOG2_E,
            cap_log2=cap * _LOG2_E,
            kv=kv,
            window=window,
            k_params=k_params,
            v_params=v_params,
            q_weight=q_weight,
            k_weight=k_weight,
            eps=eps,
            out=out,
            workspace=workspace,
            splits=splits,
            sm=sm,
            dependent=dependent,
        )
        return out
    share, parts = heads_of_part(heads, kv_heads), parts_of(heads, kv_heads)
    combined = power_of_2(splits.count)
    launch(
        attend_kernel,
        (splits.count, kv_heads * parts, rows),
        qkv,
        positions,
        seq_lens,
        slots,
        block_table,
        cos,
        sin,
        q_weight,
        k_weight,
        k_cache,
        v_cache,
        k_params,
        v_params,
        out,
        workspace.partial,
        workspace.stats,
        workspace.arrived,
        eps,
        scale * _LOG2_E,
        cap * _LOG2_E,
        window,
        block_table.stride(0),
        capacity,
        HQ=heads,
        HK=kv_heads,
        PARTS=parts,
        D=head_dim,
        DP=power_of_2(head_dim),
        GP=power_of_2(share),
        ROTARY_HALF=rotary_half,
        T=splits.tile_tokens,
        PAGE=page_tokens,
        SPLITS=splits.count,
        SP=combined,
        GC=splits.heads_at_once(share, combined, power_of_2(head_dim)),
        K_KV=k_format,
        V_KV=v_format,
        HEAD_NORM=q_weight is not None,
        WINDOWED=window > 0,
        CAPPED=cap > 0,
        warps=splits.warps,
    )
    return out
