"""Few rows times a sparse matrix by rows, in fp32: what a dense linear adds to its sums.

A program takes some output rows and a few tokens; the lanes of a row take its entries side by side
and gather x. Entries are read before the kernel ahead has ended, x after.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

from .._launch import ceil_div, check_activation, check_out, launch, power_of_2

MAX_ROWS = 64
_TOKENS = 8
"""Tokens of a program, at most."""
_TALL_ROWS = 16384
"""From so many output rows on there are programs enough for short steps."""
_LONG_COLUMNS = 8192
"""Beyond these, rows hold more entries than one warp takes in a step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SparseTile:
    """What a program computes: `rows` rows, `entries` of each at a time."""

    rows: int
    entries: int
    warps: int = 4


@triton.jit
def sparse_product_kernel(
    x_ptr,
    starts_ptr,
    columns_ptr,
    values_ptr,
    y_ptr,
    M,
    N,
    K,
    BM: tl.constexpr,
    BR: tl.constexpr,
    BE: tl.constexpr,
    PDL: tl.constexpr,
):
    r = tl.program_id(0) * BR + tl.arange(0, BR)
    m = tl.program_id(1) * BM + tl.arange(0, BM)
    m_r = r < N
    m_m = m < M
    if PDL:
        gdc_launch_dependents()
    start = tl.load(starts_ptr + r, mask=m_r, other=0)
    end = tl.load(starts_ptr + r + 1, mask=m_r, other=0)
    most = tl.max(end - start, 0)
    e = start[:, None] + tl.arange(0, BE)[None, :]
    m_e = e < end[:, None]
    column = tl.load(columns_ptr + e, mask=m_e, other=0)
    value = tl.load(values_ptr + e, mask=m_e, other=0.0)
    if PDL:
        gdc_wait()
    p_x = x_ptr + tl.where(m_m, m, 0)[:, None, None] * K
    m_x = m_m[:, None, None] & m_e[None, :, :]
    x = tl.load(p_x + column[None, :, :], mask=m_x, other=0.0).to(tl.float32)
    total = x * value.to(tl.float32)[None, :, :]
    for _ in range(BE, most, BE):
        e += BE
        m_e = e < end[:, None]
        column = tl.load(columns_ptr + e, mask=m_e, other=0)
        value = tl.load(values_ptr + e, mask=m_e, other=0.0)
        m_x = m_m[:, None, None] & m_e[None, :, :]
        x = tl.load(p_x + column[None, :, :], mask=m_x, other=0.0).to(tl.float32)
        total += x * value.to(tl.float32)[None, :, :]
    p_y = y_ptr + m[:, None] * N + r[None, :]
    tl.store(p_y, tl.sum(total, 2), mask=m_m[:, None] & m_r[None, :])


def tile_of(rows: int, columns: int, tokens: int) -> SparseTile:
    """The tile for a matrix [rows, columns], of which about 0.45 % are entries (H100)."""
    if tokens == 1:
        if rows >= _TALL_ROWS:
            return SparseTile(rows=32, entries=32)
        return SparseTile(rows=8, entries=128)
    return SparseTile(
        rows=16 // min(_TOKENS, power_of_2(tokens)), entries=128 if columns > _LONG_COLUMNS else 32
    )


def sparse_product(
    x: torch.Tensor,
    starts: torch.Tensor,
    columns: torch.Tensor,
    values: torch.Tensor,
    *,
    out: torch.Tensor | None = None,
    dependent: bool = False,
    tile: SparseTile | None = None,
) -> torch.Tensor:
    """x [M, K] fp16 or bf16, M <= 64, times a sparse [N, K] -> fp32 [M, N].

    starts int32 [N + 1], columns int32 [entries] below K, values fp16 [entries]. `dependent` starts
    it while the kernel before it still runs (SM 90 and up); what it reads of the sparse matrix must
    then be no kernel's output.
    """
    check_activation(x)
    tokens, depth = x.shape
    rows = check_sparse(starts, columns, values)
    assert 1 <= tokens <= MAX_ROWS, f"sparse_product takes 1 to {MAX_ROWS} rows, not {tokens}"
    if out is None:
        out = torch.empty(tokens, rows, dtype=torch.float32, device=x.device)
    check_out(out, (tokens, rows), torch.float32)
    if tile is None:
        tile = tile_of(rows, depth, tokens)
    block = min(_TOKENS, power_of_2(tokens))
    launch(
        sparse_product_kernel,
        (ceil_div(rows, tile.rows), ceil_div(tokens, block), 1),
        x,
        starts,
        columns,
        values,
        out,
        tokens,
        rows,
        depth,
        BM=block,
        BR=tile.rows,
        BE=tile.entries,
        PDL=dependent,
        warps=tile.warps,
        dependent=dependent,
    )
    return out


def check_sparse(starts: torch.Tensor, columns: torch.Tensor, values: torch.Tensor) -> int:
    """Asserts dtypes and lengths; returns the number of rows."""
    assert starts.dtype == columns.dtype == torch.int32 and values.dtype == torch.float16
    assert starts.ndim == columns.ndim == 1 and columns.shape == values.shape and len(starts) > 1
    assert starts.is_contiguous() and columns.is_contiguous() and values.is_contiguous()
    return len(starts) - 1
