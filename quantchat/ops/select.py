"""Which op set serves a plan."""

from __future__ import annotations

import torch

from quantchat.hardware.execution import ExecutionPlan
from quantchat.ops.torch_ops import TorchOps
from quantchat.spec import DecoderSpec

DTYPES = {
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
    "float32": torch.float32,
}


def make_ops(spec: DecoderSpec, plan: ExecutionPlan) -> TorchOps:
    """The op set of the plan's device."""
    copy_dtype = None if plan.copy_dtype is None else DTYPES[plan.copy_dtype]
    device = torch.device("cpu") if plan.device == "cpu" else torch.device("cuda", plan.gpu_index)
    return TorchOps(spec, device=device, dtype=DTYPES[plan.compute_dtype], copy_dtype=copy_dtype)
