"""Decode attention over pages in plain torch: the truth that the kernels are held to."""

from __future__ import annotations

import torch

from ..rope_append.formats import VECTORS, KvFormat, VectorFormat
from ..rope_append.reference import dequantize_heads, rope_append


def gather(
    cache: torch.Tensor,
    params: torch.Tensor | None,
    pages: torch.Tensor,
    tokens: int,
    form: VectorFormat,
) -> torch.Tensor:
    """The first `tokens` vectors fp32 [tokens, Hk, D] of the pages int [n] of one sequence."""
    flat = cache[pages.long()].flatten(0, 1)[:tokens]
    if params is None:
        return flat.float()
    fresh = params[pages.long()].flatten(0, 1)[:tokens]
    return dequantize_heads(flat, fresh, form, torch.float32)


def decode(
    q: torch.Tensor,
    k_cache: torch.Tensor,
    v_cache: torch.Tensor,
    block_table: torch.Tensor,
    seq_lens: torch.Tensor,
    *,
    scale: float,
    kv: KvFormat = "16bit",
    window: int = 0,
    cap: float = 0.0,
    k_params: torch.Tensor | None = None,
    v_params: torch.Tensor | None = None,
) -> torch.Tensor:
    """q [B, Hq, D] against the newest `window` (0: all) of seq_lens tokens -> [B, Hq, D].

    fp32 inside, rounded once; a sequence of length 0 yields zeros. q is rotated where `kv` is.
    """
    out = torch.zeros_like(q)
    heads, kv_heads = q.shape[1], k_cache.shape[2]
    k_format, v_format = VECTORS[kv]
    for b, length in enumerate(seq_lens.tolist()):
        if length == 0:
            continue
        pages = block_table[b, : -(-length // k_cache.shape[1])]
        first = max(0, length - window) if window else 0
        k = gather(k_cache, k_params, pages, length, k_format)[first:]
        v = gather(v_cache, v_params, pages, length, v_format)[first:]
        k = k.repeat_interleave(heads // kv_heads, dim=1)
        v = v.repeat_interleave(heads // kv_heads, dim=1)
        scores = torch.einsum("hd,thd->ht", q[b].float(), k) * scale
        if cap:
            scores = cap * torch.tanh(scores / cap)
        out[b] = torch.einsum("ht,thd->hd", scores.softmax(-1), v).to(q.dtype)
    return out


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
) -> torch.Tensor:
    """Append, then attend: [M, heads * D]; see attend.py. Rows of length 0 store nothing."""
    q = rope_append(
        qkv,
        positions,
        cos,
        sin,
        torch.where(seq_lens > 0, slots, -1),
        k_cache,
        v_cache,
        heads=heads,
        q_weight=q_weight,
        k_weight=k_weight,
        eps=eps,
        kv=kv,
        k_params=k_params,
        v_params=v_params,
    )
    attended = decode(
        q,
        k_cache,
        v_cache,
        block_table,
        seq_lens,
        scale=scale,
        kv=kv,
        window=window,
        cap=cap,
        k_params=k_params,
        v_params=v_params,
    )
    return attended.flatten(1)
