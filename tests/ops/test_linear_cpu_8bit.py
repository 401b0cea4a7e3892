"""8-bit inputs on the CPU: the product of the rounded rows, and only for many of them."""

from __future__ import annotations

import pytest
import torch

from quantchat.ops.linear_cpu import cpu_linear
from quantchat.ops.quantized_rows import CodeFormat, quantize_rows
from quantchat.quant.rounding import fp8_channel, int8_channel
from quantchat.quant.tensor import StoredWeight


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
