"""ggml blocks as stored formats: exact where they say so, re-encoded with the error told."""

from __future__ import annotations

import pytest
import torch
from ggml_quantize import quantize

from quantchat.checkpoints.ggml.dequantize import dequantize
from quantchat.quant.ggml import stored_from_ggml
from quantchat.quant.tensor import (
    DenseWeight,
    Fp8ChannelWeight,
    Int4GroupWeight,
    Int8ChannelWeight,
)


def blocks(kind: str, n: int = 5, k: int = 512) -> tuple[torch.Tensor, torch.Tensor]:
    values = torch.randn(n, k, generator=torch.Generator().manual_seed(3)) * 0.1
    raw = torch.from_numpy(quantize(values.numpy(), kind).copy()).view(torch.uint8).flatten()
    return raw, dequantize(raw.view(n, -1), kind)


@pytest.mark.parametrize("kind", ["Q4_0", "Q4_1"])
def test_four_bit_blocks_are_exact(kind: str) -> None:
    raw, dense = blocks(kind)
    weight, error = stored_from_ggml(raw, kind, (5, 512))
    assert isinstance(weight, Int4GroupWeight) and error == 0
    assert torch.equal(weight.dequantize(torch.float32), dense)


def test_q4_k_is_exact_up_to_half_precision_scales() -> None:
    raw, dense = blocks("Q4_K")
    weight, error = stored_from_ggml(raw, "Q4_K", (5, 512))
    assert isinstance(weight, Int4GroupWeight)
    close = (weight.dequantize(torch.float32) - dense).norm() / dense.norm()
    assert 0 < float(close) < 1e-3
    assert error == pytest.approx(float(close), rel=1e-3)


@pytest.mark.parametrize("kind", ["Q8_0", "Q6_K", "Q5_1", "IQ4_XS"])
def test_other_blocks_are_re_encoded_and_the_error_is_true(kind: str) -> None:
    raw, dense = blocks(kind)
    weight, error = stored_from_ggml(raw, kind, (5, 512))
    assert isinstance(weight, Int8ChannelWeight)
    true = float((weight.dequantize(torch.float32) - dense).norm() / dense.norm())
    assert 0 < error < 0.02
    assert error == pytest.approx(true, rel=1e-5)


def test_mxfp4_is_exact_in_fp8_rows_while_a_row_has_few_octaves() -> None:
    raw, dense = blocks("MXFP4")
    weight, error = stored_from_ggml(raw, "MXFP4", (5, 512))
    assert isinstance(weight, Fp8ChannelWeight) and error == 0
    assert torch.equal(weight.dequantize(torch.float32), dense)
    bytes_of = raw.view(5, 16, 17).clone()
    bytes_of[1, 0, 0], bytes_of[1, 1, 0], bytes_of[3, :, 1:] = 127, 127 - 14, 0
    weight, error = stored_from_ggml(bytes_of.flatten(), "MXFP4", (5, 512))
    assert isinstance(weight, Fp8ChannelWeight) and error == 0
    assert weight.dequantize(torch.float32)[3].abs().max() == 0
    bytes_of[1, 0, 0], bytes_of[1, 0, 1:] = 140, 0x11
    bytes_of[1, 1, 0], bytes_of[1, 1, 1:] = 100, 0x33
    weight, error = stored_from_ggml(bytes_of.flatten(), "MXFP4", (5, 512))
    assert isinstance(weight, Int8ChannelWeight) and 0 < error < 0.02


def test_plain_types_stay_dense() -> None:
    values = torch.randn(3, 64)
    weight, error = stored_from_ggml(values.view(torch.uint8).flatten(), "F32", (3, 64))
    assert isinstance(weight, DenseWeight) and error == 0
    assert torch.equal(weight.data, values)
