"""Every block type against the gguf package, bit for bit."""

from __future__ import annotations

import gguf
import numpy as np
import pytest
import torch

from quantchat.checkpoints.ggml import dequantize as module
from quantchat.checkpoints.ggml.dequantize import DECODERS, PLAIN, dequantize
from quantchat.checkpoints.ggml.types import TYPES, TYPES_BY_ID

HALF_FIELDS = {
    "Q4_0": (0,),
    "Q4_1": (0, 2),
    "Q5_0": (0,),
    "Q5_1": (0, 2),
    "Q8_0": (0,),
    "IQ4_NL": (0,),
    "Q2_K": (80, 82),
    "Q3_K": (108,),
    "Q4_K": (0, 2),
    "Q5_K": (0, 2),
    "Q6_K": (208,),
    "IQ4_XS": (0,),
    "MXFP4": (),
}
"""Byte offsets of the float16 fields, which must be finite."""


def random_rows(name: str, rows: int, blocks: int, seed: int = 0) -> np.ndarray:
    """Rows of random bytes with finite scales: uint8 [rows, row bytes]."""
    random = np.random.default_rng(seed)
    data = random.integers(0, 256, (rows, blocks, TYPES[name].block_bytes), dtype=np.uint8)
    for offset in HALF_FIELDS[name]:
        field = random.standard_normal((rows, blocks, 1)).astype(np.float16)
        data[:, :, offset : offset + 2] = field.view(np.uint8)
    return data.reshape(rows, -1)


def oracle(data: np.ndarray, name: str) -> np.ndarray:
    with np.errstate(over="ignore"):
        return gguf.quants.dequantize(data, gguf.GGMLQuantizationType[name])


def bits(values: torch.Tensor) -> torch.Tensor:
    return values.contiguous().view(torch.int32)


@pytest.mark.parametrize("name", sorted(DECODERS))
@pytest.mark.parametrize(("rows", "blocks"), [(1, 1), (3, 5), (7, 2)])
def test_equals_gguf_bit_for_bit(name: str, rows: int, blocks: int) -> None:
    data = random_rows(name, rows, blocks, seed=rows)
    got = dequantize(torch.from_numpy(data), name)
    assert got.shape == (rows, blocks * TYPES[name].block_elements)
    assert torch.equal(bits(got), bits(torch.from_numpy(oracle(data, name))))


@pytest.mark.parametrize("name", sorted(DECODERS))
def test_chunks_meet_and_leading_dimensions_stay(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = random_rows(name, 6, 7)
    whole = dequantize(torch.from_numpy(data), name)
    monkeypatch.setattr(module, "CHUNK_ELEMENTS", {"cpu": 5 * TYPES[name].block_elements})
    parts = dequantize(torch.from_numpy(data).reshape(2, 3, -1), name)
    assert parts.shape == (2, 3, whole.shape[-1])
    assert torch.equal(parts.reshape(6, -1), whole)


@pytest.mark.parametrize("name", sorted(DECODERS))
def test_bytes_at_an_odd_address(name: str) -> None:
    data = random_rows(name, 2, 3)
    shifted = torch.zeros(data.size + 1, dtype=torch.uint8)
    shifted[1:] = torch.from_numpy(data.reshape(-1))
    got = dequantize(shifted[1:].reshape(2, -1), name)
    assert torch.equal(got, torch.from_numpy(oracle(data, name)))


@pytest.mark.parametrize("name", ["F32", "F16", "BF16"])
def test_plain_types_copy_and_equal_gguf(name: str) -> None:
    values = np.random.default_rng(1).standard_normal((3, 5)).astype(np.float32)
    data = gguf.quants.quantize(values, gguf.GGMLQuantizationType[name]).view(np.uint8)
    raw = torch.from_numpy(data.copy())
    got = dequantize(raw, name)
    assert torch.equal(got, torch.from_numpy(oracle(data, name)))
    got.zero_()
    assert raw.any()
    odd = torch.cat((torch.zeros(1, dtype=torch.uint8), torch.from_numpy(data).reshape(-1)))[1:]
    assert torch.equal(dequantize(odd, name).reshape(3, 5), torch.from_numpy(oracle(data, name)))


def test_casts_after_decoding() -> None:
    data = torch.from_numpy(random_rows("Q4_K", 2, 2))
    assert torch.equal(
        dequantize(data, "Q4_K", dtype=torch.bfloat16), dequantize(data, "Q4_K").bfloat16()
    )


def test_sizes_are_those_of_ggml() -> None:
    for kind in TYPES.values():
        upstream = gguf.GGMLQuantizationType[kind.name]
        assert kind.id == upstream.value
        if kind.readable:
            assert (kind.block_elements, kind.block_bytes) == gguf.GGML_QUANT_SIZES[upstream]
    assert len(TYPES_BY_ID) == len(TYPES)
    assert {kind.name for kind in TYPES.values() if kind.readable} == {*DECODERS, *PLAIN}
