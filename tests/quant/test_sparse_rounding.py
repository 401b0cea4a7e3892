"""Entries kept apart: which they are, and that they come back as they were."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from quantchat.quant.lut import LutBits, SparseRows
from quantchat.quant.sparse_rounding import SENSITIVE_SHARE, apart_entries, lut_weight
from quantchat.quant.stack import concat_rows


def planted(n: int, k: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Weights [N, K], one in 256 of them eight times as large, and sensitivities."""
    random = torch.Generator().manual_seed(seed)
    weight = 0.02 * torch.randn(n, k, generator=random)
    weight.view(-1)[torch.randperm(n * k, generator=random)[: n * k // 256]] *= 8
    return weight, torch.rand(n, k, generator=random).pow(6)


@pytest.mark.parametrize("bits", [3, 4])
def test_outliers_kept_apart_take_errors_away(bits: LutBits) -> None:
    weight, _ = planted(40, 1024)
    plain = lut_weight(weight, None, bits).dequantize(torch.float32) - weight
    apart = lut_weight(weight, None, bits, 0.0045).dequantize(torch.float32) - weight
    assert float(apart.square().sum()) < 0.7 * float(plain.square().sum())


def test_the_most_sensitive_go_first_and_the_largest_after_them() -> None:
    weight, sensitivity = planted(100, 200)
    count = 90
    apart = apart_entries(weight, sensitivity, count)
    assert len(apart) == len(set(apart.tolist())) == count
    assert torch.equal(apart, apart.sort().values)
    sensitive = round(SENSITIVE_SHARE * weight.numel())
    first = sensitivity.flatten().topk(sensitive).indices
    assert set(first.tolist()) <= set(apart.tolist())
    rest = torch.tensor(sorted(set(apart.tolist()) - set(first.tolist())))
    smallest = weight.flatten()[rest].abs().min()
    others = torch.ones(weight.numel(), dtype=torch.bool)
    others[apart] = False
    assert bool((weight.flatten()[others].abs() <= smallest).all())
    assert torch.equal(
        apart_entries(weight, None, 3), weight.abs().flatten().topk(3).indices.sort()[0]
    )


@settings(max_examples=12, deadline=None)
@given(
    st.integers(1, 40),
    st.sampled_from([8, 64, 104]),
    st.sampled_from([3, 4]),
    st.sampled_from([0.0, 0.01, 0.3]),
    st.integers(0, 2**31),
)
def test_whatever_is_kept_apart_comes_back(
    n: int, k: int, bits: LutBits, share: float, seed: int
) -> None:
    weight, sensitivity = planted(n, k, seed)
    made = lut_weight(weight, sensitivity, bits, share)
    count = round(share * n * k)
    if not count:
        assert made.sparse is None
        return
    sparse = made.sparse
    assert isinstance(sparse, SparseRows) and len(sparse.values) == count
    assert sparse.starts.dtype == sparse.columns.dtype == torch.int32
    assert int(sparse.starts[0]) == 0 and int(sparse.starts[-1]) == count
    rows, columns = sparse.rows(), sparse.columns.long()
    place = rows * k + columns
    assert bool((place[1:] > place[:-1]).all())
    back = made.dequantize(torch.float32)
    kept = weight[rows, columns]
    assert bool(((back[rows, columns] - kept).abs() <= 2e-3 * kept.abs() + 1e-4).all())
    # their dense code is that of the value nearest 0
    table = made.table.float()
    dense = table.gather(1, made.codes().long())[rows, columns]
    assert torch.equal(dense.abs(), table.abs().amin(dim=1)[rows])


def test_rows_are_taken_and_stacked_with_their_entries() -> None:
    weight, sensitivity = planted(24, 64)
    made = lut_weight(weight, sensitivity, 4, 0.02)
    order = torch.tensor([20, 3, 3, 0, 11])
    taken = made.take_rows(order)
    assert torch.equal(taken.dequantize(torch.float32), made.dequantize(torch.float32)[order])
    stacked = concat_rows([taken, made])
    assert stacked is not None and stacked.shape == (29, 64)
    back = torch.cat((taken.dequantize(torch.float32), made.dequantize(torch.float32)))
    assert torch.equal(stacked.dequantize(torch.float32), back)
    assert concat_rows([made, lut_weight(weight, None, 4)]) is None
    assert concat_rows([made, lut_weight(weight, None, 3, 0.02)]) is None
