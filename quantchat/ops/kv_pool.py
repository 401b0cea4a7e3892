"""KV memory of one model: pages of a fixed token count, all layers, one precision.

Owns tensors and their bytes; which page belongs to whom is the engine's affair.
Layout: [pages, page_tokens, Hk, D], token-major, so that neighbouring pages are one long run.
int8 keeps, per token and KV head, float16 (scale, minimum): x ~ code * scale + minimum.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch

from quantchat.spec import DecoderSpec

KvPrecision: TypeAlias = Literal["16bit", "int8"]


@dataclass(frozen=True, slots=True)
class KvLayer:
    """One layer's cache. k, v: [pages, page_tokens, Hk, D]; params [pages, page_tokens, Hk, 2]."""

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
        shape = (spec.layers, pages, page_tokens, spec.kv_heads, spec.head_dim)
        self.pages = pages
        self.page_tokens = page_tokens
        self.precision: KvPrecision = precision
        self.dtype = dtype
        stored = torch.uint8 if precision == "int8" else dtype
        k = torch.empty(shape, dtype=stored, device=device)
        v = torch.empty(shape, dtype=stored, device=device)
        params: tuple[torch.Tensor, torch.Tensor] | None = None
        if precision == "int8":
            params = (
                torch.empty((*shape[:4], 2), dtype=torch.float16, device=device),
                torch.empty((*shape[:4], 2), dtype=torch.float16, device=device),
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
