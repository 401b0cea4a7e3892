"""KV memory of one model: pages of a fixed token count, all layers, one precision.

Owns tensors and their bytes; which page belongs to whom is the engine's affair.
Layout: [pages, page_tokens, Hk, D], token-major, so that neighbouring pages are one long run.
What the precisions store is kv_codec's; their parameters lie beside the pages.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from quantchat.ops.kv_codec import KV_PARAMS, KvPrecision, stored_width
from quantchat.spec import DecoderSpec

__all__ = ["KvLayer", "KvPool", "KvPrecision"]


@dataclass(frozen=True, slots=True)
class KvLayer:
    """One layer's cache. k, v: [pages, page_tokens, Hk, width]; params [pages, page_tokens, Hk, n]."""

    k: torch.Tensor
    v: torch.Tensor
    k_params: torch.Tensor | None
    v_params: torch.Tensor | None


class KvPool:
    """The cache tensors of a model."""

    def __init__(
        self,
        spec: DecoderSpec,
        *,
        pages: int,
        page_tokens: int,
        precision: KvPrecision,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        shape = (spec.layers, pages, page_tokens, spec.kv_heads)
        width = stored_width(spec.head_dim, precision)
        self.pages = pages
        self.page_tokens = page_tokens
        self.precision: KvPrecision = precision
        self.dtype = dtype
        stored = dtype if precision == "16bit" else torch.uint8
        k = torch.empty((*shape, width), dtype=stored, device=device)
        v = torch.empty((*shape, width), dtype=stored, device=device)
        params: tuple[torch.Tensor, torch.Tensor] | None = None
        if precision != "16bit":
            size = (*shape, KV_PARAMS[precision])
            params = (
                torch.empty(size, dtype=torch.float16, device=device),
                torch.empty(size, dtype=torch.float16, device=device),
            )
        # Page 0 takes the writes of padding rows; its values must at least be finite.
        for tensor in (k, v, *(params or ())):
            tensor[:, 0].zero_()
        self.nbytes = k.nbytes + v.nbytes + sum(p.nbytes for p in params or ())
        self.layers = tuple(
            KvLayer(k[i], v[i], params[0][i] if params else None, params[1][i] if params else None)
            for i in range(spec.layers)
        )

    @property
    def page_bytes(self) -> int:
        """Bytes of one page over all layers, K and V."""
        return self.nbytes // self.pages
