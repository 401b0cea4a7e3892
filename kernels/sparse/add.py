"""Sparse entries added to a dense matrix in 16 bits, in place."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from .._launch import ceil_div, launch
from .product import check_sparse, tile_of


@triton.jit
def add_sparse_kernel(
    dense_ptr, starts_ptr, columns_ptr, values_ptr, N, K, BR: tl.constexpr, BE: tl.constexpr
):
    r = tl.program_id(0) * BR + tl.arange(0, BR)
    m_r = r < N
    start = tl.load(starts_ptr + r, mask=m_r, other=0)
    end = tl.load(starts_ptr + r + 1, mask=m_r, other=0)
    p_row = dense_ptr + r.to(tl.int64)[:, None] * K
    for first in range(0, tl.max(end - start, 0), BE):
        e = start[:, None] + first + tl.arange(0, BE)[None, :]
        m_e = e < end[:, None]
        p = p_row + tl.load(columns_ptr + e, mask=m_e, other=0)
        value = tl.load(values_ptr + e, mask=m_e, other=0.0).to(tl.float32)
        total = tl.load(p, mask=m_e, other=0.0).to(tl.float32) + value
        tl.store(p, total.to(dense_ptr.dtype.element_ty), mask=m_e)


def add_sparse(
    dense: torch.Tensor, starts: torch.Tensor, columns: torch.Tensor, values: torch.Tensor
) -> torch.Tensor:
    """dense [N, K] fp16 or bf16 with the entries added in place; as in reference.py.

    A row's columns differ from each other.
    """
    rows = check_sparse(starts, columns, values)
    assert dense.ndim == 2 and dense.shape[0] == rows and dense.is_contiguous()
    assert dense.dtype in (torch.float16, torch.bfloat16)
    tile = tile_of(rows, dense.shape[1], 1)
    launch(
        add_sparse_kernel,
        (ceil_div(rows, tile.rows), 1, 1),
        dense,
        starts,
        columns,
        values,
        rows,
        dense.shape[1],
        BR=tile.rows,
        BE=tile.entries,
        warps=tile.warps,
    )
    return dense
