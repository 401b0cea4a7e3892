"""int4 tiles made dense, interpreted, on awkward shapes."""

from __future__ import annotations

import pytest
import torch
from quantchat.kernels.linear.dequantize import dequantize
from quantchat.kernels.linear.pack import pack

# The interpreter cuts where a card rounds to bf16: one unit, not half of one.
TOLERANCE = {torch.float16: 1e-3, torch.bfloat16: 8e-3}


@pytest.mark.parametrize(
    ("rows", "columns", "group", "gated"),
    [
        (5, 32, 32, False),
        (17, 96, 32, False),
        (40, 608, 32, True),
        (33, 192, 64, False),
        (6, 320, 64, True),
        (18, 128, 128, True),
        (37, 640, 128, False),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_dequantize(rows: int, columns: int, group: int, gated: bool, dtype: torch.dtype) -> None:
    codes = torch.randint(0, 16, (rows, columns), dtype=torch.uint8)
    scale = (torch.rand(rows, columns // group) * 0.01 + 0.001).half()
    offset = (-scale * torch.rand(rows, columns // group) * 15).half()
    out = torch.full((rows, columns), float("nan"), dtype=dtype)
    made = dequantize(pack(codes, scale, offset, group, gated=gated), dtype, out=out)
    wide = scale.float().repeat_interleave(group, 1), offset.float().repeat_interleave(group, 1)
    truth = codes.float() * wide[0] + wide[1]
    torch.testing.assert_close(made.float(), truth, rtol=TOLERANCE[dtype], atol=1e-6)
