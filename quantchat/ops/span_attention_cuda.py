"""A prompt's attention where our kernels run: rounded keys and values are read in one launch."""

from __future__ import annotations

import torch

from quantchat.kernels.rope_append.read import read_rounded
from quantchat.ops.batch import Batch, Span
from quantchat.ops.kv_pool import KvLayer, KvPool
from quantchat.ops.span_attention import SpanAttention


class CardSpanAttention(SpanAttention):
    """SpanAttention with that read replaced."""

    __slots__ = ()

    def read(
        self, layer: KvLayer, batch: Batch, span: Span, first: int, pool: KvPool
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """See SpanAttention.read."""
        if layer.k_params is None or layer.v_params is None:
            return super().read(layer, batch, span, first, pool)
        both = read_rounded(
            layer.k,
            layer.v,
            layer.k_params,
            layer.v_params,
            self.pages(batch, span),
            first=first,
            length=span.length,
            head_dim=self.spec.head_dim,
            kv=pool.precision,
            dtype=self.dtype,
        )
        return both[0], both[1]
