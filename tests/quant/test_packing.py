"""Golden bytes of every stored format, and the numbers that they stand for."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from quantchat.quant.codebook import CodebookWeight, NestedScales
from quantchat.quant.lut import LutWeight, SparseRows
from quantchat.quant.pack import pack_nibbles, pack_triples, unpack_nibbles, unpack_triples
from quantchat.quant.progressive import ProgressiveWeight
from quantchat.quant.tensor import Fp8ChannelWeight, Int4GroupWeight, Int8ChannelWeight

LADDER = torch.arange(8, dtype=torch.uint8)
NIBBLES = bytes([0x10, 0x32, 0x54, 0x76])
TRIPLES = bytes([0x88, 0xC6, 0xFA])
"""Codes 0 to 7 from the lowest bit up: 111 110 101 100 011 010 001 000."""


def raw(data: bytes) -> torch.Tensor:
    return torch.tensor(list(data), dtype=torch.uint8)[None]


def test_golden_words() -> None:
    assert torch.equal(pack_nibbles(LADDER[None]), raw(NIBBLES))
    assert torch.equal(pack_triples(LADDER[None]), raw(TRIPLES))
    assert sum(int(code) << 3 * i for i, code in enumerate(LADDER)) == int.from_bytes(
        TRIPLES, "little"
    )


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 7), min_size=1, max_size=9), st.integers(1, 3))
def test_triples_round_trip(codes: list[int], rows: int) -> None:
    wide = torch.tensor(codes, dtype=torch.uint8).repeat(rows, 8)
    packed = pack_triples(wide)
    assert packed.shape == (rows, 3 * len(codes))
    assert torch.equal(unpack_triples(packed), wide)


@pytest.mark.parametrize(
    ("pack", "unpack"), [(pack_nibbles, unpack_nibbles), (pack_triples, unpack_triples)]
)
def test_leading_dimensions_stay(pack: object, unpack: object) -> None:
    codes = torch.randint(0, 8, (2, 3, 16), dtype=torch.uint8)
    assert callable(pack) and callable(unpack)
    assert torch.equal(unpack(pack(codes)), codes)


def test_golden_int4_group() -> None:
    scale, offset = torch.tensor([[0.5, 2.0]]).half(), torch.tensor([[1.0, -8.0]]).half()
    weight = Int4GroupWeight(raw(NIBBLES), scale, offset, 4)
    assert weight.dequantize(torch.float32).tolist() == [[1.0, 1.5, 2.0, 2.5, 0.0, 2.0, 4.0, 6.0]]


def test_golden_codebook() -> None:
    table = torch.arange(16).float() * 10
    weight = CodebookWeight(raw(NIBBLES), table, torch.tensor([[1.0, 0.5]]), 4)
    assert weight.dequantize(torch.float32).tolist() == [[0, 10, 20, 30, 20, 25, 30, 35]]


def test_golden_nested_scales() -> None:
    values = torch.arange(256).float()
    codes = torch.arange(257).remainder(256).to(torch.uint8)[None]
    nested = NestedScales(codes, values, torch.tensor([2.0, 3.0]), torch.tensor([1.0, 7.0]))
    scales = nested.dequantize()[0]
    assert scales[:3].tolist() == [1.0, 3.0, 5.0]
    assert float(scales[255]) == 511.0 and float(scales[256]) == 7.0
    assert nested.nbytes == 257 + 1024 + 8 + 8


def test_golden_tables_of_channels() -> None:
    sparse = SparseRows(
        torch.tensor([0, 0, 2], dtype=torch.int32),
        torch.tensor([0, 7], dtype=torch.int32),
        torch.tensor([100.0, -1.0]).half(),
    )
    for bits, data in ((4, NIBBLES), (3, TRIPLES)):
        table = torch.stack((torch.arange(1 << bits), -torch.arange(1 << bits))).half()
        weight = LutWeight(raw(data).repeat(2, 1), table, bits, sparse)
        assert weight.shape == (2, 8)
        assert weight.dequantize(torch.float32).tolist() == [
            [0, 1, 2, 3, 4, 5, 6, 7],
            [100, -1, -2, -3, -4, -5, -6, -8],
        ]


def test_golden_progressive() -> None:
    steps = torch.tensor([[3, 17]], dtype=torch.uint8)
    zeros = torch.tensor([[1, 7]], dtype=torch.uint8)
    weight = ProgressiveWeight(raw(NIBBLES), torch.tensor([0.5]), steps, zeros, 4)
    assert weight.expand().tolist() == [[-3, 0, 3, 6, -51, -34, -17, 0]]
    assert weight.expand().dtype == torch.int8
    assert weight.dequantize(torch.float32).tolist() == [[-1.5, 0, 1.5, 3, -25.5, -17, -8.5, 0]]


def test_golden_rows_of_8_bits() -> None:
    scale = torch.tensor([0.25])
    codes = torch.tensor([[-127, 0, 4]], dtype=torch.int8)
    assert Int8ChannelWeight(codes, scale).dequantize(torch.float32).tolist() == [[-31.75, 0, 1]]
    # E4M3: 0x38 is 1, 0xFE is -448, 0x01 the smallest, 2**-9
    bits = torch.tensor([[0x38, 0xFE, 0x01]], dtype=torch.uint8)
    back = Fp8ChannelWeight(bits, scale).dequantize(torch.float32)
    assert back.tolist() == [[0.25, -112.0, 2**-11]]


def test_bytes_are_those_of_the_tensors() -> None:
    for weight in (
        CodebookWeight(raw(NIBBLES), torch.zeros(16), torch.ones(1, 2), 4),
        LutWeight(raw(NIBBLES), torch.zeros(1, 16).half(), 4),
        ProgressiveWeight(
            raw(NIBBLES),
            torch.ones(1),
            torch.ones(1, 1, dtype=torch.uint8),
            torch.ones(1, 1, dtype=torch.uint8),
            8,
        ),
    ):
        assert weight.shape == (1, 8)
        assert weight.nbytes == sum(part.nbytes for part in weight.tensors().values())
