"""The record by which a kernel is compiled ahead of time, and the SM versions it is compiled for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

SM_VERSIONS = (75, 80, 86, 89, 90, 100, 120)
POINTEE = {"fp16": "*fp16", "bf16": "*bf16"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """One kernel in one configuration."""

    name: str
    kernel: Any
    """The jitted function."""
    signature: Mapping[str, str]
    """Triton type of every run-time argument; pointers are taken as 16-byte aligned."""
    constexprs: Mapping[str, object]
    """Values at compile time; None for pointers that a launch leaves out."""
    warps: int = 4
    stages: int = 1
    lowest_sm: int = 75
    highest_sm: int = 120
    only_sms: tuple[int, ...] = ()
    """Where not empty, these and no others."""
    divisible: tuple[str, ...] = ()
    """Integers that are multiples of 16."""
    most_stack_bytes: int | None = None
    """What a lane may lack of registers on SM 90."""
    options: Mapping[str, object] = field(default_factory=dict)

    def runs_on(self, sm: int) -> bool:
        """Whether a card of that SM version would run it."""
        if self.only_sms:
            return sm in self.only_sms
        return self.lowest_sm <= sm <= self.highest_sm
