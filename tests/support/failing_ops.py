"""Plain ops that fail at chosen points, as a device does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from quantchat.hardware.execution import ExecutionPlan
from quantchat.ops.linear import LinearOp
from quantchat.ops.select import make_ops
from quantchat.ops.torch_ops import TorchOps
from quantchat.quant.tensor import StoredWeight
from quantchat.spec import DecoderSpec

OOM = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 512.00 MiB. GPU 0 has a total")
LOST = RuntimeError("CUDA error: an illegal memory access was encountered\nCUDA kernel errors")
BUSY = RuntimeError("CUDA error: CUDA-capable device(s) is/are busy or unavailable\nCUDA kernel")


@dataclass
class Faults:
    """What to raise, and where; each is raised as often as it stands in the list."""

    load: list[Exception] = field(default_factory=list)
    prefill: list[Exception] = field(default_factory=list)
    decode: list[Exception] = field(default_factory=list)
    decode_after: int = 0
    """Decode steps before the faults of decode begin."""
    held: list[torch.Tensor] = field(default_factory=list)

    def make_ops(self, spec: DecoderSpec, plan: ExecutionPlan) -> TorchOps:
        """Stands where `ops.select.make_ops` stands."""
        whole = make_ops(spec, plan)
        return FailingOps(
            spec,
            device=whole.device,
            dtype=whole.dtype,
            copy_dtype=whole.copy_dtype,
            before=self._before,
        )

    def _before(self, what: str, rows: int) -> None:
        if what == "load":
            waiting = self.load
        elif rows > 1:
            waiting = self.prefill
        elif self.decode and self.decode_after > 0:
            self.decode_after -= 1
            return
        else:
            waiting = self.decode
        if waiting:
            raise waiting.pop(0)


class FailingOps(TorchOps):
    """Asks before it loads a linear and before each pass."""

    def __init__(
        self,
        spec: DecoderSpec,
        *,
        device: torch.device,
        dtype: torch.dtype,
        copy_dtype: torch.dtype | None,
        before: Callable[[str, int], None],
    ) -> None:
        super().__init__(spec, device=device, dtype=dtype, copy_dtype=copy_dtype)
        self._before = before

    def linear(
        self, weight: StoredWeight, bias: torch.Tensor | None, *, gated: bool = False
    ) -> LinearOp:
        self._before("load", 0)
        return super().linear(weight, bias, gated=gated)

    def begin(self, rows: int) -> None:
        self._before("pass", rows)
        super().begin(rows)
