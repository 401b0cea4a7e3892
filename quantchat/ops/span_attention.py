"""Attention of a prompt's rows over their sequence, by the library's kernels.

Owns how keys and values are read from pages and which of the library's ways is taken: its flash
kernel where a card has it, which aligns the causal rule to the last row and the last key; else a
mask, made once a pass. A decode step on a card has a kernel of its own.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch.backends.cuda import SDPAParams, can_use_flash_attention

from quantchat.hardware.memory import CAPPED_SCORES
from quantchat.kv_formats import VectorFormat
from quantchat.ops import run_views
from quantchat.ops.batch import Batch, Span, sent
from quantchat.ops.kv_codec import dequantize_kv
from quantchat.ops.kv_pool import KvLayer, KvPool
from quantchat.ops.plain import soft_capped
from quantchat.spec import DecoderSpec

PROCESSOR_ORDER = ((1, 2, 0, 3), (2, 0, 1, 3), 1)
"""[count, Hk, group, D] to what the library takes and back, and the dimension that shares keys."""
CARD_ORDER = ((2, 1, 0, 3), (2, 1, 0, 3), 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class SpanAttention:
    """A model's attention on one device, in one compute dtype."""

    spec: DecoderSpec
    device: torch.device
    dtype: torch.dtype

    def __call__(
        self,
        q: torch.Tensor,
        batch: Batch,
        span: Span,
        pool: KvPool,
        layer: KvLayer,
        window: int,
    ) -> torch.Tensor:
        """The span's rows of q [T, Hq, D] over its sequence -> [count, Hq * D]."""
        spec, count = self.spec, span.count
        first = max(0, span.length - count - window + 1) if window else 0
        rows = q if count == q.shape[0] else q[span.start : span.start + count]
        if count == 1 and self._by_views(span, pool):
            return self._step(rows, *run_views.cached(pool, batch, span, first)[layer.index])
        k, v = self.read(layer, batch, span, first, pool)
        if spec.attention_softcap:
            return self._capped(rows, k, v, self._mask(batch, span, first, window))
        if takes_flash(self.device, self.dtype, spec.head_dim):
            return self._flash(rows, k, v, window)
        group = spec.heads // spec.kv_heads
        keys, values = k.transpose(0, 1), v.transpose(0, 1)
        if count == 1:
            return self._step(rows, keys[:, None], values[:, None])
        # A processor meets the heads that share keys one after the other. A card's may not share them
        # by a stride of 0: for a block of one row the library's kernel takes masks of no row then.
        there, back, shared = CARD_ORDER if q.is_cuda else PROCESSOR_ORDER
        query = rows.view(count, spec.kv_heads, group, spec.head_dim).permute(there)
        size = (*query.shape[:2], *keys.shape[1:])
        plain = span.length == count and not (window and window < count)
        out = F.scaled_dot_product_attention(
            query,
            keys.unsqueeze(shared).expand(size),
            values.unsqueeze(shared).expand(size),
            attn_mask=None if plain else self._mask(batch, span, first, window),
            is_causal=plain,
            scale=spec.attention_scale,
        )
        return out.permute(back).reshape(count, -1)

    def _by_views(self, span: Span, pool: KvPool) -> bool:
        plain = self.device.type == "cpu" and not self.spec.attention_softcap
        return plain and span.run is not None and not pool.rounded

    def _step(self, q: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
        """One row q [1, Hq, D] over keys and values [Hk, 1, S, D] -> [1, Hq * D]."""
        spec = self.spec
        query = q.view(spec.kv_heads, 1, -1, spec.head_dim)
        scale = spec.attention_scale
        return F.scaled_dot_product_attention(query, keys, values, scale=scale).reshape(1, -1)

    def _flash(
        self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, window: int
    ) -> torch.Tensor:
        """Row i of q [count, Hq, D] sees keys up to S - count + i, of k and v [S, Hk, D]."""
        count, length = q.shape[0], k.shape[0]
        cut = count > 1 and 0 < window < length
        out: torch.Tensor = torch.ops.aten._flash_attention_forward.default(
            q[None],
            k[None],
            v[None],
            None,
            None,
            count,
            length,
            0.0,
            True,
            False,
            scale=self.spec.attention_scale,
            window_size_left=window - 1 if cut else None,
            window_size_right=0 if cut else None,
        )[0]
        return out.reshape(count, -1)

    def _capped(
        self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor
    ) -> torch.Tensor:
        """Attention whose scores are soft-capped. q [count, Hq, D], k and v [S, Hk, D]."""
        spec = self.spec
        keys, values = k.permute(1, 2, 0)[:, None].float(), v.transpose(0, 1)[:, None]
        step = max(1, CAPPED_SCORES // (spec.heads * k.shape[0]))
        made = []
        for rows, seen in zip(torch.split(q, step), torch.split(mask, step), strict=True):
            query = rows.view(len(rows), spec.kv_heads, -1, spec.head_dim).permute(1, 2, 0, 3)
            scores = soft_capped(
                query.float() @ keys * spec.attention_scale, spec.attention_softcap
            )
            shares = scores.masked_fill_(~seen, -torch.inf).softmax(dim=-1).to(v.dtype)
            made.append((shares @ values).permute(2, 0, 1, 3).reshape(len(rows), -1))
        return torch.cat(made)

    def _mask(self, batch: Batch, span: Span, first: int, window: int) -> torch.Tensor:
        """bool [count, length - first]: which cached tokens each row may see."""
        key = ("mask", span.start, window)
        mask = batch.shared.get(key)
        if mask is None:
            shape = (span.count, span.length - first)
            diagonal = span.length - span.count - first
            mask = torch.ones(shape, dtype=torch.bool, device=self.device).tril_(diagonal)
            if window:
                mask.triu_(diagonal - window + 1)
            batch.shared[key] = mask
        return mask

    def read(
        self, layer: KvLayer, batch: Batch, span: Span, first: int, pool: KvPool
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys and values from the token `first` on, both [S, Hk, D]."""
        return (
            self._read(layer.k, layer.k_params, batch, span, first, pool.k_format),
            self._read(layer.v, layer.v_params, batch, span, first, pool.v_format),
        )

    def _read(
        self,
        cache: torch.Tensor,
        params: torch.Tensor | None,
        batch: Batch,
        span: Span,
        first: int,
        form: VectorFormat,
    ) -> torch.Tensor:
        """One of the two; a view where values lie in one run of pages."""
        page_tokens = cache.shape[1]
        if span.run is not None:
            start = span.run * page_tokens
            part = slice(start + first, start + span.length)
            stored = cache.flatten(0, 1)[part]
            if params is None:
                return stored
            return dequantize_kv(stored, params.flatten(0, 1)[part], form, self.dtype)
        skipped = first // page_tokens
        pages = self.pages(batch, span)[skipped:]
        part = slice(first - skipped * page_tokens, span.length - skipped * page_tokens)
        stored = cache.index_select(0, pages).flatten(0, 1)[part]
        if params is None:
            return stored
        beside = params.index_select(0, pages).flatten(0, 1)[part]
        return dequantize_kv(stored, beside, form, self.dtype)

    def pages(self, batch: Batch, span: Span) -> torch.Tensor:
        """The span's pages on the device, int64 [pages]; made once a pass."""
        key = ("pages", span.start, 0)
        pages = batch.shared.get(key)
        if pages is None:
            pages = batch.shared[key] = sent(torch.tensor(span.pages), self.device)
        return pages


@functools.cache
def takes_flash(device: torch.device, dtype: torch.dtype, head_dim: int) -> bool:
    """Whether the library's flash kernel runs there: SM 80 and newer, 16 bits, heads up to 256."""
    if device.type != "cuda" or head_dim % 8:
        return False
    probe = torch.empty(1, 1, 8, head_dim, dtype=dtype, device=device)
    return can_use_flash_attention(SDPAParams(probe, probe, probe, None, 0.0, True, False))
