"""Rows prepared for int8 weights, and codes by a scale that is given, interpreted."""

from __future__ import annotations

import pytest
import torch
from quantchat.kernels.activation.rows import activate, activate_quantized
from quantchat.kernels.linear.reference import squares_of
from quantchat.kernels.norm.rows import norm_rows
from quantchat.kernels.quantize import reference
from quantchat.kernels.quantize.prepare import prepare_rows, round_rows
from quantchat.kernels.quantize.reference import CodeFormat
from quantchat.kernels.quantize.rows import quantize_rows

DTYPES = (torch.float16, torch.bfloat16)
STEP = {torch.float16: 2**-10, torch.bfloat16: 2**-7}
"""Twice the unit roundoff: the interpreter cuts where a card rounds to bf16."""


def planted(rows: int, columns: int, dtype: torch.dtype) -> torch.Tensor:
    """Rows of which some have outliers, one has nothing else, and one is zero."""
    x = torch.randn(rows, columns)
    x[0, :: max(1, columns // 5)] *= 40
    x[1] = torch.where(x[1] < 0, -9.0, 9.0)
    x[2] = 0
    return x.to(dtype)


def matches(
    prepared: torch.Tensor, scale: torch.Tensor, truth: tuple[torch.Tensor, torch.Tensor]
) -> None:
    torch.testing.assert_close(scale, truth[1], rtol=1e-6, atol=0)
    difference = (prepared.float() - truth[0].float()).abs()
    whole = truth[0].float() == truth[0].float().round()
    # Values halfway between integers may go either way: few do.
    assert bool(
        (difference[whole] <= truth[0].float()[whole].abs() * STEP[truth[0].dtype] + 1).all()
    )
    rest = truth[0].float()[~whole].abs() * STEP[truth[0].dtype]
    assert bool((difference[~whole] <= rest).all())
    small = difference[truth[0].float().abs() <= 127]
    assert (small > 0.5).float().mean() < 1e-3 + 1 / small.numel()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("threshold", [None, 6.0])
@pytest.mark.parametrize("columns", [1, 100, 576, 4096, 18944])
def test_prepare_rows(columns: int, threshold: float | None, dtype: torch.dtype) -> None:
    x = planted(4, columns, dtype)
    out = torch.full_like(x, float("nan"))
    scale = torch.full((4,), float("nan"))
    prepare_rows(x, threshold=threshold, out=out, scale=scale)
    matches(out, scale, reference.prepare_rows(x, threshold=threshold))
    small = out.float()[x.abs() < 6] if threshold else out.float()
    assert torch.equal(small, small.round()) and bool((small.abs() <= 127).all())


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("threshold", [None, 6.0])
def test_prepare_rows_divides_by_the_root_mean_square(
    threshold: float | None, dtype: torch.dtype
) -> None:
    residual = planted(5, 600, dtype) * 3
    squares = squares_of(residual)
    out, scale = prepare_rows(residual, squares=squares, eps=1e-5, threshold=threshold)
    truth = reference.prepare_rows(residual, squares=squares, eps=1e-5, threshold=threshold)
    matches(out, scale, truth)
    # The threshold is on what the linear reads, not on the residual.
    normed = residual.float() / torch.sqrt(residual.float().square().mean(-1, keepdim=True) + 1e-5)
    back = out.float() * scale[:, None]
    assert (back - normed).abs().max() <= normed.abs().max() * (1 / 254 + STEP[dtype])


def test_outliers_of_any_size_stay_in_range() -> None:
    x = torch.full((1, 64), 0.01).half()
    x[0, 3] = 60000
    out, scale = prepare_rows(x, threshold=6.0)
    assert torch.isfinite(out).all()
    assert float(out[0, 3] * scale[0]) == pytest.approx(60000, rel=1e-3)


def test_a_row_does_not_depend_on_its_neighbours() -> None:
    x = planted(4, 256, torch.float16)
    out, scale = prepare_rows(x, threshold=6.0)
    for i in range(4):
        alone, alone_scale = prepare_rows(x[i : i + 1], threshold=6.0)
        assert torch.equal(out[i], alone[0]) and scale[i] == alone_scale[0]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("threshold", [None, 6.0])
def test_round_rows_puts_the_values_back(threshold: float | None, dtype: torch.dtype) -> None:
    x = planted(4, 576, dtype)
    out = torch.full_like(x, float("nan"))
    round_rows(x, threshold=threshold, out=out)
    truth = reference.round_rows(x, threshold=threshold).float()
    step = reference.prepare_rows(x, threshold=threshold)[1][:, None]
    difference = (out.float() - truth).abs()
    assert bool((difference <= step + truth.abs() * STEP[dtype]).all())
    if threshold:
        outlier = x.abs() >= threshold
        error = (out.float() - x.float()).abs()[outlier]
        assert bool((error <= x.float().abs()[outlier] * STEP[dtype]).all())


@pytest.mark.parametrize("form", ["int8", "fp8"])
def test_codes_by_a_given_scale(form: CodeFormat) -> None:
    given = torch.tensor(0.02)
    x = torch.randn(3, 2 * 600).half() * 3
    weight = torch.rand(1200).half()
    out = torch.full((3,), float("nan"))

    def check(values: torch.Tensor, codes: torch.Tensor, scale: torch.Tensor | None) -> None:
        truth, _ = reference.quantize_rows(values, form, given)
        assert scale is not None and torch.equal(scale, given.expand(3))
        assert torch.equal(codes.float(), truth.float())
        assert form == "fp8" or int((codes.abs() == 127).sum()) > 3, "something must be clipped"

    check(x, *quantize_rows(x, form, given=given, scale=out))
    made = norm_rows(x, weight, 1e-5, form=form, given=given / 4)
    given = given / 4
    check(norm_rows(x, weight, 1e-5).values, made.values, made.scale)
    check(activate(x, "silu"), *activate_quantized(x, "silu", form, given=given))
