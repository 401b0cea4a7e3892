"""Norm and activation, interpreted, against their references."""

from __future__ import annotations

import pytest
import torch
from nearness import close
from quantchat.kernels.activation import reference as activation_reference
from quantchat.kernels.activation.reference import Activation
from quantchat.kernels.activation.rows import activate
from quantchat.kernels.norm import reference as norm_reference
from quantchat.kernels.norm.reference import StreamKind
from quantchat.kernels.norm.rows import norm_rows
from quantchat.kernels.norm.stream import stream_norm

DTYPES = (torch.float16, torch.bfloat16)
# The interpreter cuts where a card rounds to bf16, at every rounding of the op.
TOLERANCE = {torch.float16: 5e-4, torch.bfloat16: 1.2e-2}


def poisoned(*shape: int, dtype: torch.dtype) -> torch.Tensor:
    return torch.full(shape, float("nan"), dtype=dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("rows", "columns"), [(1, 576), (3, 100)])
def test_norms(rows: int, columns: int, dtype: torch.dtype) -> None:
    x, residual = torch.randn(2, rows, columns).to(dtype)
    weight = torch.randn(columns).to(dtype)
    out, total = poisoned(2, rows, columns, dtype=dtype)
    truth, truth_total = norm_reference.add_rms_norm(x, residual, weight, 1e-5)
    norm_rows(x, weight, 1e-5, residual=residual, out=out, total=total)
    close(out, truth, TOLERANCE[dtype])
    close(total, truth_total, TOLERANCE[dtype])
    alone = norm_rows(x, weight, 1e-5).values
    close(alone, norm_reference.rms_norm(x, weight, 1e-5), TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("gated", [True, False])
@pytest.mark.parametrize("activation", ["silu", "gelu_tanh", "gelu"])
def test_activations(activation: Activation, gated: bool, dtype: torch.dtype) -> None:
    x = torch.randn(3, 2060).to(dtype)
    out = poisoned(3, 1030 if gated else 2060, dtype=dtype)
    truth = (activation_reference.gated if gated else activation_reference.plain)(x, activation)
    close(activate(x, activation, gated=gated, out=out), truth, TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("columns", [576, 100])
@pytest.mark.parametrize("sums", [0, 1, 2])
@pytest.mark.parametrize(("behind", "ahead"), [(False, True), (True, True), (True, False)])
@pytest.mark.parametrize("kind", ["rms", "rms_float", "layer"])
def test_stream_norm(
    kind: StreamKind, behind: bool, ahead: bool, sums: int, columns: int, dtype: torch.dtype
) -> None:
    behind = behind and sums > 0
    residual = torch.randn(3, columns) * 4
    made = tuple(torch.randn(sums, 3, columns).to(dtype))
    vectors = torch.randn(4, columns)
    norms = [
        norm_reference.RowNorm(*pair) if kind == "layer" else norm_reference.RowNorm(pair[0])
        for pair in vectors.view(2, 2, columns)
    ]
    wish = {
        "kind": kind,
        "eps": 1e-5,
        "dtype": dtype,
        "behind": norms[0] if behind else None,
        "ahead": norms[1] if ahead else None,
        "scale": 0.25,
    }
    for fresh in (False, True) if sums else (False,):
        before = torch.full_like(residual, torch.nan) if fresh else residual
        truth_sum, total = before.clone(), before.clone()
        truth = norm_reference.stream_norm(truth_sum, made, fresh=fresh, **wish)
        y = stream_norm(total, made, fresh=fresh, **wish)
        assert y.dtype == dtype
        close(y, truth, TOLERANCE[dtype])
        close(total, truth_sum, TOLERANCE[dtype])


def test_a_stream_takes_sums_in_float32() -> None:
    residual, made = torch.randn(2, 5, 64)
    truth = residual.clone()
    wish = {"kind": "rms", "eps": 1e-6, "dtype": torch.float16}
    norm = norm_reference.RowNorm(torch.randn(64))
    first = norm_reference.stream_norm(truth, (made,), ahead=norm, **wish)
    close(stream_norm(residual, (made,), ahead=norm, **wish), first, 5e-4)
    close(residual, truth, 1e-6)
