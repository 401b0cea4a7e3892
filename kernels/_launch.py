"""What a launch needs to know of the card, and the checks that wrappers share.

Every wrapper is safe inside CUDA graph capture: it reads shapes and host facts only, allocates
with torch.empty, and never synchronises.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
from triton.experimental.gluon.nvidia.hopper import TensorDescriptor as LaidOutDescriptor
from triton.tools.tensor_descriptor import TensorDescriptor

from ._ahead import is_noting

PLAIN_SM = 0
"""Stands for "no card": the interpreter on CPU tensors."""
LOWEST_DOT_SM = 80
"""tl.dot has no tensor-core path below, and is very slow there."""
LOWEST_ASM_SM = 75
_MOST_LAUNCHES = 8192
"""Kinds of launches that are remembered; beyond, all are forgotten."""
_launches: dict[tuple[object, ...], Any] = {}


@functools.cache
def _card(index: int) -> tuple[int, int]:
    facts = torch.cuda.get_device_properties(index)
    return facts.major * 10 + facts.minor, facts.multi_processor_count


def _index(device: torch.device) -> int:
    return torch.cuda.current_device() if device.index is None else device.index


def sm_version(device: torch.device) -> int:
    """SM version as one number (89 for 8.9); PLAIN_SM for tensors that are on no card."""
    return _card(_index(device))[0] if device.type == "cuda" else PLAIN_SM


def sm_count(device: torch.device) -> int:
    """Number of multiprocessors; 1 for tensors that are on no card."""
    return _card(_index(device))[1] if device.type == "cuda" else 1


def power_of_2(n: int) -> int:
    """Smallest power of two that is at least n."""
    return 1 << (n - 1).bit_length()


def ceil_div(n: int, by: int) -> int:
    """How many times `by` it takes to hold n."""
    return -(-n // by)


def check_activation(x: torch.Tensor, name: str = "x") -> None:
    """Asserts a contiguous fp16 or bf16 matrix."""
    assert x.ndim == 2, f"{name} must be a matrix, not {tuple(x.shape)}"
    assert x.dtype in (torch.float16, torch.bfloat16), f"{name} must be fp16 or bf16: {x.dtype}"
    assert x.is_contiguous(), f"{name} must be contiguous, strides are {x.stride()}"


def check_out(out: torch.Tensor, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    """Asserts that an output buffer handed in has the shape, dtype and layout written to it."""
    assert tuple(out.shape) == shape, f"out is {tuple(out.shape)}, {shape} is written"
    assert out.dtype == dtype, f"out is {out.dtype}, {dtype} is written"
    assert out.is_contiguous(), f"out must be contiguous, strides are {out.stride()}"


def launch_options(dependent: bool = False) -> dict[str, bool]:
    """Keywords of every launch: contraction to FMA as tuned for, dependent launch where asked."""
    return {"enable_fp_fusion": True} | ({"launch_pdl": True} if dependent else {})


def launch(
    kernel: Any,
    grid: tuple[int, int, int],
    *args: object,
    warps: int,
    stages: int = 1,
    dependent: bool = False,
    registers: int | None = None,
    **constants: object,
) -> None:
    """`kernel[grid](*args, **constants)`; constants are the last parameters, in the kernel's order.

    Finding a compiled kernel takes Triton 20 us of the processor. What was launched before with the
    same numbers and constants, on tensors of the same types, is found again in half of that.
    """
    key: list[object] = [id(kernel), warps, stages, dependent, registers, *constants.values()]
    low, device = 0, -1
    for arg in args:
        if isinstance(arg, torch.Tensor):
            low |= arg.data_ptr()
            device = arg.get_device()
            key.append(arg.dtype)
        elif isinstance(arg, (TensorDescriptor, LaidOutDescriptor)):
            key += (arg.base.dtype, *arg.block_shape)
        else:
            key.append(arg)
    key += (device, low & 63)
    known = tuple(key)
    compiled = _launches.get(known)
    if compiled is not None and not is_noting():
        compiled[grid](*args, *constants.values())
        return
    options: dict[str, object] = {**launch_options(dependent)}
    if registers is not None:
        options["maxnreg"] = registers
    made = kernel[grid](*args, **constants, num_warps=warps, num_stages=stages, **options)
    if made is None or low & 63 or is_noting():
        return  # interpreted or noted, or it matters which pointer is not aligned
    assert (*kernel.arg_names[len(args) :],) == (*constants,), "constants are out of order"
    if len(_launches) >= _MOST_LAUNCHES:
        _launches.clear()
    _launches[known] = made
