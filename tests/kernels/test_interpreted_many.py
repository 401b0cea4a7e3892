"""Products of many rows with weights as stored, interpreted, on awkward shapes."""

from __future__ import annotations

import pytest
import torch
from quantchat.kernels.linear.launch import RowWeight
from quantchat.kernels.linear.many import INT8_LOW, INT8_SMALL, INT8_TILE, int8_tile, linear_many
from quantchat.kernels.linear.pack import pack
from quantchat.kernels.linear.reference import linear

# The interpreter cuts where a card rounds to bf16.
TOLERANCE = {torch.float16: 1e-3, torch.bfloat16: 8e-3}


def check(
    rows: int, dense: torch.Tensor, weight: object, dtype: torch.dtype, *, biased: bool
) -> None:
    x = torch.randn(rows, dense.shape[1]).to(dtype)
    bias = torch.randn(len(dense)).to(dtype) if biased else None
    out = torch.full((rows, len(dense)), float("nan"), dtype=dtype)
    made = linear_many(x, weight, bias=bias, out=out)  # type: ignore[arg-type]
    truth = linear(x, dense, bias=bias)
    assert float((made.float() - truth).norm() / truth.norm()) < TOLERANCE[dtype]


@pytest.mark.parametrize(
    ("rows", "outputs", "columns", "group", "gated", "dtype"),
    [
        (3, 5, 32, 32, False, torch.bfloat16),
        (66, 40, 224, 32, True, torch.float16),
        (129, 70, 192, 64, False, torch.bfloat16),
        (100, 140, 128, 64, True, torch.bfloat16),
        (66, 18, 128, 128, True, torch.float16),
        (70, 37, 384, 128, False, torch.bfloat16),
    ],
)
def test_int4(
    rows: int, outputs: int, columns: int, group: int, gated: bool, dtype: torch.dtype
) -> None:
    codes = torch.randint(0, 16, (outputs, columns), dtype=torch.uint8)
    scale = (torch.rand(outputs, columns // group) * 0.01 + 0.001).half()
    offset = (-scale * torch.rand(outputs, columns // group) * 15).half()
    wide = scale.float().repeat_interleave(group, 1), offset.float().repeat_interleave(group, 1)
    dense = codes.float() * wide[0] + wide[1]
    tiles = pack(codes, scale, offset, group, gated=gated)
    check(rows, dense, tiles, dtype, biased=rows % 2 == 0)


@pytest.mark.parametrize(
    ("rows", "outputs", "columns", "dtype"),
    [
        (1, 3, 16, torch.float16),
        (65, 70, 144, torch.bfloat16),
        (130, 33, 256, torch.bfloat16),
        (64, 128, 48, torch.float16),
    ],
)
def test_int8(rows: int, outputs: int, columns: int, dtype: torch.dtype) -> None:
    codes = torch.randint(-127, 128, (outputs, columns), dtype=torch.int8)
    scale = torch.rand(outputs) * 0.01
    weight = RowWeight(codes=codes, scale=scale)
    check(rows, codes.float() * scale[:, None], weight, dtype, biased=rows % 2 == 0)


def test_int8_tiles_are_by_rows_where_shared_memory_allows() -> None:
    assert [int8_tile(rows, 90) for rows in (64, 65)] == [INT8_LOW, INT8_TILE]
    assert {int8_tile(rows, sm) for rows in (64, 65) for sm in (86, 89, 120)} == {INT8_SMALL}
