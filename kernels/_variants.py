"""The record by which a kernel is compiled ahead of time, and the SM versions it is compiled for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ._ahead import KernelJob

SM_VERSIONS = (75, 80, 86, 89, 90, 100, 120)
LOWEST_DEPENDENT_SM = 90
"""Cards from there on may start a kernel before the one ahead has ended."""
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
    dependent: bool = False
    """May start before the kernel ahead has ended; on cards that can."""
    registers: int | None = None
    """Of a lane; None: as the compiler sees fit."""
    fused: bool = True
    """Products and sums may become one operation."""

    def runs_on(self, sm: int) -> bool:
        """Whether a card of that SM version would run it."""
        if self.only_sms:
            return sm in self.only_sms
        lowest = max(self.lowest_sm, LOWEST_DEPENDENT_SM if self.dependent else 0)
        return lowest <= sm <= self.highest_sm

    def job(self, sm: int) -> KernelJob:
        """What a compiler is told for a card of that SM version, as a launch there would."""
        names = self.kernel.arg_names
        signature = {name: self.signature.get(name, "constexpr") for name in names}
        options = {
            "num_warps": self.warps,
            "num_stages": self.stages,
            "enable_fp_fusion": self.fused,
            "launch_pdl": self.dependent,
            "maxnreg": self.registers,
        }
        return KernelJob(
            module=self.kernel.fn.__module__,
            name=self.kernel.fn.__name__,
            signature=signature,
            constants={(names.index(name),): value for name, value in self.constexprs.items()},
            attributes={
                (place,): [["tt.divisibility", 16]]
                for place, name in enumerate(names)
                if signature[name].startswith("*") or name in self.divisible
            },
            options=options,
            target=("cuda", sm, 32),
        )
