"""Tables of channels against the best that there are, found by trying every cut."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from quantchat.quant.kmeans import lut_channel, nearest_codes
from quantchat.quant.lut import LutBits


def least_error(weight: torch.Tensor, shares: torch.Tensor, count: int) -> float:
    """The smallest weighted squared error of a row [K] with `count` values: all cuts tried."""
    w, order = weight.double().sort()
    s = shares.double()[order]
    mass, moment, square = (
        torch.cat((torch.zeros(1, dtype=torch.float64), values.cumsum(0)))
        for values in (s, s * w, s * w * w)
    )
    run_mass = (mass[None, :] - mass[:, None]).clamp_min(1e-300)
    cost = square[None, :] - square[:, None] - (moment[None, :] - moment[:, None]) ** 2 / run_mass
    cost = cost.clamp_min(0).triu(1) + torch.full_like(cost, torch.inf).tril(-1)
    best = cost[0].clone()
    for _ in range(count - 1):
        best = (best[:, None] + cost).amin(dim=0)
    return float(best[-1])


def error_of(weight: torch.Tensor, shares: torch.Tensor, bits: LutBits) -> torch.Tensor:
    codes, table = lut_channel(weight, shares, bits)
    back = table.float().gather(1, codes.long())
    return ((back - weight).square() * shares).double().sum(dim=1)


@pytest.mark.parametrize("bits", [3, 4])
@pytest.mark.parametrize("kind", ["normal", "heavy tail", "few values", "sensitive", "shifted"])
def test_errors_are_near_the_least_possible(bits: LutBits, kind: str) -> None:
    random = torch.Generator().manual_seed(len(kind))
    weight = torch.randn(6, 320, generator=random)
    shares = torch.ones_like(weight)
    if kind == "heavy tail":
        weight = weight.pow(3)
    if kind == "few values":
        weight = (weight * 10).round() / 10
    if kind == "sensitive":
        shares = torch.randn(6, 320, generator=random).pow(4)
    if kind == "shifted":
        weight = weight * 0.01 + 0.3
    least = torch.tensor(
        [least_error(w, s, 1 << bits) for w, s in zip(weight, shares, strict=True)]
    )
    ratio = error_of(weight, shares, bits) / least
    # Tables are float16: of values around 0.3 they keep steps of a 4096th.
    assert float(ratio.mean()) < 1.02 + 0.02 * (kind == "shifted")
    assert float(ratio.max()) < 1.08


def test_no_more_values_than_the_table_holds_come_back_exactly() -> None:
    values = torch.tensor([-1.5, -0.5, 0.0, 0.25, 0.375, 1.0, 2.0, 6.0])
    weight = values[torch.randint(0, 8, (5, 96), generator=torch.Generator().manual_seed(3))]
    for bits in (3, 4):
        codes, table = lut_channel(weight, None, bits)
        assert torch.equal(table.float().gather(1, codes.long()), weight)


@pytest.mark.parametrize(
    "row",
    [
        torch.zeros(64),
        torch.full((64,), 0.37),
        torch.cat((torch.zeros(63), torch.tensor([5.0]))),
        torch.full((64,), 1e-9),
        torch.linspace(-1e5, 1e5, 64),
        torch.tensor([1.0, 2.0]),
    ],
    ids=["zeros", "constant", "spike", "tiny", "beyond float16", "short"],
)
def test_awkward_rows_stay_finite(row: torch.Tensor) -> None:
    for bits in (3, 4):
        codes, table = lut_channel(row[None], None, bits)
        assert bool(torch.isfinite(table).all())
        assert bool((table[:, 1:] >= table[:, :-1]).all())
        back = table.float().gather(1, codes.long())
        reach = float(row.clamp(-65504, 65504).max() - row.clamp(-65504, 65504).min())
        assert float((back - row.clamp(-65504, 65504)).abs().max()) <= reach / 6 + 2e-4


def test_entries_of_no_weight_do_not_pull() -> None:
    random = torch.Generator().manual_seed(0)
    weight = torch.randn(4, 256, generator=random)
    shares = torch.ones_like(weight)
    far = torch.randperm(256, generator=random)[:20]
    weight[:, far] += 50
    shares[:, far] = 0
    near = torch.ones(256, dtype=torch.bool)
    near[far] = False
    alone = error_of(weight[:, near], shares[:, near], 4)
    assert bool((error_of(weight, shares, 4) <= 1.02 * alone).all())
    assert torch.equal(
        lut_channel(weight, torch.zeros_like(weight), 4)[1], lut_channel(weight, None, 4)[1]
    )


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 9), st.integers(1, 50), st.sampled_from([3, 4]), st.integers(0, 2**31))
def test_codes_name_the_nearest_value(n: int, k: int, bits: LutBits, seed: int) -> None:
    random = torch.Generator().manual_seed(seed)
    weight = torch.randn(n, k, generator=random).pow(3)
    codes, table = lut_channel(weight, torch.rand(n, k, generator=random), bits)
    assert codes.dtype == torch.uint8 and table.shape == (n, 1 << bits)
    distance = (weight[:, :, None] - table.float()[:, None, :]).abs()
    chosen = distance.gather(2, codes.long()[:, :, None]).squeeze(2)
    assert bool((chosen <= distance.amin(dim=2) * (1 + 1e-6)).all())
    assert torch.equal(nearest_codes(weight, table), codes)


def test_slices_do_not_change_a_row() -> None:
    weight = torch.randn(240, 576, generator=torch.Generator().manual_seed(9))
    codes, table = lut_channel(weight, weight.square(), 4)
    for rows in (slice(0, 1), slice(225, 231), slice(239, 240)):
        again, its_table = lut_channel(weight[rows], weight[rows].square(), 4)
        assert torch.equal(codes[rows], again) and torch.equal(table[rows], its_table)
