"""What a card's linears of few rows are fed with: rows as they are, or rounded to int8 first.

Owns the choice of launches before such a linear; which rows are few is the linear's own affair.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from quantchat.kernels.linear.launch import NextNorm
from quantchat.kernels.linear.reference import Gate
from quantchat.kernels.quantize.prepare import prepare_rows, round_rows
from quantchat.ops.linear import LinearOp, StackedLinear
from quantchat.ops.linear_tiles import TileLinear
from quantchat.ops.quantized_rows import threshold_of
from quantchat.quant.scheme import ActivationFormat

ROUNDED_CODES = frozenset({"int8", "progressive4"})
"""Weights that rounded inputs are for; others stand in for them where shapes do not fit."""


@dataclass(frozen=True, slots=True)
class InputRounding:
    """Inputs of linears are rounded to int8 however few their rows."""

    threshold: float | None
    """Magnitude from which they are not."""

    @classmethod
    def of(cls, activations: ActivationFormat) -> InputRounding:
        """That of a scheme; int8 or int8_outliers."""
        assert activations in ("int8", "int8_outliers"), activations
        return cls(threshold_of(activations))

    def is_for(self, op: LinearOp) -> bool:
        """Whether the inputs of `op` are rounded before it."""
        return isinstance(op, TileLinear) and op.code in ROUNDED_CODES


class FewInputs:
    """Few rows on their way into one linear or several, rounded once for all of them."""

    def __init__(
        self,
        x: torch.Tensor,
        squares: torch.Tensor | None,
        eps: float,
        rounding: InputRounding | None,
        dependent: bool,
    ) -> None:
        """x [M, K]; `squares`: see kernels.linear.launch.linear."""
        self._x = x
        self._squares = squares
        self._eps = eps
        self._rounding = rounding
        self._dependent = dependent
        self._prepared: tuple[torch.Tensor, torch.Tensor] | None = None

    def through(
        self,
        op: TileLinear,
        *,
        gated: bool = False,
        gate: Gate = "silu",
        residual: torch.Tensor | None = None,
        following: NextNorm | None = None,
        out: torch.Tensor | None = None,
        out_dtype: torch.dtype | None = None,
    ) -> torch.Tensor:
        """See TileLinear.few."""
        x, squares, eps, row_scale = self._x, self._squares, self._eps, None
        if self._rounding is not None and self._rounding.is_for(op):
            x, row_scale = self._rounded(self._rounding)
            squares, eps = None, 0.0
        return op.few(
            x,
            squares=squares,
            eps=eps,
            row_scale=row_scale,
            gated=gated,
            gate=gate,
            residual=residual,
            following=following,
            out=out,
            out_dtype=out_dtype,
        )

    def _rounded(self, rounding: InputRounding) -> tuple[torch.Tensor, torch.Tensor]:
        if self._prepared is None:
            self._prepared = prepare_rows(
                self._x,
                squares=self._squares,
                eps=self._eps,
                threshold=rounding.threshold,
                dependent=self._dependent,
            )
        return self._prepared


def run_rows(
    op: LinearOp, x: torch.Tensor, rounding: InputRounding | None, dependent: bool
) -> torch.Tensor:
    """A linear of any number of rows x [M, K] as they come, rounded before it where that is asked."""
    if rounding is None:
        return op(x)
    if isinstance(op, StackedLinear):
        return torch.cat([run_rows(part, x, rounding, dependent) for part in op.parts], dim=-1)
    if not isinstance(op, TileLinear) or not rounding.is_for(op):
        return op(x)
    if x.shape[0] <= op.few_rows:
        return FewInputs(x, None, 0.0, rounding, dependent).through(op)
    if op.codes_read == "int8":
        return op(x)
    return op(round_rows(x, threshold=rounding.threshold))
