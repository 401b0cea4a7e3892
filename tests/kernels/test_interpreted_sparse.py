"""Sparse rows, interpreted: rows without entries, long ones, and none at all."""

from __future__ import annotations

import pytest
import torch
from quantchat.kernels.sparse import reference
from quantchat.kernels.sparse.add import add_sparse
from quantchat.kernels.sparse.product import SparseTile, sparse_product, tile_of

DTYPES = (torch.float16, torch.bfloat16)


def entries(rows: int, columns: int, share: float) -> tuple[torch.Tensor, ...]:
    """starts, columns, values; the first row empty, the last one half full."""
    chosen = torch.rand(rows, columns) < share
    chosen[0] = False
    chosen[-1] = torch.rand(columns) < 0.5
    counts = chosen.sum(1)
    starts = torch.cat((torch.zeros(1, dtype=torch.int64), counts.cumsum(0))).to(torch.int32)
    column = chosen.nonzero()[:, 1].to(torch.int32)
    return starts, column, torch.randn(len(column)).half()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("tokens", [1, 3, 8, 17])
@pytest.mark.parametrize(("rows", "columns", "share"), [(37, 576, 0.02), (5, 1000, 0.2)])
def test_product(rows: int, columns: int, share: float, tokens: int, dtype: torch.dtype) -> None:
    sparse = entries(rows, columns, share)
    x = torch.randn(tokens, columns).to(dtype)
    out = torch.full((tokens, rows), float("nan"))
    sparse_product(x, *sparse, out=out)
    truth = reference.sparse_product(x, *sparse)
    torch.testing.assert_close(out, truth, rtol=1e-5, atol=1e-4)
    assert bool((out[:, 0] == 0).all())


def test_product_reads_no_input_without_an_entry() -> None:
    starts = torch.tensor([0, 0, 1], dtype=torch.int32)
    column, value = torch.tensor([5], dtype=torch.int32), torch.tensor([2.0]).half()
    x = torch.ones(1, 8).half()
    x[0, 0] = float("inf")
    assert sparse_product(x, starts, column, value).tolist() == [[0.0, 2.0]]


def test_product_of_no_entries() -> None:
    starts = torch.zeros(10, dtype=torch.int32)
    none = torch.zeros(0, dtype=torch.int32)
    assert not sparse_product(torch.ones(2, 64).half(), starts, none, none.half()).any()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("rows", "columns", "share"), [(37, 576, 0.02), (5, 1000, 0.2)])
def test_add(rows: int, columns: int, share: float, dtype: torch.dtype) -> None:
    sparse = entries(rows, columns, share)
    dense = torch.randn(rows, columns).to(dtype)
    truth = reference.add_sparse(dense, *sparse)
    untouched = dense.clone()
    assert add_sparse(dense, *sparse) is dense
    # The interpreter cuts where a card rounds.
    torch.testing.assert_close(dense.float(), truth.float(), rtol=2**-7, atol=1e-3)
    empty = torch.zeros_like(dense, dtype=torch.bool)
    empty[reference.row_of_entries(sparse[0], len(sparse[1])), sparse[1].long()] = True
    assert torch.equal(dense[~empty], untouched[~empty])


def test_tiles_by_shape_and_tokens() -> None:
    assert tile_of(4096, 14336, 1) == SparseTile(rows=8, entries=128)
    assert tile_of(28672, 4096, 1) == SparseTile(rows=32, entries=32)
    assert tile_of(28672, 4096, 3) == SparseTile(rows=4, entries=32)
    assert tile_of(4096, 14336, 64) == SparseTile(rows=2, entries=128)
