"""Launches the fragment kernel: pages and rows as words, and the constants of a shape."""

from __future__ import annotations

from typing import Any

import torch

from .._launch import launch, power_of_2
from ..rope_append.formats import VECTORS, KvFormat, VectorFormat
from .fragment_kernel import fragment_attend_kernel
from .fragments import LEAST_COLUMNS
from .splits import Splits, heads_of_part, parts_of
from .workspace import Workspace

_CODE: dict[VectorFormat, int] = {"16bit": 0, "fp8": 1, "int8": 2, "int4": 3}
_LOWEST_FP8_SM = 89


def constants(
    heads: int,
    kv_heads: int,
    head_dim: int,
    rotary_half: int,
    page_tokens: int,
    kv: KvFormat,
    splits: Splits,
    *,
    bf16: bool,
    norm: bool,
    windowed: bool,
    capped: bool,
    sm: int,
    dependent: bool,
) -> dict[str, Any]:
    """Compile-time arguments of the kernel."""
    k_format, v_format = VECTORS[kv]
    return {
        "HQ": heads,
        "HK": kv_heads,
        "PARTS": parts_of(heads, kv_heads),
        "D": head_dim,
        "DP": max(LEAST_COLUMNS, power_of_2(head_dim)),
        "GP": power_of_2(heads_of_part(heads, kv_heads)),
        "ROTARY_HALF": rotary_half,
        "PAGE": page_tokens,
        "SPLITS": splits.count,
        "SP": power_of_2(splits.count),
        "ALONE": splits.alone,
        "K_KV": _CODE[k_format],
        "V_KV": _CODE[v_format],
        "BF16": bf16,
        "HEAD_NORM": norm,
        "WINDOWED": windowed,
        "CAPPED": capped,
        "FP8_UNIT": sm >= _LOWEST_FP8_SM,
        "PDL": dependent,
        "W": splits.warps,
        "T": splits.tile_tokens // splits.warps,
    }


def attend_fragments(
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
    rotary_half: int,
    scale_log2: float,
    cap_log2: float,
    kv: KvFormat,
    window: int,
    k_params: torch.Tensor | None,
    v_params: torch.Tensor | None,
    q_weight: torch.Tensor | None,
    k_weight: torch.Tensor | None,
    eps: float,
    out: torch.Tensor,
    workspace: Workspace,
    splits: Splits,
    sm: int,
    dependent: bool,
) -> None:
    """Writes out [M, heads * D]; arguments are those of attend.attend, which has checked them.

    rotary_half: pairs of a head that turn, 0 where the rows come turned.
    """
    page_tokens, kv_heads = k_cache.shape[1:3]
    head_dim = out.shape[1] // heads
    params = [
        p.view(torch.int32) if p is not None and form in ("int8", "int4") else p
        for p, form in zip((k_params, v_params), VECTORS[kv], strict=True)
    ]
    weights = [None if w is None else w.view(torch.int32) for w in (q_weight, k_weight)]
    launch(
        fragment_attend_kernel,
        (splits.count, kv_heads * parts_of(heads, kv_heads), qkv.shape[0]),
        qkv.view(torch.int32),
        positions,
        seq_lens,
        slots,
        block_table,
        cos,
        sin,
        *weights,
        k_cache.view(torch.int32),
        v_cache.view(torch.int32),
        *params,
        k_cache,
        v_cache,
        qkv,
        out,
        workspace.partial,
        workspace.stats,
        workspace.arrived,
        eps,
        scale_log2,
        cap_log2,
        window,
        block_table.stride(0),
        block_table.shape[1] * page_tokens,
        **constants(
            heads,
            kv_heads,
            head_dim,
            rotary_half,
            page_tokens,
            kv,
            splits,
            bf16=qkv.dtype == torch.bfloat16,
            norm=q_weight is not None,
            windowed=window > 0,
            capped=cap_log2 > 0,
            sm=sm,
            dependent=dependent,
        ),
        warps=splits.warps,
        dependent=dependent,
    )
