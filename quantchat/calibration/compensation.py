"""Rounding column by column, each column's error made up for by those that follow it.

GPTQ (2210.17323): the columns with the largest inputs come first, in blocks whose effect on the
rest is one product. Steps and zero points are fixed before; only codes are chosen here.
"""

from __future__ import annotations

import torch

from quantchat.calibration.progressive_fit import ProgressiveFit
from quantchat.quant.pack import pack_nibbles
from quantchat.quant.progressive import ProgressiveWeight

DAMPING = 0.05
"""Added to the Gram matrix's diagonal, as a share of its mean; more than GPTQ's 0.01, as there is
less text: an eighth less KL where six layers of the starter model are rounded."""
MOST_DAMPING = 1.0
BLOCK = 64
ROWS_ELEMENTS_CPU = 1 << 22
ROWS_ELEMENTS_GPU = 1 << 27


class Compensation:
    """What a linear's inputs say about whose error can be made up for by whom."""

    def __init__(self, gram: torch.Tensor) -> None:
        """gram: float32 [K, K], mean of x x^T."""
        self.order = gram.diagonal().argsort(descending=True)
        self._factor = _inverse_factor(gram[self.order][:, self.order])

    def round(self, weight: torch.Tensor, fit: ProgressiveFit) -> ProgressiveWeight:
        """Codes of weight float32 [N, K] under a fit."""
        n, k = weight.shape
        elements = ROWS_ELEMENTS_CPU if weight.device.type == "cpu" else ROWS_ELEMENTS_GPU
        many = max(1, elements // k)
        packed = [
            pack_nibbles(self._codes(weight, fit, slice(start, min(start + many, n))))
            for start in range(0, n, many)
        ]
        return ProgressiveWeight(
            torch.cat(packed),
            fit.scale,
            fit.step.to(torch.uint8),
            fit.zero.to(torch.uint8),
            fit.size,
        )

    def _codes(self, weight: torch.Tensor, fit: ProgressiveFit, rows: slice) -> torch.Tensor:
        """uint8 [R, K]."""
        k = weight.shape[1]
        wide = (weight[rows] / fit.scale[rows, None]).t()[self.order]
        group = self.order // fit.size
        step, zero = fit.step[rows].t().contiguous(), fit.zero[rows].t().contiguous()
        codes = torch.empty(wide.shape, dtype=torch.uint8, device=weight.device)
        factor = self._factor
        for start in range(0, k, BLOCK):
            end = min(start + BLOCK, k)
            block, steps, zeros = wide[start:end], step[group[start:end]], zero[group[start:end]]
            own = factor[start:end, start:end]
            errors = torch.empty_like(block)
            for j in range(end - start):
                column = block[j].clamp(-fit.bound, fit.bound)
                q = column.div_(steps[j]).round_().add_(zeros[j]).clamp_(0, 15)
                codes[start + j] = q
                value = q.sub_(zeros[j]).mul_(steps[j])
                torch.sub(block[j], value, out=errors[j]).div_(own[j, j])
                if j + 1 < end - start:
                    block[j + 1 :].addr_(own[j, j + 1 :], errors[j], alpha=-1)
            wide[end:].addmm_(factor[start:end, end:].t(), errors, alpha=-1)
        back = torch.empty_like(self.order)
        back[self.order] = torch.arange(k, device=back.device)
        return codes[back].t().contiguous()


def _inverse_factor(gram: torch.Tensor) -> torch.Tensor:
    """Upper Cholesky factor of the damped inverse; damped more where it does not exist.

    Works in the matrix that it is given.
    """
    diagonal = gram.diagonal()
    plain = diagonal.clone()
    mean = plain.mean().clamp_min(1e-12)
    damping = DAMPING
    while damping <= MOST_DAMPING:
        diagonal.copy_(plain + damping * mean)
        lower, failed = torch.linalg.cholesky_ex(gram)
        if not int(failed):
            inverse = torch.cholesky_inverse(lower)
            del lower
            upper, failed = torch.linalg.cholesky_ex(inverse, upper=True)
            if not int(failed) and bool(upper.isfinite().all()):
                return torch.as_tensor(upper)
        damping *= 10
    # Without a factor nothing is made up for: the order of columns is all that is left.
    return torch.eye(gram.shape[0], device=gram.device)
