"""Kernels that write 8-bit rows, interpreted: codes and scales are the reference's."""

from __future__ import annotations

import pytest
import torch
from nearness import close
from quantchat.kernels.activation.rows import activate, activate_quantized
from quantchat.kernels.norm.rows import norm_rows
from quantchat.kernels.quantize import reference
from quantchat.kernels.quantize.dense import dequantize_weight
from quantchat.kernels.quantize.product import scale_product
from quantchat.kernels.quantize.reference import CodeFormat
from quantchat.kernels.quantize.rows import quantize_rows

FORMS = ("int8", "fp8")
DTYPES = (torch.float16, torch.bfloat16)
# The interpreter cuts where a card rounds to bf16, at every rounding of the op.
TOLERANCE = {torch.float16: 5e-4, torch.bfloat16: 1.2e-2}
WIDTHS = (1, 100, 576, 640, 896, 1536, 3072, 3584, 5120, 8192)


def nearest_codes(x: torch.Tensor, codes: torch.Tensor, form: CodeFormat) -> None:
    """The codes are as near to x as the reference's, which differ at most in ties."""
    truth, scale = reference.quantize_rows(x, form)
    values = x.float() / scale[:, None]
    error, least = ((part.float() - values).abs() for part in (codes, truth))
    assert bool((error <= least * (1 + 1e-4) + 1e-6).all())


def poisoned_codes(rows: int, columns: int, form: CodeFormat) -> torch.Tensor:
    codes = torch.full((rows, columns), 127, dtype=torch.int8)
    return codes if form == "int8" else codes.view(torch.float8_e4m3fn)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("columns", WIDTHS)
def test_quantize_rows(columns: int, form: CodeFormat) -> None:
    x = torch.randn(3, columns).half()
    x[1] *= 100
    x[2] = 0
    codes = poisoned_codes(3, columns, form)
    scale = torch.full((3,), float("nan"))
    quantize_rows(x, form, codes=codes, scale=scale)
    nearest_codes(x, codes, form)
    _, truth_scale = reference.quantize_rows(x, form)
    torch.testing.assert_close(scale, truth_scale, rtol=1e-6, atol=0)


def test_every_fp8_code_comes_back_from_its_own_value() -> None:
    bits = torch.arange(256, dtype=torch.uint8)
    bits = bits[(bits & 0x7F) != 0x7F]
    values = bits.view(torch.float8_e4m3fn).float()
    # The largest code is in the row, so that its scale is 1.
    codes, scale = quantize_rows(values.half()[None], "fp8")
    assert scale.item() == 1.0
    assert torch.equal(codes[0].float(), values)
    middles = ((values[:126] + values[1:127]) / 2).half()
    row = torch.cat((middles, torch.tensor([448.0]).half()))[None]
    codes, _ = quantize_rows(row, "fp8")
    assert torch.equal(codes[0].float(), row[0].to(torch.float8_e4m3fn).float())
    dense = dequantize_weight(bits[None], torch.ones(1), torch.float16)
    assert torch.equal(dense[0].float(), values)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("rows", "columns"), [(1, 576), (3, 100), (5, 1536)])
def test_norms_write_the_codes_of_their_16bit_output(
    rows: int, columns: int, form: CodeFormat
) -> None:
    x, residual = torch.randn(2, rows, columns).half()
    weight = torch.randn(columns).half()
    total = torch.full_like(x, float("nan"))
    made = norm_rows(x, weight, 1e-5, residual=residual, total=total, form=form)
    plain = norm_rows(x, weight, 1e-5, residual=residual)
    _, scale = reference.quantize_rows(plain.values, form)
    assert made.scale is not None and made.total is total and plain.total is not None
    nearest_codes(plain.values, made.values, form)
    torch.testing.assert_close(made.scale, scale, rtol=1e-6, atol=0)
    assert torch.equal(total, plain.total)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("width", [50, 1030, 1536])
def test_activations_write_the_codes_of_their_16bit_output(width: int, form: CodeFormat) -> None:
    x = torch.randn(3, 2 * width).half() * 3
    codes = poisoned_codes(3, width, form)
    _, scale = activate_quantized(x, "silu", form, codes=codes)
    plain = activate(x, "silu")
    nearest_codes(plain, codes, form)
    _, truth_scale = reference.quantize_rows(plain, form)
    torch.testing.assert_close(scale, truth_scale, rtol=1e-6, atol=0)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("has_bias", [False, True])
def test_scale_product_writes_its_columns_only(has_bias: bool, dtype: torch.dtype) -> None:
    product = torch.randint(-(2**20), 2**20, (3, 1100), dtype=torch.int32)
    rows, columns = torch.rand(3) * 1e-3, torch.rand(1100) * 1e-3
    bias = torch.randn(1100).to(dtype) if has_bias else None
    whole = torch.full((3, 1300), float("nan"), dtype=dtype)
    scale_product(product, rows, columns, whole[:, 100:1200], bias=bias)
    truth = reference.scale_product(product, rows, columns, bias, dtype)
    close(whole[:, 100:1200], truth, TOLERANCE[dtype])
    assert whole[:, :100].isnan().all() and whole[:, 1200:].isnan().all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_dense_weights_of_8_bit_rows(dtype: torch.dtype) -> None:
    fp8 = torch.randn(5, 1040).mul_(50).to(torch.float8_e4m3fn).view(torch.uint8)
    int8 = torch.randint(-128, 128, (5, 1040), dtype=torch.int8)
    scale = torch.rand(5) * 0.01
    for codes in (fp8, int8):
        out = torch.full((5, 1040), float("nan"), dtype=dtype)
        dequantize_weight(codes, scale, dtype, out=out)
        close(out, reference.dequantize_weight(codes, scale, dtype), TOLERANCE[dtype])
