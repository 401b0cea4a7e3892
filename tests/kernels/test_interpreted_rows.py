"""Norm and activation, interpreted, against their references."""

from __future__ import annotations

import pytest
import torch
from quantchat.kernels.activation import reference as activation_reference
from quantchat.kernels.activation import silu
from quantchat.kernels.norm import reference as norm_reference
from quantchat.kernels.norm import rms

DTYPES = (torch.float16, torch.bfloat16)
# The interpreter cuts where a card rounds to bf16, at every rounding of the op.
TOLERANCE = {torch.float16: 5e-4, torch.bfloat16: 1.2e-2}


def close(result: torch.Tensor, truth: torch.Tensor, tolerance: float) -> None:
    assert torch.isfinite(result.float()).all(), "some outputs were not written"
    error = (result.double() - truth.double()).norm() / truth.double().norm().clamp_min(1e-30)
    assert error <= tolerance, f"relative error {error:.2e}"


def poisoned(*shape: int, dtype: torch.dtype) -> torch.Tensor:
    return torch.full(shape, float("nan"), dtype=dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("rows", "columns"), [(1, 576), (3, 100)])
def test_norms(rows: int, columns: int, dtype: torch.dtype) -> None:
    x, residual = torch.randn(2, rows, columns).to(dtype)
    weight = torch.randn(columns).to(dtype)
    out, total = poisoned(2, rows, columns, dtype=dtype)
    truth, truth_total = norm_reference.add_rms_norm(x, residual, weight, 1e-5)
    rms.add_rms_norm(x, residual, weight, 1e-5, out=out, total=total)
    close(out, truth, TOLERANCE[dtype])
    close(total, truth_total, TOLERANCE[dtype])
    alone = rms.rms_norm(x, weight, 1e-5)
    close(alone, norm_reference.rms_norm(x, weight, 1e-5), TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", DTYPES)
def test_silu_mul(dtype: torch.dtype) -> None:
    x = torch.randn(3, 2 * 1030).to(dtype)
    out = poisoned(3, 1030, dtype=dtype)
    close(silu.silu_mul(x, out=out), activation_reference.silu_mul(x), TOLERANCE[dtype])
