"""Rows and 8-bit products on a real card against their references, on real and awkward shapes."""

from __future__ import annotations

import pytest

pytest.importorskip("triton")

import torch
from nearness import relative
from quantchat.kernels.activation import reference as activation_reference
from quantchat.kernels.activation.reference import Activation
from quantchat.kernels.activation.rows import activate, activate_quantized
from quantchat.kernels.norm.reference import RowNorm, StreamKind
from quantchat.kernels.norm.reference import stream_norm as stream_reference
from quantchat.kernels.norm.rows import norm_rows
from quantchat.kernels.norm.stream import stream_norm
from quantchat.kernels.quantize import reference
from quantchat.kernels.quantize.dense import dequantize_weight
from quantchat.kernels.quantize.matmul import scaled_matmul
from quantchat.kernels.quantize.parted import LastingWeight
from quantchat.kernels.quantize.reference import CodeFormat
from quantchat.kernels.quantize.rows import can_cast, quantize_rows
from quantchat.kernels.quantize.tiles import Parted

from quantchat.ops.linear_8bit import many_rows
from quantchat.ops.quantized_rows import QuantizedRows
from quantchat.quant.rounding import fp8_channel, int8_channel

pytestmark = pytest.mark.gpu

FORMS = ("int8", "fp8")
DTYPES = (torch.float16, torch.bfloat16)
SHAPES = ((1, 640), (3, 576), (7, 896), (33, 14336), (65, 8192), (257, 3584), (2, 18944))
TOLERANCE = {torch.float16: 2e-3, torch.bfloat16: 6e-3}


@pytest.fixture(autouse=True)
def device() -> torch.device:
    torch.manual_seed(0)
    return torch.device("cuda")


def nearest(
    x: torch.Tensor,
    codes: torch.Tensor,
    scale: torch.Tensor | None,
    form: CodeFormat,
    *,
    last_bit: float = 0.0,
) -> None:
    """`last_bit`: share by which values of another launch may differ from x before they are codes."""
    truth, truth_scale = reference.quantize_rows(x, form)
    assert scale is not None
    torch.testing.assert_close(scale, truth_scale, rtol=1e-6 + last_bit, atol=0)
    values = x.float() / truth_scale[:, None]
    error, least = ((part.float() - values).abs() for part in (codes, truth))
    assert bool((error <= least * (1 + 1e-4) + values.abs() * last_bit + 1e-6).all())


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("rows", "columns"), SHAPES)
def test_rows(
    rows: int, columns: int, dtype: torch.dtype, form: CodeFormat, device: torch.device
) -> None:
    x, residual = (torch.randn(2, rows, columns, device=device) * 3).to(dtype)
    weight = torch.randn(columns, device=device).to(dtype)
    for cast in {False, can_cast(device)}:
        nearest(x, *quantize_rows(x, form, cast=cast), form)
    plain = norm_rows(x, weight, 1e-5, residual=residual)
    made = norm_rows(x, weight, 1e-5, residual=residual, form=form)
    nearest(plain.values, made.values, made.scale, form, last_bit=4 * torch.finfo(dtype).eps)
    gate_up = torch.cat((x, residual), dim=1)
    nearest(activate(gate_up, "silu"), *activate_quantized(gate_up, "silu", form), form)


@pytest.mark.parametrize("dependent", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", ["rms", "rms_float", "layer"])
@pytest.mark.parametrize(("rows", "columns"), SHAPES)
def test_streams(
    rows: int,
    columns: int,
    kind: StreamKind,
    dtype: torch.dtype,
    dependent: bool,
    device: torch.device,
) -> None:
    if dependent and torch.cuda.get_device_capability()[0] < 9:
        pytest.skip("no dependent launch on this card")
    vectors = torch.randn(4, columns, device=device)
    behind = RowNorm(vectors[0], vectors[1] if kind == "layer" else None)
    ahead = RowNorm(vectors[2], vectors[3] if kind == "layer" else None)
    wish = {"kind": kind, "eps": 1e-6, "dtype": dtype, "scale": 0.5}
    made = torch.randn(2, rows, columns, device=device).to(dtype)
    given = torch.randn(rows, columns, device=device) * 3
    cases = (((), None, ahead), ((made[0],), behind, ahead), ((made[0], made[1]), None, None))
    for parts, first, second in cases:
        total, truth_total = given.clone(), given.clone()
        truth = stream_reference(truth_total, parts, behind=first, ahead=second, **wish)
        y = stream_norm(total, parts, behind=first, ahead=second, dependent=dependent, **wish)
        assert relative(y, truth) < 4 * torch.finfo(dtype).eps
        assert relative(total, truth_total) < 4 * torch.finfo(dtype).eps


@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("activation", ["gelu_tanh", "gelu"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_gelu(
    activation: Activation, dtype: torch.dtype, gated: bool, device: torch.device
) -> None:
    x = torch.randn(3, 2 * 4104, device=device).to(dtype)
    truth = (activation_reference.gated if gated else activation_reference.plain)(x, activation)
    assert relative(activate(x, activation, gated=gated), truth) < 2 * torch.finfo(dtype).eps


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("rows", "n", "k"),
    [
        (65, 576, 576),
        (77, 960, 576),
        (100, 50, 64),
        (129, 1152, 896),
        (600, 1000, 1168),
        (2048, 4096, 4096),
    ],
)
def test_products(
    rows: int, n: int, k: int, dtype: torch.dtype, form: CodeFormat, device: torch.device
) -> None:
    if torch.cuda.get_device_capability() < ((8, 9) if form == "fp8" else (8, 0)):
        pytest.skip(f"no {form} products on this card")
    dense = torch.randn(n, k, device=device) * 0.02
    weight = int8_channel(dense) if form == "int8" else fp8_channel(dense)
    bias = torch.randn(n, device=device).to(dtype)
    x = torch.randn(rows, k, device=device).to(dtype)
    x[0] *= 100
    codes = QuantizedRows(*quantize_rows(x, form))
    truth = codes.dequantize(torch.float64) @ weight.dequantize(torch.float32).double().t()
    truth += bias.double()
    product = many_rows(weight, bias, activations=form, dtype=dtype)
    assert product is not None
    assert relative(product(codes), truth) < TOLERANCE[dtype]
    assert torch.equal(product(x), product(codes))
    stored = weight.codes if form == "int8" else weight.codes.view(torch.float8_e4m3fn)
    own = scaled_matmul(codes.codes, codes.scale, stored, weight.scale, dtype=dtype, bias=bias)
    assert relative(own, truth) < TOLERANCE[dtype]


@pytest.mark.parametrize("tile_rows", [64, 128, 256])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("rows", "n", "k"), [(70, 50, 64), (300, 400, 8208), (257, 2064, 576), (129, 28672, 2048)]
)
def test_parted_products(
    rows: int, n: int, k: int, form: CodeFormat, tile_rows: int, device: torch.device
) -> None:
    if torch.cuda.get_device_capability() != (9, 0):
        pytest.skip("written for SM 90")
    codes, row_scale = quantize_rows(torch.randn(rows, k, device=device).half(), form)
    weight, scale = quantize_rows(torch.randn(n, k, device=device).half(), form)
    bias = torch.randn(n, device=device).half()
    truth = codes.double() @ weight.double().t() * row_scale[:, None] * scale + bias.double()
    tile = Parted(rows=tile_rows, stages=4)
    lasting = LastingWeight.of(weight)
    made = [
        scaled_matmul(
            codes,
            row_scale,
            weight,
            scale,
            dtype=torch.float16,
            bias=bias,
            tile=tile,
            lasting=known,
        )
        for known in (None, lasting, lasting)
    ]
    assert relative(made[0], truth) < TOLERANCE[torch.float16]
    assert torch.equal(made[0], made[1]) and torch.equal(made[1], made[2])
    assert not lasting.arrived.any()


@pytest.mark.parametrize("dtype", DTYPES)
def test_fp8_weights_become_dense_on_any_card(dtype: torch.dtype, device: torch.device) -> None:
    weight = fp8_channel(torch.randn(577, 1536, device=device))
    made = dequantize_weight(weight.codes, weight.scale, dtype)
    assert torch.equal(made, weight.dequantize(dtype))
