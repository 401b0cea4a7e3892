"""Which kernels a benchmark is about to time, so that those are checked and no others.

Imports no torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from quantchat.hardware.execution import ExecutionPlan
from quantchat.hardware.op_table import LOWEST_TENSOR_SM
from quantchat.quant.registry import SCHEMES
from quantchat.quant.scheme import WeightFormat

OLD_CARDS = "cards below SM 80"
FORMS: Mapping[WeightFormat, tuple[str, ...]] = MappingProxyType(
    {
        "int4_group": ("int4", "int4-ordered"),
        "int8_channel": ("int8",),
        "fp8_channel": ("fp8",),
        "dense": ("dense",),
        "codebook4": ("nf4", "nf4-dq"),
        "lut4": ("lut4",),
        "lut3": ("lut3",),
        "progressive4": ("progressive4",),
    }
)
"""Stored formats as the gate's cases name them."""
ROUNDED = {"int8": "int8 inputs", "int8_outliers": "int8 inputs", "fp8": "fp8 inputs"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """Which cases matter to a run."""

    dtypes: tuple[str, ...] = ("float16", "bfloat16")
    """Of activations."""
    parts: frozenset[str] | None = None
    """Stored forms, KV formats ("int8 KV"), formats of inputs ("int8 inputs"); None: all."""

    def takes(self, part: str) -> bool:
        """Whether a case of that part is one of them."""
        return not part or self.parts is None or part in self.parts


def scope_of(schemes: Iterable[str], kvs: Iterable[str], plan: ExecutionPlan, sm: int) -> Scope:
    """What these schemes and KV precisions launch under a plan of their kind."""
    parts = {f"{plan.kv if kv == 'auto' else kv} KV" for kv in kvs} | {"dense"}
    if sm < LOWEST_TENSOR_SM:
        parts.add(OLD_CARDS)
    for name in schemes:
        scheme = SCHEMES.get(name)
        if scheme is None or scheme.weights == "stored":
            return Scope(dtypes=(plan.compute_dtype,))
        parts.update(FORMS[scheme.weights])
        if scheme.head != "same":
            parts.update(FORMS[scheme.head])
        if scheme.activations in ROUNDED:
            parts.add(ROUNDED[scheme.activations])
    return Scope(dtypes=(plan.compute_dtype,), parts=frozenset(parts))
