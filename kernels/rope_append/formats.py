"""The precisions that cache pages come in, and the shapes of their tensors.

16bit: values. fp8: e4m3 bits and one fp16 scale a vector, x ~ value * scale. int8 and int4: codes
and fp16 (scale, minimum) a vector, x ~ code * scale + minimum. A vector is one token's D values of
one KV head. Byte j of an int4 vector holds value j below and value j + D / 2 above.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import torch

KvFormat: TypeAlias = Literal["16bit", "fp8", "int8", "int4"]

FORMATS: tuple[KvFormat, ...] = ("16bit", "fp8", "int8", "int4")
PARAMS = {"16bit": 0, "fp8": 1, "int8": 2, "int4": 2}
"""fp16 numbers beside each vector."""
LEVELS = {"int8": 255, "int4": 15}
"""Highest code of the integer formats."""
FP8_MAX = 448.0
"""Largest finite e4m3 value."""


def stored_width(head_dim: int, kv: KvFormat) -> int:
    """Elements of a stored vector: D, or D / 2 bytes for int4."""
    return head_dim // 2 if kv == "int4" else head_dim


def check_pages(
    cache: torch.Tensor, params: torch.Tensor | None, kv: KvFormat, dtype: torch.dtype
) -> None:
    """Asserts [pages, page_tokens, Hk, width] beside [pages, page_tokens, Hk, PARAMS], in place."""
    assert cache.ndim == 4 and cache.is_contiguous()
    assert cache.dtype == (dtype if kv == "16bit" else torch.uint8), (cache.dtype, kv)
    if params is None:
        assert PARAMS[kv] == 0, f"{kv} pages without their scales"
        return
    assert tuple(params.shape) == (*cache.shape[:3], PARAMS[kv]), (params.shape, kv)
    assert params.dtype == torch.float16 and params.is_contiguous()
