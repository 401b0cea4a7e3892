"""What a launch needs to know of the card, and the checks that wrappers share.

Every wrapper is safe inside CUDA graph capture: it reads shapes and host facts only, allocates
with torch.empty, and never synchronises.
"""

from __future__ import annotations

import functools
import threading
from typing import Any, NamedTuple

import torch
from triton.experimental.gluon.nvidia.hopper import TensorDescriptor as LaidOutDescriptor
from triton.tools.tensor_descriptor import TensorDescriptor

from ._ahead import is_noting
from ._direct import DirectLaunch, direct_launch

PLAIN_SM = 0
"""Stands for "no card": the interpreter on CPU tensors."""
LOWEST_DOT_SM = 80
"""tl.dot has no tensor-core path below, and is very slow there."""
LOWEST_ASM_SM = 75
_MOST_LAUNCHES = 8192
"""Kinds of launches that are remembered; beyond, all are forgotten."""
_ALIGNED = 16
"""Bytes, and what numbers may be multiples of: Triton compiles a kernel for either."""


class Boxed(NamedTuple):
    """A matrix of which the card's copy engine takes boxes."""

    matrix: torch.Tensor
    """Rows contiguous, 16-byte aligned."""
    box: tuple[int, int]
    layout: Any = None
    """How a box lies in shared memory; None where the compiler chooses."""


class _Known(threading.local):
    """Launches by what makes them the same; a thread's own, since each has memory to write into."""

    def __init__(self) -> None:
        self.launches: dict[tuple[object, ...], DirectLaunch | None] = {}


_known = _Known()


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


def launch(
    kernel: Any,
    grid: tuple[int, int, int],
    *args: Any,
    warps: int,
    stages: int = 1,
    dependent: bool = False,
    registers: int | None = None,
    fused: bool = True,
    **constants: object,
) -> None:
    """`kernel[grid](*args, **constants)`; constants are the last parameters, in the kernel's order.

    Arguments are tensors, Boxed matrices, numbers and None. `dependent`: may start before the kernel
    ahead has ended; `fused`: products and sums may become one operation, as tuned for. What was
    launched before for such arguments goes to the driver in a few microseconds; Triton takes 20 and
    more to find its kernel.
    """
    key: list[object] = [
        id(kernel),
        warps,
        stages,
        dependent,
        registers,
        fused,
        *constants.values(),
    ]
    values: list[Any] = []
    matrices: list[torch.Tensor] = []
    low, device = 0, -1
    for arg in args:
        kind = type(arg)
        if kind is int:
            values.append(arg)
            key.append(_kind_of(arg))
        elif kind is float:
            values.append(arg)
            key.append(kind)
        elif arg is None:
            values.append(0)
            key.append(None)
        elif kind is Boxed:
            matrices.append(arg.matrix)
            values.append(0)
            key += (arg.matrix.dtype, arg.box)
        else:
            address = arg.data_ptr()
            low |= address
            values.append(address)
            key.append(arg.dtype)
            if device < 0:
                device = arg.get_device()
    key.append(device)
    if low % _ALIGNED:
        key += [arg.data_ptr() % _ALIGNED for arg in args if isinstance(arg, torch.Tensor)]
    same = tuple(key)
    found = _known.launches.get(same)
    if found is not None and not is_noting():
        found(grid, _stream_of(device), values, matrices)
        return
    options: dict[str, object] = {"enable_fp_fusion": fused}
    if dependent:
        options["launch_pdl"] = True
    if registers is not None:
        options["maxnreg"] = registers
    given = [_descriptor(arg) if isinstance(arg, Boxed) else arg for arg in args]
    made = kernel[grid](*given, **constants, num_warps=warps, num_stages=stages, **options)
    if made is None or same in _known.launches or is_noting():
        return  # interpreted, or one that stays Triton's, or noted
    assert (*kernel.arg_names[len(args) :],) == (*constants,), "constants are out of order"
    if len(_known.launches) >= _MOST_LAUNCHES:
        _known.launches.clear()
    _known.launches[same] = direct_launch(made, len(args))


def _kind_of(number: int) -> int:
    """What of a number Triton compiles a kernel for: 1, multiples of 16, and the 64 bits it takes."""
    kind = 1 if number == 1 else 2 if number % _ALIGNED == 0 else 0
    return kind if -(2**31) <= number < 2**31 else kind + 4


def _stream_of(device: int) -> int:
    stream: int = torch._C._cuda_getCurrentRawStream(device)
    return stream


def _descriptor(boxed: Boxed) -> TensorDescriptor | LaidOutDescriptor:
    box = list(boxed.box)
    if boxed.layout is None:
        return TensorDescriptor.from_tensor(boxed.matrix, box)
    return LaidOutDescriptor.from_tensor(boxed.matrix, box, boxed.layout)
