"""How far a result is from the truth."""

from __future__ import annotations

import torch


def relative(result: torch.Tensor, truth: torch.Tensor) -> float:
    """Norm of the difference over the truth's; NaN where either has one."""
    wide = truth.double()
    return float((result.double() - wide).norm() / wide.norm().clamp_min(1e-30))


def close(result: torch.Tensor, truth: torch.Tensor, tolerance: float) -> None:
    """Asserts that all of it was written and that it is that near."""
    assert torch.isfinite(result.float()).all(), "some outputs were not written"
    error = relative(result, truth)
    assert error <= tolerance, f"relative error {error:.2e}"
