"""Sparse rows in plain torch: the truth that the kernels are held to.

A matrix [N, K] by rows: starts int32 [N + 1], columns int32 [entries], values fp16 [entries].
"""

from __future__ import annotations

import torch


def row_of_entries(starts: torch.Tensor, entries: int) -> torch.Tensor:
    """Row of each entry, int64 [entries]."""
    counts = (starts[1:] - starts[:-1]).long()
    rows = torch.arange(len(counts), device=starts.device)
    return torch.repeat_interleave(rows, counts, output_size=entries)


def add_sparse(
    dense: torch.Tensor, starts: torch.Tensor, columns: torch.Tensor, values: torch.Tensor
) -> torch.Tensor:
    """dense [N, K] with the entries added in fp32, rounded once -> a matrix of its own."""
    wide = dense.float().clone()
    flat = row_of_entries(starts, len(columns)) * dense.shape[1] + columns
    wide.view(-1).index_add_(0, flat, values.float())
    return wide.to(dense.dtype)


def sparse_product(
    x: torch.Tensor, starts: torch.Tensor, columns: torch.Tensor, values: torch.Tensor
) -> torch.Tensor:
    """x [M, K] times the entries of [N, K] -> fp32 [M, N]."""
    rows = row_of_entries(starts, len(columns))
    terms = x.float()[:, columns.long()] * values.float()
    out = torch.zeros(x.shape[0], len(starts) - 1, dtype=torch.float32, device=x.device)
    return out.index_add_(1, rows, terms)
