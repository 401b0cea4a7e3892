"""How decode attention is cut: every card and shape gets a launch that fits."""

from __future__ import annotations

import pytest
import torch
from quantchat.kernels.attention.splits import Splits, heads_of_part, parts_of, splits_for
from quantchat.kernels.attention.workspace import Workspace
from quantchat.kernels.rope_append.formats import FORMATS, KvFormat

HEADS = [(32, 8, 128), (9, 3, 64), (14, 2, 64), (32, 32, 80), (8, 4, 256), (64, 8, 128)]
HEADS += [(32, 1, 128), (71, 1, 64)]
AWKWARD = [(8, 2, 512)]
"""Heads that are too large for tensor cores."""


@pytest.mark.parametrize(("heads", "kv_heads", "head_dim"), HEADS + AWKWARD)
@pytest.mark.parametrize("rows", [1, 2, 8, 64])
@pytest.mark.parametrize("sm", [0, 75, 90])
@pytest.mark.parametrize("kv", FORMATS)
def test_splits_fill_the_card_and_fit(
    heads: int, kv_heads: int, head_dim: int, rows: int, sm: int, kv: KvFormat
) -> None:
    splits = splits_for(rows, heads, kv_heads, head_dim, 8192, kv, sm=sm, sms=132)
    across = rows * kv_heads * parts_of(heads, kv_heads)
    assert splits.count in (4, 64) or 132 - across < splits.count * across <= 132
    on_tensor_cores = sm >= 80 and (heads, kv_heads, head_dim) in HEADS
    assert (splits.alone > 0) == on_tensor_cores
    if on_tensor_cores:
        assert splits.tile_tokens == 16 * splits.warps
        assert splits.tile_tokens * splits.alone == 256
    workspace = Workspace.create(rows, heads, kv_heads, head_dim, splits, torch.device("cpu"))
    workspace.check(rows, heads, kv_heads, head_dim, splits)
    assert workspace.nbytes < 16 << 20 and not workspace.arrived.any()


@pytest.mark.parametrize("group", [*range(1, 130), 256, 257])
def test_parts_hold_every_head_once(group: int) -> None:
    parts, share = parts_of(2 * group, 2), heads_of_part(2 * group, 2)
    assert share <= 16 and (parts == 1) == (group <= 16)
    assert (parts - 1) * share < group <= parts * share, "no part is empty"


def test_a_short_longest_context_needs_few_splits() -> None:
    assert splits_for(1, 32, 8, 128, 128, "int8", sm=90, sms=132).count == 1
    assert splits_for(1, 32, 8, 128, 128, "16bit", sm=90, sms=132).count == 2
    assert splits_for(1, 32, 8, 128, 300, "int8", sm=90, sms=132).count == 3


def test_the_measured_shape() -> None:
    """Eight billion parameters on an H100."""
    dense = splits_for(1, 32, 8, 128, 8192, "16bit", sm=90, sms=132)
    codes = splits_for(1, 32, 8, 128, 8192, "int8", sm=90, sms=132)
    assert dense == Splits(count=16, tile_tokens=64, warps=4, alone=4)
    assert codes == Splits(count=16, tile_tokens=128, warps=8, alone=2)


def test_heads_are_combined_in_powers_of_two() -> None:
    splits = splits_for(1, 28, 4, 128, 8192, "int8", sm=90, sms=132)
    assert splits.heads_at_once(7, 32, 128) == 2
    assert splits.heads_at_once(7, 64, 256) == 1
    assert splits.heads_at_once(3, 4, 64) == 4
