"""Wrappers' fresh memory is poisoned in these tests, so that an unwritten output fails."""

from __future__ import annotations

import torch


def allocate(dtype: torch.dtype) -> torch.Tensor:
    """Memory as a wrapper would ask for it."""
    scope = {"torch": torch, "dtype": dtype, "__name__": "quantchat.kernels.example"}
    made = eval("torch.empty(3, 5, dtype=dtype)", scope)
    assert isinstance(made, torch.Tensor)
    return made


def test_memory_of_wrappers_is_poisoned() -> None:
    assert allocate(torch.bfloat16).isnan().all()
    assert (allocate(torch.int32) == torch.iinfo(torch.int32).max).all()
