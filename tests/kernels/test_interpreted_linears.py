"""The linears' kernels, interpreted, against their references on awkward shapes."""

from __future__ import annotations

import nearness
import pytest
import torch
from quantchat.kernels.w8a16 import gemv as w8_gemv
from quantchat.kernels.w8a16 import reference as w8_reference
from quantchat.kernels.w8a16 import tiles as w8_tiles
from quantchat.kernels.wna16 import dequantize as w4_dequantize
from quantchat.kernels.wna16 import gemv as w4_gemv
from quantchat.kernels.wna16 import reference as w4_reference
from quantchat.kernels.wna16.pack import pack
from quantchat.kernels.wna16.tiles import Tile

# The interpreter cuts where a card rounds to bf16: one unit, not half of one.
TOLERANCE = {torch.float16: 5e-4, torch.bfloat16: 8e-3}


def close(result: torch.Tensor, truth: torch.Tensor) -> None:
    nearness.close(result, truth, TOLERANCE[truth.dtype])


def int4_weights(outputs: int, columns: int, group: int) -> tuple[torch.Tensor, ...]:
    codes = torch.randint(0, 16, (outputs, columns), dtype=torch.uint8)
    scale = torch.rand(outputs, columns // group) * 0.01 + 0.001
    offset = -scale * torch.rand(outputs, columns // group) * 15
    return pack(codes, group), scale.half(), offset.half()


def poisoned(rows: int, columns: int, dtype: torch.dtype) -> torch.Tensor:
    return torch.full((rows, columns), float("nan"), dtype=dtype)


@pytest.mark.parametrize(
    ("rows", "outputs", "columns", "group", "dtype", "tile"),
    [
        (1, 5, 96, 32, torch.float16, None),
        (1, 3, 640, 128, torch.float16, Tile(outputs=2, groups=2, warps=1)),
        (1, 2, 320, 64, torch.bfloat16, Tile(outputs=1, groups=4, warps=1)),
        (1, 3, 704, 64, torch.float16, Tile(outputs=1, groups=4, warps=1)),
        (1, 3, 512, 32, torch.float16, Tile(outputs=1, groups=4, warps=1)),
        (2, 7, 192, 64, torch.bfloat16, None),
        (3, 9, 256, 128, torch.float16, None),
        (8, 5, 160, 32, torch.bfloat16, Tile(outputs=4, groups=4, warps=1)),
        (5, 17, 224, 32, torch.float16, None),
        (8, 18, 384, 128, torch.float16, None),
    ],
)
def test_int4_gemv(
    rows: int, outputs: int, columns: int, group: int, dtype: torch.dtype, tile: Tile | None
) -> None:
    weights = int4_weights(outputs, columns, group)
    x = torch.randn(rows, columns).to(dtype)
    out = poisoned(rows, outputs, dtype)
    w4_gemv.gemv(x, *weights, group_size=group, out=out, tile=tile)
    close(out, w4_reference.gemv(x, *weights, group_size=group))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_int4_gemv_adds_a_bias(dtype: torch.dtype) -> None:
    weights = int4_weights(5, 128, 64)
    x, bias = torch.randn(2, 128).to(dtype), torch.randn(5).to(dtype)
    truth = w4_reference.gemv(x, *weights, group_size=64, bias=bias)
    close(w4_gemv.gemv(x, *weights, group_size=64, bias=bias), truth)


def test_int4_gemv_survives_an_outlier() -> None:
    weights = int4_weights(4, 128, 128)
    x = torch.randn(1, 128)
    x[0, 7] = 30000.0
    truth = x.half().double() @ w4_reference.dequantize(*weights, 128, torch.float32).double().t()
    out = w4_gemv.gemv(x.half(), *weights, group_size=128)
    close(out, truth.half())


@pytest.mark.parametrize(
    ("outputs", "columns", "group"), [(5, 96, 32), (3, 192, 64), (6, 640, 128)]
)
def test_int4_dequantize(outputs: int, columns: int, group: int) -> None:
    weights = int4_weights(outputs, columns, group)
    for dtype in (torch.float16, torch.bfloat16):
        out = poisoned(outputs, columns, dtype)
        w4_dequantize.dequantize(*weights, group, dtype, out=out)
        close(out, w4_reference.dequantize(*weights, group, dtype))


@pytest.mark.parametrize(
    ("rows", "outputs", "columns", "dtype", "tile"),
    [
        (1, 5, 96, torch.float16, None),
        (1, 3, 656, torch.bfloat16, w8_tiles.Tile(outputs=2, words=64, warps=1)),
        (3, 7, 576, torch.bfloat16, None),
        (8, 5, 144, torch.float16, w8_tiles.Tile(outputs=4, words=32, warps=1)),
    ],
)
def test_int8_gemv(
    rows: int, outputs: int, columns: int, dtype: torch.dtype, tile: w8_tiles.Tile | None
) -> None:
    codes = torch.randint(-128, 128, (outputs, columns), dtype=torch.int8)
    scale = torch.rand(outputs) * 0.01
    x = torch.randn(rows, columns).to(dtype)
    bias = torch.randn(outputs).to(dtype)
    out = poisoned(rows, outputs, dtype)
    w8_gemv.gemv(x, codes, scale, out=out, tile=tile)
    close(out, w8_reference.gemv(x, codes, scale))
    w8_gemv.gemv(x, codes, scale, bias=bias, out=out, tile=tile)
    close(out, w8_reference.gemv(x, codes, scale, bias=bias))
