"""Products in 8 bits as a card runs them, with the kernels interpreted and torch's CPU products."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from nearness import relative
from quantchat.kernels.quantize.matmul import Tile, scaled_matmul
from quantchat.kernels.quantize.tiles import SMALL, SQUARE, WALKED, Parted, product_tile

from quantchat.ops import linear_8bit
from quantchat.ops.linear_8bit import (
    ExpandedProduct,
    Fp8Product,
    Int8Product,
    KernelProduct,
    ProductByRows,
    many_rows,
    product_columns,
)
from quantchat.ops.linear_tiles import tile_linear
from quantchat.ops.quantized_rows import CodeFormat, QuantizedRows, quantize_rows
from quantchat.ops.stream import Stream
from quantchat.ops.torch_ops import TorchOps
from quantchat.ops.triton_ops import TritonOps
from quantchat.quant.rounding import fp8_channel, int8_channel
from quantchat.quant.tensor import Fp8ChannelWeight, Int8ChannelWeight
from quantchat.shapes import SHAPES

FORMS = ("int8", "fp8")


def weight_of(form: CodeFormat, n: int, k: int) -> Int8ChannelWeight | Fp8ChannelWeight:
    w = torch.randn(n, k) * 0.05
    return int8_channel(w) if form == "int8" else fp8_channel(w)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("has_bias", [False, True])
@pytest.mark.parametrize(("rows", "n", "k"), [(65, 48, 64), (77, 2064, 96), (65, 576, 1536)])
def test_products_are_those_of_the_rounded_rows(
    rows: int, n: int, k: int, has_bias: bool, form: CodeFormat
) -> None:
    weight = weight_of(form, n, k)
    bias = torch.randn(n).bfloat16() if has_bias else None
    product = many_rows(weight, bias, activations=form, dtype=torch.bfloat16)
    assert product is not None and product.form == form
    x = torch.randn(rows, k).bfloat16()
    codes = quantize_rows(x, form)
    truth = codes.dequantize(torch.float64) @ weight.dequantize(torch.float32).double().t()
    if bias is not None:
        truth += bias.double()
    # the interpreter cuts where a card rounds to bf16
    assert relative(product(x), truth) < 6e-3
    assert relative(product(codes), truth) < 6e-3


def test_tiles_that_run_at_once_are_small_and_more_are_walked() -> None:
    multiprocessors = 132
    for rows in (17, 64, 65, 128, 256, 512, 2048):
        for columns in (576, 4096, 6144, 28672):
            tile = product_tile(rows, columns, 4096, 90, multiprocessors)
            assert tile.rows <= max(64, 2 * rows)
            if isinstance(tile, Parted):
                continue
            programs = -(-rows // tile.rows) * -(-columns // tile.columns)
            assert tile.walkers or programs <= 2 * multiprocessors
    small = product_tile(128, 6144, 4096, 90, multiprocessors)
    assert isinstance(small, Tile) and not small.walkers
    assert product_tile(128, 28672, 4096, 90, multiprocessors) is WALKED
    assert product_tile(400, 6144, 4096, 90, multiprocessors) is WALKED
    assert {product_tile(rows, 4096, 4096, 89, 128) for rows in (64, 512)} == {SMALL}
    assert product_tile(64, 4096, 4096, 100, 148) is SQUARE


def test_warps_do_one_thing_where_that_was_measured_to_be_faster() -> None:
    layer = ((6144, 4096), (4096, 4096), (28672, 4096), (4096, 14336))
    parted = {
        rows: [isinstance(product_tile(rows, *shape, 90, 132), Parted) for shape in layer]
        for rows in (64, 128, 256, 384, 512, 513)
    }
    assert parted == {
        64: [False] * 4,
        128: [False, False, False, True],
        256: [True] * 4,
        384: [False] * 4,
        512: [True, False, True, True],
        513: [False] * 4,
    }
    assert not isinstance(product_tile(256, 576, 1536, 90, 132), Parted)


def test_only_weights_that_stay_are_read_before_their_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear_8bit, "sm_version", lambda device: 90)
    weight = weight_of("int8", 48, 64)
    stays, made = (
        many_rows(weight, None, activations="int8", dtype=torch.bfloat16, lasting=lasting)
        for lasting in (True, False)
    )
    assert isinstance(stays, KernelProduct) and stays._lasting is not None
    assert stays._lasting.boxed.matrix.data_ptr() == weight.codes.data_ptr()
    assert isinstance(made, KernelProduct) and made._lasting is None
    asked: list[bool] = []

    def watched(*args: object, lasting: bool = True, **kwargs: object) -> KernelProduct:
        asked.append(lasting)
        return made

    monkeypatch.setattr(linear_8bit, "many_rows", watched)
    assert isinstance(weight, Int8ChannelWeight)
    expanded = ExpandedProduct(lambda: weight.codes, weight.scale, None, dtype=torch.bfloat16)
    expanded(torch.randn(20, 64).bfloat16())
    assert asked == [False]


def test_rows_choose_among_products(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear_8bit, "sm_version", lambda device: 90)
    ways = ((40, "library"), (linear_8bit.ANY_ROWS, "kernel"))
    monkeypatch.setattr(linear_8bit, "INT8_WAYS", {90: ways})
    weight = weight_of("int8", 48, 64)
    product = many_rows(weight, None, activations="int8", dtype=torch.bfloat16)
    assert isinstance(product, ProductByRows) and product.form == "int8"
    ran: list[str] = []
    for made in (Int8Product, KernelProduct):
        monkeypatch.setattr(made, "__call__", lambda self, x: ran.append(type(self).__name__))
    for rows in (39, 40, 41, 4000):
        product(torch.zeros(rows, 64))
    assert ran == ["Int8Product"] * 2 + ["KernelProduct"] * 2
    alone = many_rows(weight_of("int8", 50, 64), None, activations="int8", dtype=torch.bfloat16)
    assert isinstance(alone, KernelProduct)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_an_int8_product_in_pieces_is_that_of_the_whole(dtype: torch.dtype) -> None:
    weight = int8_channel(torch.randn(1800, 64))
    bias = torch.randn(1800).to(dtype)
    x = torch.randn(20, 64).to(dtype)
    whole = Int8Product(weight.codes, weight.scale, bias, dtype=dtype)
    pieces = Int8Product(weight.codes, weight.scale, bias, dtype=dtype, product_bytes=20 * 4 * 600)
    assert torch.equal(whole(x), pieces(x))


@pytest.mark.parametrize(
    ("rows", "columns", "size", "step"),
    [
        (2048, 28672, 32 << 20, 4096),
        (2048, 6144, 32 << 20, 3072),
        (2048, 4096, 32 << 20, 4096),
        (100, 600, 1, 256),
        (100, 40, 1 << 20, 40),
    ],
)
def test_pieces_are_even_and_small_enough(rows: int, columns: int, size: int, step: int) -> None:
    assert product_columns(rows, columns, size) == step


def test_what_no_product_takes_is_left_to_others() -> None:
    int8, fp8 = (weight_of(form, 50, 72) for form in FORMS)
    assert many_rows(int8, None, activations="int8", dtype=torch.bfloat16) is None
    fitting = weight_of("int8", 48, 64)
    assert many_rows(fitting, None, activations="16bit", dtype=torch.bfloat16) is None
    dense = many_rows(fp8, None, activations="fp8", dtype=torch.bfloat16)
    assert dense is not None and dense.form is None
    x = torch.randn(3, 72).bfloat16()
    assert relative(dense(x), x.double() @ fp8.dequantize(torch.float32).double().t()) < 1.5e-2


def test_outputs_that_the_library_does_not_take_run_in_our_kernel() -> None:
    weight = weight_of("fp8", 50, 64)
    product = many_rows(weight, None, activations="fp8", dtype=torch.bfloat16)
    assert isinstance(product, KernelProduct) and product.form == "fp8"
    x = torch.randn(70, 64).bfloat16()
    rounded = quantize_rows(x, "fp8").dequantize(torch.float64)
    assert relative(product(x), rounded @ weight.dequantize(torch.float32).double().t()) < 8e-3


def test_codes_of_another_kind_are_not_taken() -> None:
    weight = weight_of("fp8", 48, 64)
    assert isinstance(weight, Fp8ChannelWeight)
    product = Fp8Product(weight.codes, weight.scale, None, dtype=torch.bfloat16)
    with pytest.raises(AssertionError, match="int8"):
        product(quantize_rows(torch.randn(65, 64), "int8"))


@pytest.mark.parametrize("summed", [False, True])
def test_the_card_s_ops_hand_codes_to_linears_that_read_them(summed: bool) -> None:
    """A norm, alone or of a sum, and a gate, each with the codes of what it makes in one launch."""
    spec = dataclasses.replace(SHAPES["smollm2-135m"], layers=1, hidden=64)
    cpu, dtype = torch.device("cpu"), torch.float16
    plain = TorchOps(spec, device=cpu, dtype=dtype)
    ops = TritonOps(spec, device=cpu, dtype=dtype, dependent_launch=False, activations="int8")
    weights = weight_of("int8", 96, 64), weight_of("int8", 64, 48)
    up, down = (
        tile_linear(each, None, dtype=dtype, gated=False, activations="int8", dependent=False)
        for each in weights
    )
    assert up is not None and down is not None
    rows = max(up.few_rows, down.few_rows) + 1
    residual, added = torch.randn(2, rows, 64).half()
    norm = torch.rand(64).half() + 0.5
    stream = Stream(residual=residual.clone(), pending=added if summed else None)
    made = ops.gate(stream, norm, up, down)
    assert isinstance(made, QuantizedRows) and made.form == "int8" and made.shape == (rows, 48)
    total = (residual.float() + added.float()).half() if summed else residual
    assert stream.pending is None and torch.equal(stream.residual, total)
    inner = plain.rms_norm(total.float(), norm).float() @ weights[0].dequantize(torch.float32).t()
    assert relative(made.dequantize(torch.float32), plain.silu_mul(inner)) < 0.03


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize(("rows", "n", "k"), [(17, 40, 64), (33, 19, 144), (1, 16, 16)])
def test_scaled_matmul(rows: int, n: int, k: int, dtype: torch.dtype, form: CodeFormat) -> None:
    codes = quantize_rows(torch.randn(rows, k), form)
    weight = weight_of(form, n, k)
    bias = torch.randn(n).to(dtype)
    out = torch.full((rows, n), float("nan"), dtype=dtype)
    stored = weight.codes if isinstance(weight, Int8ChannelWeight) else weight.floats()
    tile = Tile(rows=16, columns=16, depth=64, warps=1, stages=1, group=2)
    for given in (None, bias):
        scaled_matmul(
            codes.codes,
            codes.scale,
            stored,
            weight.scale,
            dtype=dtype,
            bias=given,
            out=out,
            tile=tile,
        )
        truth = codes.dequantize(torch.float64) @ weight.dequantize(torch.float32).double().t()
        truth = truth if given is None else truth + given.double()
        assert torch.isfinite(out).all()
        assert relative(out, truth) < 8e-3
