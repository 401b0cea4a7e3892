"""What a launch needs to know of the card, and the checks that wrappers share.

Every wrapper is safe inside CUDA graph capture: it reads shapes and host facts only, allocates
with torch.empty, and never synchronises.
"""

from __future__ import annotations

import functools

import torch
import triton

PLAIN_SM = 0
"""Stands for "no card": the interpreter on CPU tensors."""
LOWEST_DOT_SM = 80
"""tl.dot has no tensor-core path below, and is very slow there."""
LOWEST_ASM_SM = 75


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
    return int(triton.next_power_of_2(n))


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
