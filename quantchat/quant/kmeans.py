"""Tables of each row's own: weighted k-means in one dimension, for all rows of a matrix at once.

A row is sorted once; sums over any run of it are then differences of prefix sums. The best cuts
between 96 narrow bins are found exactly, by dynamic programming, and moved to where Lloyd's rule
puts them among the weights themselves: within 1 or 2 % of the least possible error.
"""

from __future__ import annotations

import torch

from quantchat.quant.lut import LutBits
from quantchat.quant.slices import SLICE_ELEMENTS_CPU, SLICE_ELEMENTS_GPU

BINS = 96
"""Bins that the first cuts choose between."""
WINDOWS = 72
"""Density is measured over this part of a row."""
LLOYD_ROUNDS = 12
LEAST_SENSITIVITY = 1e-6
"""Of a weight, over its row's mean: where gradients vanish weights are still near their values."""
LARGEST_VALUE = 65504.0
"""Of float16."""
COPIES = 16
"""Temporaries of a slice's size, sums in float64 among them."""


def lut_channel(
    weight: torch.Tensor, sensitivity: torch.Tensor | None, bits: LutBits
) -> tuple[torch.Tensor, torch.Tensor]:
    """Codes uint8 [N, K] and tables float16 [N, 2**bits], ascending, of weight [N, K] float.

    Minimises sum s (w - table[code])^2 of each row over its table, s being the sensitivity, float
    [N, K] of at least 0; None or a row of zeros takes all weights as equal.
    """
    n, k = weight.shape
    codes = torch.empty((n, k), dtype=torch.uint8, device=weight.device)
    table = torch.empty((n, 1 << bits), dtype=torch.float16, device=weight.device)
    elements = SLICE_ELEMENTS_CPU if weight.device.type == "cpu" else SLICE_ELEMENTS_GPU // COPIES
    step = max(1, elements // k)
    for start in range(0, n, step):
        rows = slice(start, start + step)
        w = weight[rows].float()
        shares = torch.ones_like(w) if sensitivity is None else _shares(sensitivity[rows])
        table[rows] = _tables(w, shares, 1 << bits, elements)
        codes[rows] = nearest_codes(w, table[rows])
    return codes, table


def nearest_codes(weight: torch.Tensor, table: torch.Tensor) -> torch.Tensor:
    """uint8 [N, K]: the nearest of each row's ascending table values [N, C], the lower of two."""
    values = table.float()
    middles = (values[:, 1:] + values[:, :-1]) / 2
    return torch.searchsorted(middles, weight.float().contiguous(), out_int32=True).to(torch.uint8)


def _shares(sensitivity: torch.Tensor) -> torch.Tensor:
    """Sensitivities over their row's mean, float32 [R, K]."""
    s = sensitivity.float()
    mean = s.mean(dim=1, keepdim=True)
    shares = torch.where(mean > 0, s / mean, torch.ones_like(s))
    return shares.clamp_min_(LEAST_SENSITIVITY)


def _tables(w: torch.Tensor, shares: torch.Tensor, count: int, elements: int) -> torch.Tensor:
    """Ascending centroids float16 [R, count] of w float32 [R, K] with weights `shares`."""
    ordered, order = w.sort(dim=1)
    s = shares.gather(1, order)
    centre = (ordered * s).sum(dim=1, keepdim=True) / s.sum(dim=1, keepdim=True)
    ordered = ordered - centre
    mass, moment = _prefix(s), _prefix(s * ordered)
    edges = _bin_edges(ordered, mass)
    at_once = max(1, elements // (BINS + 1) ** 2)
    cuts = [
        edges[rows].gather(1, _best_cuts(mass[rows], moment[rows], edges[rows], count))
        for rows in (slice(first, first + at_once) for first in range(0, len(w), at_once))
    ]
    bounds = torch.cat((edges[:, :1], torch.cat(cuts), edges[:, -1:]), dim=1)
    centroids = _lloyd(ordered, mass, moment, bounds) + centre
    return centroids.clamp_(-LARGEST_VALUE, LARGEST_VALUE).to(torch.float16)


def _prefix(values: torch.Tensor) -> torch.Tensor:
    """Sums of the first 0, 1, ... K values: float64 [R, K + 1]."""
    sums = values.new_zeros((values.shape[0], values.shape[1] + 1), dtype=torch.float64)
    torch.cumsum(values, dim=1, dtype=torch.float64, out=sums[:, 1:])
    return sums


def _bin_edges(ordered: torch.Tensor, mass: torch.Tensor) -> torch.Tensor:
    """Where bins begin and end among the sorted values: int64 [R, BINS + 1], 0 to K.

    Bins hold equal parts of the cube root of density, as the cells of a good quantizer do
    (Panter and Dite 1951), sensitivity counting as density; a lone value takes one bin at most.
    """
    r, k = ordered.shape
    half = max(1, k // WINDOWS // 2)
    ends = torch.arange(k, device=ordered.device)
    low, high = (ends - half).clamp_min(0), (ends + half).clamp_max(k - 1)
    widths = ordered[:, high] - ordered[:, low]
    inside = (mass[:, high + 1] - mass[:, low]).float()
    density = (inside * widths.square()).pow_(1 / 3)
    parts = _prefix(density.minimum(density.sum(dim=1, keepdim=True) / BINS))
    wanted = torch.arange(1, BINS, device=ordered.device) / BINS * parts[:, -1:]
    inner = torch.searchsorted(parts[:, 1:].contiguous(), wanted).clamp_max(k)
    return torch.cat((inner.new_zeros((r, 1)), inner, inner.new_full((r, 1), k)), dim=1)


def _best_cuts(
    mass: torch.Tensor, moment: torch.Tensor, edges: torch.Tensor, count: int
) -> torch.Tensor:
    """The count - 1 edges, int64 [R, count - 1], between runs of bins with least squared error.

    A run's error is its sum of squares less moment^2 / mass; the second term is what is maximised.
    """
    m, p = mass.gather(1, edges), moment.gather(1, edges)
    run_mass = (m[:, :, None] - m[:, None, :]).float()
    run_moment = (p[:, :, None] - p[:, None, :]).float()
    gains = run_moment.square_().div_(run_mass.clamp_min(1e-30))
    edge = torch.arange(BINS + 1, device=mass.device)
    gains.masked_fill_(edge[:, None] < edge, -torch.inf)
    best = [gains[:, :, 0]]
    sums = torch.empty_like(gains)
    for _ in range(count - 1):
        torch.add(gains, best[-1][:, None, :], out=sums)
        best.append(sums.amax(dim=2))
    end = torch.full((len(m), 1, 1), BINS, device=mass.device)
    cuts = []
    for reached in reversed(best[:-1]):
        run = gains.gather(1, end.expand(-1, -1, BINS + 1))[:, 0]
        cut = (run + reached).argmax(dim=1, keepdim=True)
        cuts.append(cut)
        end = cut[:, :, None]
    return torch.cat(cuts[::-1], dim=1)


def _lloyd(
    ordered: torch.Tensor, mass: torch.Tensor, moment: torch.Tensor, bounds: torch.Tensor
) -> torch.Tensor:
    """Centroids float32 [R, C], ascending, from runs between bounds int64 [R, C + 1]."""
    k = ordered.shape[1]
    centroids = ordered.gather(1, bounds[:, :-1].clamp_max(k - 1))
    for _ in range(LLOYD_ROUNDS):
        run_mass = mass.gather(1, bounds).diff(dim=1)
        run_moment = moment.gather(1, bounds).diff(dim=1)
        means = (run_moment / run_mass.clamp_min(1e-300)).float()
        centroids = torch.where(run_mass > 0, means, centroids)
        middles = (centroids[:, 1:] + centroids[:, :-1]) / 2
        bounds[:, 1:-1] = torch.searchsorted(ordered, middles)
    return centroids
