"""Rows of a matrix in slices that stay in a CPU's cache or a GPU's spare memory."""

from __future__ import annotations

from collections.abc import Callable

import torch

from quantchat.cores import each

SLICE_ELEMENTS_CPU = 1 << 17
SLICE_ELEMENTS_GPU = 1 << 25


def row_slices(weight: torch.Tensor, copies: int) -> list[slice]:
    """Slices over the rows of weight [N, K], smaller where `copies` of them are held at once."""
    n, k = weight.shape
    elements = SLICE_ELEMENTS_CPU if weight.device.type == "cpu" else SLICE_ELEMENTS_GPU // copies
    step = max(1, elements // k)
    return [slice(start, min(start + step, n)) for start in range(0, n, step)]


def each_slice(weight: torch.Tensor, copies: int, work: Callable[[slice], None]) -> None:
    """`work` of each of `row_slices`, on the CPU in a thread each."""
    slices = row_slices(weight, copies)
    if weight.device.type == "cpu":
        each(work, slices)
        return
    for rows in slices:
        work(rows)
