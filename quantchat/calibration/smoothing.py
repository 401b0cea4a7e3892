"""How far outliers of inputs are moved into weights before both go to 8 bits (2211.10438).

Factors are max|x| ** alpha / max|w| ** (1 - alpha). Alpha is searched on the error of the 8-bit
product, no smoothing being one of the choices.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from quantchat.calibration.folding import shared
from quantchat.calibration.forward import product
from quantchat.quant.rounding import int8_channel
from quantchat.spec import DecoderSpec

ALPHAS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
SEARCH_ROWS = 1024
"""Rows of the inputs, spread over all, on which alphas are compared."""
LEAST = 1e-5
"""Least factor and least magnitude."""

RoundInputs = Callable[[torch.Tensor, tuple[torch.Tensor, ...]], torch.Tensor]
"""Inputs float32 [R, K], rounded for the weights [N, K] that they are multiplied with."""


def smoothing_of(
    linear: str,
    x: torch.Tensor,
    weights: tuple[torch.Tensor, ...],
    spec: DecoderSpec,
    *,
    round_inputs: RoundInputs,
    check: Callable[[], None],
) -> torch.Tensor:
    """The best factors of a linear's inputs, float32 [K], all ones where none is the best."""
    rows = x[:: max(1, x.shape[0] // SEARCH_ROWS)]
    inputs = shared(x.abs().amax(dim=0).float(), linear, spec).clamp_min(LEAST)
    columns = torch.stack([w.abs().amax(dim=0) for w in weights]).amax(dim=0)
    columns = shared(columns, linear, spec).clamp_min(LEAST)
    best = torch.ones_like(inputs)
    best_error = _error(rows, weights, best, round_inputs)
    for alpha in ALPHAS:
        check()
        factors = (inputs**alpha / columns ** (1 - alpha)).clamp_min(LEAST)
        error = _error(rows, weights, factors, round_inputs)
        if error < best_error:
            best, best_error = factors, error
    return best


def _error(
    x: torch.Tensor,
    weights: tuple[torch.Tensor, ...],
    factors: torch.Tensor,
    round_inputs: RoundInputs,
) -> float:
    """Squared error of the 8-bit products of x [R, K] and weights [N, K] under factors [K]."""
    smooth = x.float() / factors
    scaled = tuple(weight * factors for weight in weights)
    rounded = round_inputs(smooth, scaled)
    lost = (rounded - smooth).to(x.dtype)
    total = 0.0
    for weight in scaled:
        difference = int8_channel(weight).dequantize(torch.float32) - weight
        # Two products of small differences: neither drowns in what their own type rounds off.
        error = product(lost, weight) + product(rounded.to(x.dtype), difference)
        total += float(error.square().sum())
    return total
