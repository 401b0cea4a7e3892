"""KV memory of one model: pages of a fixed token count, all layers, one precision.

Owns tensors and their bytes; which page belongs to whom is the engine's affair.
Layout: [pages, page_tokens, Hk, width], token-major, so that neighbouring pages are one long run.
What the precisions store is kv_formats', for K and for V; their parameters lie beside the pages.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from quantchat.kv_formats import KV_VECTORS, VECTOR_PARAMS, KvFormat, VectorFormat
from quantchat.ops.kv_codec import stored_width
from quantchat.spec import DecoderSpec


@dataclass(frozen=True, slots=True)
class KvLayer:
    """One layer's cache. k, v: [pages, page_tokens, Hk, width]; params [pages, page_tokens, Hk, n].

    Widths and params of K and of V are those of their own formats.
    """

    index: int
    """Its place among the pool's layers."""
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
        precision: KvFormat,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        shape = (spec.layers, pages, page_tokens, spec.kv_heads)
        self.pages = pages
        self.page_tokens = page_tokens
        self.precision: KvFormat = precision
        self.k_format: VectorFormat
        self.v_format: VectorFormat
        self.k_format, self.v_format = KV_VECTORS[precision]
        self.dtype = dtype
        made: list[torch.Tensor] = []
        params: list[torch.Tensor | None] = []
        for form in (self.k_format, self.v_format):
            width = stored_width(spec.head_dim, form)
            stored = dtype if form == "16bit" else torch.uint8
            made.append(torch.empty((*shape, width), dtype=stored, device=device))
            count = VECTOR_PARAMS[form]
            beside = torch.empty((*shape, count), dtype=torch.float16, device=device)
            params.append(beside if count else None)
        held = [*made, *(part for part in params if part is not None)]
        self.rounded = len(held) > len(made)
        """Whether K or V lie in codes, with parameters beside them."""
        # Page 0 takes the writes of padding rows; its values must at least be finite.
        for tensor in held:
            tensor[:, 0].zero_()
        self.nbytes = sum(tensor.nbytes for tensor in held)
        (k, v), (k_params, v_params) = made, params
        self.k_rows, self.v_rows = k.flatten(1, 2), v.flatten(1, 2)
        """All layers' tokens in the order of pages, [L, pages * page_tokens, Hk, width]."""
        self.layers = tuple(
            KvLayer(
                i,
                k[i],
                v[i],
                None if k_params is None else k_params[i],
                None if v_params is None else v_params[i],
            )
            for i in range(spec.layers)
        )

    @property
    def page_bytes(self) -> int:
        """Bytes of one page over all layers, K and V."""
        return self.nbytes // self.pages

    @property
    def token_bytes(self) -> int:
        """Bytes of one token over all layers, K and V."""
        return self.page_bytes // self.page_tokens
