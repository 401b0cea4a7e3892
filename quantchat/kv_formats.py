"""Precisions of a KV cache, and what each keeps of K's and of V's vectors.

A vector is one token's values of one KV head. fp8 has a float16 scale beside it, the integer formats
a float16 scale and minimum.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal, TypeAlias

KvFormat: TypeAlias = Literal["16bit", "fp8", "int8", "k8v4", "int4r", "int4"]
VectorFormat: TypeAlias = Literal["16bit", "fp8", "int8", "int4"]

KV_VECTORS: Mapping[KvFormat, tuple[VectorFormat, VectorFormat]] = MappingProxyType(
    {
        "16bit": ("16bit", "16bit"),
        "fp8": ("fp8", "fp8"),
        "int8": ("int8", "int8"),
        "k8v4": ("int8", "int4"),
        "int4r": ("int4", "int4"),
        "int4": ("int4", "int4"),
    }
)
"""What K and V of each precision are stored as."""
KV_FORMATS: Mapping[str, KvFormat] = MappingProxyType({name: name for name in KV_VECTORS})
"""The names that a user may ask for."""
KV_ROTATED: frozenset[KvFormat] = frozenset({"int4r"})
"""Precisions whose K, and the queries that meet it, go through a Hadamard matrix first."""
VECTOR_BITS: Mapping[VectorFormat, int] = MappingProxyType(
    {"16bit": 16, "fp8": 8, "int8": 8, "int4": 4}
)
"""Of a stored value."""
VECTOR_PARAMS: Mapping[VectorFormat, int] = MappingProxyType(
    {"16bit": 0, "fp8": 1, "int8": 2, "int4": 2}
)
"""float16 numbers beside each vector."""
