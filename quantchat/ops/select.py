"""Which op set serves a plan."""

from __future__ import annotations

import torch

from quantchat.errors import DeviceError
from quantchat.hardware.execution import ExecutionPlan
from quantchat.ops.torch_ops import TorchOps
from quantchat.requests import TO_CPU
from quantchat.spec import DecoderSpec

DTYPES = {
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
    "float32": torch.float32,
}


def make_ops(spec: DecoderSpec, plan: ExecutionPlan) -> TorchOps:
    """The op set of the plan's device: kernels where the plan runs Triton, else plain torch."""
    copy_dtype = None if plan.copy_dtype is None else DTYPES[plan.copy_dtype]
    if plan.device == "cpu":
        return TorchOps(
            spec,
            device=torch.device("cpu"),
            dtype=DTYPES[plan.compute_dtype],
            copy_dtype=copy_dtype,
            activations=plan.activations,
            all_rows=plan.all_rows,
        )
    device = torch.device("cuda", plan.gpu_index)
    if not plan.triton:
        return TorchOps(spec, device=device, dtype=DTYPES[plan.compute_dtype])
    try:
        from quantchat.ops.compiling import name_kernels_alike
        from quantchat.ops.kernel_cache import use_kernel_cache
        from quantchat.ops.tile_cache import use_stored_tiles
        from quantchat.ops.triton_ops import TritonOps

        name_kernels_alike()
    except (ImportError, AttributeError) as error:
        raise _unusable(error) from error
    # For every length that it meets it builds a plan, which takes longer than most prompts do.
    torch.backends.cuda.enable_cudnn_sdp(False)
    use_kernel_cache()
    use_stored_tiles(device)
    return TritonOps(
        spec,
        device=device,
        dtype=DTYPES[plan.compute_dtype],
        dependent_launch=plan.dependent_launch,
        activations=plan.activations,
        all_rows=plan.all_rows,
    )


def _unusable(error: Exception) -> DeviceError:
    """Kernels of ours want what this release of Triton has under another name, or not at all."""
    return DeviceError(
        f"the installed Triton cannot be used: {error}",
        hint="install the one that came with torch, or load the model on the device cpu",
        ways=(TO_CPU,),
    )
