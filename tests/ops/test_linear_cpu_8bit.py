"""8-bit inputs on the CPU: the product of the rounded rows, and only for many of them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from quantchat.ops import linear_cpu_8bit
from quantchat.ops.linear_cpu import cpu_linear
from quantchat.ops.quantized_rows import CodeFormat, prepare_rows, quantize_rows
from quantchat.quant.rounding import fp8_channel, int8_channel
from quantchat.quant.scheme import ActivationFormat
from quantchat.quant.tensor import Fp8ChannelWeight, Int8ChannelWeight, StoredWeight


def weight_of(form: CodeFormat, n: int, k: int) -> StoredWeight:
    w = torch.randn(n, k) * 0.05
    return int8_channel(w) if form == "int8" else fp8_channel(w)


@pytest.mark.parametrize("form", ["int8", "fp8"])
@pytest.mark.parametrize(("n", "k"), [(48, 64), (50, 66), (576, 1536), (33, 97)])
@pytest.mark.parametrize("copy", [None, torch.float32])
def test_many_rows_are_rounded_before_the_product(
    form: CodeFormat, n: int, k: int, copy: torch.dtype | None
) -> None:
    torch.manual_seed(n * k)
    weight, bias = weight_of(form, n, k), torch.randn(n)
    op = cpu_linear(weight, bias, dtype=torch.bfloat16, copy_dtype=copy, activations=form)
    x = torch.randn(70, k).to(torch.bfloat16)
    x[3] *= 1000
    rounded = quantize_rows(x, form).dequantize(torch.float32).double()
    dense = weight.dequantize(torch.float32).double()
    got = op(x).double()
    exact = rounded @ dense.t() + bias.double()
    rows = (got - exact).norm(dim=1) / exact.norm(dim=1)
    assert float(rows.max()) < 5e-3
    unrounded = x.double() @ dense.t() + bias.double()
    assert float((got - unrounded).norm() / unrounded.norm()) > float(rows.max())


def test_a_processor_without_int8_units_gets_the_same_product(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    torch.manual_seed(4)
    weight = int8_channel(torch.randn(48, 64))
    op = cpu_linear(weight, None, dtype=torch.bfloat16, copy_dtype=None, activations="int8")
    x = torch.randn(70, 64).to(torch.bfloat16)
    copied = cpu_linear(
        weight, None, dtype=torch.bfloat16, copy_dtype=torch.float32, activations="int8"
    )
    monkeypatch.setattr(linear_cpu_8bit, "int8_products_are_exact", lambda: False)
    monkeypatch.setattr(torch, "_int_mm", None)
    assert torch.equal(op(x), copied(x))


@pytest.mark.parametrize("form", ["int8", "fp8"])
def test_few_rows_are_not_rounded(form: CodeFormat) -> None:
    weight = weight_of(form, 32, 64)
    eight = cpu_linear(weight, None, dtype=torch.bfloat16, copy_dtype=None, activations=form)
    sixteen = cpu_linear(weight, None, dtype=torch.bfloat16, copy_dtype=None)
    x = torch.randn(2, 64).to(torch.bfloat16)
    assert torch.equal(eight(x), sixteen(x))


@pytest.mark.parametrize("form", ["int8", "fp8"])
def test_a_row_of_zeros_stays_zero(form: CodeFormat) -> None:
    rows = quantize_rows(torch.zeros(2, 5), form)
    assert not rows.dequantize(torch.float32).any() and bool((rows.scale > 0).all())
    assert rows.form == form and rows.shape == (2, 5)


@pytest.mark.parametrize("activations", ["int8", "int8_outliers"])
@pytest.mark.parametrize(("n", "k"), [(48, 64), (33, 97), (576, 1536)])
@pytest.mark.parametrize("copy", [None, torch.float32, torch.bfloat16])
def test_all_rows_are_rounded_where_the_scheme_says_so(
    activations: ActivationFormat, n: int, k: int, copy: torch.dtype | None
) -> None:
    torch.manual_seed(n * k)
    weight, bias = int8_channel(torch.randn(n, k) * 0.05), torch.randn(n)
    op = cpu_linear(
        weight,
        bias,
        dtype=torch.bfloat16,
        copy_dtype=copy,
        activations=activations,
        all_rows=True,
    )
    dense = weight.dequantize(torch.float64)
    for rows in (1, 3, 70):
        x = torch.randn(rows, k)
        x[:, ::31] *= 12
        x = x.to(torch.bfloat16)
        codes, scale = prepare_rows(x, activations)
        exact = codes.double() * scale[:, None] @ dense.t() + bias.double()
        got = op(x).double()
        error = float((got - exact).norm() / exact.norm())
        assert error < 5e-3
        unrounded = x.double() @ dense.t() + bias.double()
        assert activations != "int8" or float((got - unrounded).norm() / exact.norm()) > error
        alone = torch.cat([op(row[None]) for row in x[:3]]).double()
        assert float((alone - got[:3]).norm() / exact.norm()) < 5e-3


def test_outliers_keep_the_rest_of_their_row_precise() -> None:
    torch.manual_seed(5)
    weight = int8_channel(torch.randn(64, 256) * 0.05)
    x = torch.randn(2, 256).clamp_(-5, 5).to(torch.bfloat16)
    x[:, 7] = 600
    exact = x.double() @ weight.dequantize(torch.float64).t()
    errors = []
    for activations in ("int8", "int8_outliers"):
        op = cpu_linear(
            weight,
            None,
            dtype=torch.bfloat16,
            copy_dtype=None,
            activations=activations,
            all_rows=True,
        )
        errors.append(float((op(x).double() - exact).norm() / exact.norm()))
    assert errors[1] < 0.004 < errors[0]


def test_rows_are_rounded_in_other_dtypes_too() -> None:
    weight = int8_channel(torch.randn(32, 64))
    op = cpu_linear(
        weight, None, dtype=torch.float32, copy_dtype=None, activations="int8", all_rows=True
    )
    x = torch.randn(1, 64)
    rounded = quantize_rows(x, "int8").dequantize(torch.float32)
    truth = rounded @ weight.dequantize(torch.float32).t()
    torch.testing.assert_close(op(x), truth, rtol=1e-4, atol=1e-4)
    assert op.owns_copy and op.packed() is None


@pytest.mark.parametrize("form", ["int8", "fp8"])
@pytest.mark.parametrize("copy", [None, torch.float32])
def test_input_scales_of_calibration_are_taken(form: CodeFormat, copy: torch.dtype | None) -> None:
    weight = weight_of(form, 48, 64)
    assert isinstance(weight, (Int8ChannelWeight, Fp8ChannelWeight))
    given = torch.tensor(0.01 if form == "int8" else 0.002)
    fixed = replace(weight, input_scale=given)
    op = cpu_linear(fixed, None, dtype=torch.bfloat16, copy_dtype=copy, activations=form)
    x = torch.randn(40, 64).to(torch.bfloat16)
    rounded = quantize_rows(x, form, given).dequantize(torch.float32)
    assert float(x.float().abs().max()) > float(rounded.abs().max()), "some must be clipped"
    truth = rounded @ weight.dequantize(torch.float32).t()
    assert float((op(x).float() - truth).norm() / truth.norm()) < 5e-3
    measured = cpu_linear(weight, None, dtype=torch.bfloat16, copy_dtype=copy, activations=form)
    assert not torch.equal(measured(x), op(x))
    assert torch.equal(measured(x[:2]), op(x[:2])), "few rows are not rounded"
