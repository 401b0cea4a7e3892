"""NF4, FP4, double quantization and int8 rows are those of bitsandbytes, bit for bit."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from quantchat.quant.codebook import CodebookWeight, NestedScales
from quantchat.quant.codebook_rounding import (
    dynamic_map,
    fp4,
    fp4_table,
    nested_scales,
    nf4,
    nf4_dq,
)
from quantchat.quant.pack import pack_nibbles
from quantchat.quant.rounding import int8_vectorwise
from quantchat.quant.stack import concat_rows

CPU = torch.device("cpu")


def golden_weight() -> torch.Tensor:
    """[64, 128] of multiples of 2**-14, whose sums are exact: ties, a block of zeros, odd sizes."""
    index = torch.arange(64 * 128, dtype=torch.int64)
    mixed = ((index * 2654435761 + 12345) % 2**32) >> 16
    weight = (mixed % 4096 - 2048).view(64, 128) * torch.tensor([1, 3, 8, 2]).repeat(16)[:, None]
    weight[5, 64:] = 0
    return (weight / 16384).float()


def digest(values: torch.Tensor) -> str:
    return hashlib.sha256(values.contiguous().numpy().tobytes()).hexdigest()[:16]


def scales_of(weight: CodebookWeight) -> torch.Tensor:
    assert isinstance(weight.scales, torch.Tensor)
    return weight.scales


def nested_of(weight: CodebookWeight) -> NestedScales:
    assert isinstance(weight.scales, NestedScales)
    return weight.scales


def test_golden_nf4() -> None:
    rounded = nf4(golden_weight())
    codes = rounded.codes()
    assert codes[0, :16].tolist() == [0, 14, 13, 11, 8, 6, 4, 2, 1, 15, 14, 13, 11, 8, 6, 3]
    assert codes[5, 60:70].tolist() == [15, 14, 13, 11, 7, 7, 7, 7, 7, 7]
    assert digest(codes) == "20f73167aac77a85"
    assert digest(scales_of(rounded)) == "cc39658569fc5e86"


def test_golden_fp4() -> None:
    rounded = fp4(golden_weight())
    codes = rounded.codes()
    assert codes[0, :16].tolist() == [11, 2, 5, 4, 6, 14, 12, 13, 10, 3, 2, 5, 4, 6, 14, 12]
    assert digest(codes) == "ec1a65ff3fc80ac6"
    assert digest(scales_of(rounded)) == "cc39658569fc5e86"


def test_golden_double_quantization() -> None:
    rounded = nf4_dq(golden_weight())
    nested = nested_of(rounded)
    assert nested.codes.flatten()[:12].tolist() == [
        35,
        34,
        61,
        63,
        254,
        255,
        49,
        47,
        34,
        35,
        72,
        20,
    ]
    assert digest(nested.codes) == "671a3caa84541d59"
    assert digest(nested.table) == "e732639a65f497b4"
    assert nested.offset.tolist() == [0.4180617332458496]
    assert nested.scale.tolist() == [0.5819382667541504]
    assert digest(rounded.dequantize(torch.float32)) == "07d153d83806f97b"


def test_golden_int8_rows() -> None:
    rounded = int8_vectorwise(golden_weight())
    assert rounded.codes[0, :8].tolist() == [-127, 99, 70, 42, 14, -15, -43, -71]
    assert digest(rounded.codes) == "6ea5095d755be94b"
    assert torch.equal(rounded.scale, golden_weight().abs().amax(dim=1) / 127)
    silent = int8_vectorwise(torch.zeros(2, 8))
    assert not silent.codes.any() and not silent.scale.any()


def test_golden_bytes_hold_the_even_column_low() -> None:
    ladder = fp4_table(CPU)[torch.tensor([3, 2, 5, 4, 7, 6, 1, 0])].repeat(8)[None]
    assert fp4(ladder).packed[0, :4].tolist() == [0x23, 0x45, 0x67, 0x01]
    assert torch.equal(pack_nibbles(fp4(ladder).codes()), fp4(ladder).packed)


def test_the_dynamic_map_is_made_of_decades() -> None:
    table = dynamic_map(CPU)
    assert table.shape == (256,) and bool((table[1:] > table[:-1]).all())
    assert float(table[127]) == 0.0 and float(table[255]) == 1.0
    for i in range(7):
        low, high = 10.0 ** (i - 7), 10.0 ** (i - 6)
        held = ((table > low) & (table < high)).sum()
        assert int(held) == 2**i
    assert torch.equal(table[:127].flip(0), -table[128:255])


@pytest.mark.parametrize("rounding", [nf4, fp4, nf4_dq])
@pytest.mark.parametrize("shape", [(1, 64), (3, 128), (130, 576)])
def test_errors_stay_below_half_of_the_widest_step(rounding: Any, shape: tuple[int, int]) -> None:
    weight = torch.randn(shape) * torch.rand(shape[0], 1)
    back = rounding(weight).dequantize(torch.float32)
    largest = weight.view(shape[0], -1, 64).abs().amax(dim=-1, keepdim=True)
    widest = 1 / 6 if rounding is fp4 else 0.16
    error = (back - weight).view(shape[0], -1, 64).abs()
    assert bool((error <= largest * (widest + 0.01) + 0.02 * float(largest.max())).all())
    assert float((back - weight).norm() / weight.norm()) < (0.13 if rounding is fp4 else 0.1)


def test_blocks_of_zeros_and_of_one_size_are_exact() -> None:
    weight = torch.zeros(4, 128)
    weight[2] = 0.25
    for rounding in (nf4, fp4, nf4_dq):
        assert torch.equal(rounding(weight).dequantize(torch.float32)[:2], weight[:2])
    assert torch.equal(nf4(weight).dequantize(torch.float32), weight)
    flat = nested_scales(torch.full((3, 5), 0.125))
    assert torch.equal(flat.dequantize(), torch.full((3, 5), 0.125))


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 40), st.integers(1, 5), st.integers(0, 2**31))
def test_nested_scales_are_close_however_many_there_are(n: int, blocks: int, seed: int) -> None:
    scales = torch.rand(n, blocks, generator=torch.Generator().manual_seed(seed)) + 0.01
    nested = nested_scales(scales)
    assert len(nested.scale) == len(nested.offset) == -(-n * blocks // 256)
    spread = float((scales - scales.mean()).abs().max())
    assert float((nested.dequantize() - scales).abs().max()) <= 0.0075 * spread + 1e-7


def test_nested_blocks_are_stacked_only_at_whole_blocks() -> None:
    whole, part = nf4_dq(torch.randn(128, 128)), nf4_dq(torch.randn(20, 128))
    stacked = concat_rows([whole, part])
    assert stacked is not None
    back = torch.cat((whole.dequantize(torch.float32), part.dequantize(torch.float32)))
    assert torch.equal(stacked.dequantize(torch.float32), back)
    assert isinstance(stacked, CodebookWeight) and isinstance(stacked.scales, NestedScales)
    across = concat_rows([part, whole])
    assert isinstance(across, CodebookWeight) and isinstance(across.scales, torch.Tensor)
    back = torch.cat((part.dequantize(torch.float32), whole.dequantize(torch.float32)))
    assert torch.equal(across.dequantize(torch.float32), back)
    mixed = concat_rows([whole, nf4(torch.randn(20, 128))])
    assert isinstance(mixed, CodebookWeight) and isinstance(mixed.scales, torch.Tensor)
    rows = torch.tensor([7, 3])
    assert torch.equal(
        part.take_rows(rows).dequantize(torch.float32), part.dequantize(torch.float32)[rows]
    )


@pytest.mark.parametrize(
    ("n", "k", "seed"), [(64, 128, 0), (7, 64, 1), (33, 4096, 2), (130, 576, 3)]
)
def test_all_are_those_of_bitsandbytes(n: int, k: int, seed: int) -> None:
    pytest.importorskip("bitsandbytes", minversion="0.50")
    import bitsandbytes.functional as peer

    random = torch.Generator().manual_seed(seed)
    weight = torch.randn(n, k, generator=random) * torch.rand(n, 1, generator=random)
    if seed == 3:
        weight = (weight * 300).round() / 300
    weight[0, :64] = 0
    for name, rounding in (("nf4", nf4), ("fp4", fp4)):
        theirs, state = peer.quantize_4bit(weight.clone(), quant_type=name)
        ours = rounding(weight)
        codes = torch.stack((theirs.flatten() >> 4, theirs.flatten() & 15), dim=-1).view(n, k)
        assert torch.equal(ours.codes(), codes)
        assert torch.equal(ours.table, state.code)
        assert torch.equal(scales_of(ours).flatten(), state.absmax)
        assert torch.equal(ours.dequantize(torch.float32), peer.dequantize_4bit(theirs, state))
    theirs, state = peer.quantize_4bit(weight.clone(), quant_type="nf4", compress_statistics=True)
    ours = nf4_dq(weight)
    nested = nested_of(ours)
    assert torch.equal(nested.codes.flatten(), state.absmax)
    assert torch.equal(nested.scale, state.state2.absmax)
    assert torch.equal(nested.table, state.state2.code)
    assert torch.equal(nested.offset, state.offset.expand(len(nested.offset)))
    assert torch.equal(ours.dequantize(torch.float32), peer.dequantize_4bit(theirs, state))
    codes, scale, _ = peer.int8_vectorwise_quant(weight.clone())
    assert torch.equal(int8_vectorwise(weight).codes, codes)
    assert torch.equal(int8_vectorwise(weight).scale, scale / 127)
