"""The start of a step in plain torch: the truth for the kernel."""

from __future__ import annotations

import torch

from ..linear.reference import squares_of


def slots(positions: torch.Tensor, table: torch.Tensor, page_tokens: int) -> torch.Tensor:
    """page * page_tokens + offset int64 [R] of int32 positions [R] in pages int32 [R, max_pages]."""
    place = positions.to(torch.int64)
    page = table.gather(1, (place // page_tokens)[:, None])[:, 0].to(torch.int64)
    return page * page_tokens + place % page_tokens


def scaled(rows: torch.Tensor, gamma: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """rows [R, C] times gamma [C], rounded once, and float32 sums of squares [R, ceil(C / 16)]."""
    return (rows.float() * gamma.float()).to(rows.dtype), squares_of(rows)
