"""Bytes of matrices against tensors that were really packed for a card."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from quantchat.kernels.linear.pack import kernel_group, pack
from quantchat.kernels.linear.table_pack import NestedTable, pack_codebook, pack_lut, pack_nested

from quantchat.hardware.linears import group_size_of, linears_of
from quantchat.hardware.matrix_bytes import MatrixFormat
from quantchat.hardware.memory import (
    CUDA_CONTEXT_BYTES,
    GIB,
    calibration_bytes,
    calibration_text_bytes,
    load_peak_bytes,
    weight_bytes,
)
from quantchat.quant.codebook import CodebookWeight, NestedScales
from quantchat.quant.lut import LutWeight
from quantchat.quant.matrix_rounding import rounded_matrix
from quantchat.quant.progressive import ProgressiveWeight
from quantchat.quant.registry import SCHEMES
from quantchat.quant.tensor import StoredWeight
from quantchat.shapes import SHAPES

LLAMA = SHAPES["llama-3.1-8b"]
STARTER = SHAPES["smollm2-135m"]


def card_bytes(weight: StoredWeight) -> int:
    """What the kernel's packing of a stored weight holds."""
    if isinstance(weight, CodebookWeight):
        if isinstance(weight.scales, NestedScales):
            pairs = torch.stack((weight.scales.scale, weight.scales.offset), dim=1)
            nested = NestedTable(values=weight.scales.table, pairs=pairs)
            codes, scales = weight.codes(), weight.scales.codes
            return pack_nested(codes, weight.table, scales, nested, dtype=torch.float16).nbytes
        made = pack_codebook(weight.codes(), weight.table, weight.scales, dtype=torch.float16)
        return made.nbytes
    if isinstance(weight, LutWeight):
        sparse = 0 if weight.sparse is None else weight.sparse.nbytes
        return pack_lut(weight.codes(), weight.table, dtype=torch.float16).nbytes + sparse
    assert isinstance(weight, ProgressiveWeight)
    group = kernel_group(weight.group_size)
    assert group is not None
    repeat = weight.group_size // group
    scale = weight.group_scale.half().repeat_interleave(repeat, dim=1)
    offset = -scale * weight.group_zero.half().repeat_interleave(repeat, dim=1)
    return pack(weight.codes(), scale, offset, group, channel=weight.scale).nbytes


@pytest.mark.parametrize(
    "name", ["nf4", "nf4-dq", "fp4", "squeezellm", "squeezellm-3", "qoq", "qoq-channel"]
)
@pytest.mark.parametrize(("rows", "columns"), [(960, 576), (64, 1536), (48, 512)])
def test_formats_take_what_their_tensors_take(name: str, rows: int, columns: int) -> None:
    scheme = SCHEMES[name]
    group = next((size for size in scheme.group_sizes if columns % size == 0), 0)
    made = rounded_matrix(torch.randn(rows, columns), scheme, group, scheme.weights)
    form = MatrixFormat.of(scheme, scheme.weights, group, 2, 1)
    assert form.nbytes(rows, columns) == card_bytes(made)


@pytest.mark.parametrize(
    ("name", "bits"),
    [
        ("nf4", 4.5),
        ("nf4-dq", 4.127),
        ("fp4", 4.5),
        ("squeezellm", 4.273),
        ("squeezellm-3", 3.248),
        ("llm-int8", 8.006),
        ("qoq", 4.256),
    ],
)
def test_bits_of_a_weight(name: str, bits: float) -> None:
    scheme = SCHEMES[name]
    form = MatrixFormat.of(scheme, scheme.weights, group_size_of(LLAMA, scheme), 2, 1)
    held = sum(each.count * form.nbytes(each.rows, each.columns) for each in linears_of(LLAMA))
    assert 8 * held / LLAMA.linear_parameters == pytest.approx(bits, abs=0.003)


def test_heads_are_counted_in_their_own_format() -> None:
    untied = dataclasses.replace(STARTER, tied_head=False)
    for name in ("nf4-dq", "squeezellm", "qoq-channel"):
        scheme = SCHEMES[name]
        form = MatrixFormat.of(scheme, scheme.weights, group_size_of(STARTER, scheme), 2, 1)
        linears = sum(
            each.count * form.nbytes(each.rows, each.columns) for each in linears_of(STARTER)
        )
        held = weight_bytes(STARTER, scheme, form.group_size)
        int8_rows = 49152 * (576 + 4)
        # What QoQ folds into a tied head is not in the table, which becomes one of its own.
        parted = int8_rows if scheme.calibration == "qoq" else 0
        assert held == linears + int8_rows + parted
        wide = weight_bytes(untied, scheme, form.group_size)
        assert wide == linears + int8_rows + 49152 * 576 * 2


def test_no_group_no_size() -> None:
    form = MatrixFormat(weights="int4_group", group_size=0, dense_bytes=2)
    with pytest.raises(AssertionError):
        form.nbytes(16, 64)
    with pytest.raises(AssertionError):
        dataclasses.replace(form, weights="codebook4", group_size=64).nbytes(16, 96)


def test_calibrating_8b_fits_beside_its_16_bit_weights_in_24_gb() -> None:
    assert calibration_text_bytes(LLAMA) + CUDA_CONTEXT_BYTES < 24e9
    for scheme in SCHEMES.values():
        if scheme.calibration == "none":
            continue
        held = weight_bytes(LLAMA, scheme, group_size_of(LLAMA, scheme))
        peak = load_peak_bytes(LLAMA, scheme, held, on_gpu=True)
        assert held + calibration_bytes(LLAMA, scheme) < peak < 16 * GIB
        assert calibration_bytes(STARTER, scheme) < GIB


def test_rounding_alone_needs_no_room_for_calibration() -> None:
    plain, calibrated = SCHEMES["int4"], SCHEMES["awq"]
    held = weight_bytes(LLAMA, plain, 128)
    assert held == weight_bytes(LLAMA, calibrated, 128)
    more = load_peak_bytes(LLAMA, calibrated, held, on_gpu=True)
    assert more > load_peak_bytes(LLAMA, plain, held, on_gpu=True)
