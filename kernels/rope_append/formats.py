"""The precisions that cache pages come in, and the shapes of their tensors.

A precision says what vectors of K and of V are; a vector is one token's D values of one KV head.
16bit: values. fp8: e4m3 bits and one fp16 scale a vector, x ~ value * scale. int8 and int4: codes
and fp16 (scale, minimum) a vector, x ~ code * scale + minimum. Byte j of an int4 vector holds value
j below and value j + D / 2 above. int4r: K, and the queries that meet it, are turned by a Hadamard
matrix first, see hadamard_heads of reference.py; D is a power of two.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import torch

VectorFormat: TypeAlias = Literal["16bit", "fp8", "int8", "int4"]
KvFormat: TypeAlias = Literal["16bit", "fp8", "int8", "k8v4", "int4r", "int4"]

VECTORS: dict[KvFormat, tuple[VectorFormat, VectorFormat]] = {
    "16bit": ("16bit", "16bit"),
    "fp8": ("fp8", "fp8"),
    "int8": ("int8", "int8"),
    "k8v4": ("int8", "int4"),
    "int4r": ("int4", "int4"),
    "int4": ("int4", "int4"),
}
"""What K and V of each precision are."""
FORMATS: tuple[KvFormat, ...] = tuple(VECTORS)
ROTATED: frozenset[KvFormat] = frozenset({"int4r"})
PARAMS: dict[VectorFormat, int] = {"16bit": 0, "fp8": 1, "int8": 2, "int4": 2}
"""fp16 numbers beside each vector."""
LEVELS: dict[VectorFormat, int] = {"int8": 255, "int4": 15}
"""Highest code of the integer formats."""
FP8_MAX = 448.0
"""Largest finite e4m3 value."""


def stored_width(head_dim: int, form: VectorFormat) -> int:
    """Elements of a stored vector: D, or D / 2 bytes for int4."""
    return head_dim // 2 if form == "int4" else head_dim


def check_pages(
    cache: torch.Tensor,
    params: torch.Tensor | None,
    form: VectorFormat,
    head_dim: int,
    dtype: torch.dtype,
) -> None:
    """Asserts [pages, page_tokens, Hk, width] beside [pages, page_tokens, Hk, PARAMS], in place."""
    assert cache.ndim == 4 and cache.is_contiguous()
    assert cache.shape[3] == stored_width(head_dim, form), (cache.shape, form)
    assert cache.dtype == (dtype if form == "16bit" else torch.uint8), (cache.dtype, form)
    if params is None:
        assert PARAMS[form] == 0, f"{form} pages without their scales"
        return
    assert tuple(params.shape) == (*cache.shape[:3], PARAMS[form]), (params.shape, form)
    assert params.dtype == torch.float16 and params.is_contiguous()


def check_rotation(head_dim: int, kv: KvFormat) -> None:
    """Asserts that heads of the precision can be rotated where it asks for that."""
    assert kv not in ROTATED or head_dim & (head_dim - 1) == 0, (head_dim, kv)
