"""CPU linears against dense products in double precision."""

from __future__ import annotations

import pytest
import torch
from quantchat.kernels.quantize.reference import quantize_rows
from table_weights import codebook_weight, lut_weight, progressive_weight

from quantchat.ops import linear_cpu
from quantchat.ops.linear import StackedLinear
from quantchat.ops.linear_cpu import PackedLinear, aligned, cpu_linear, without_copies
from quantchat.quant.rounding import fp8_channel, int4_group, int8_channel
from quantchat.quant.tensor import DenseWeight, StoredWeight

SHAPES = [(48, 64), (16, 128), (50, 64), (576, 576), (1, 32), (33, 96)]


def weights(n: int, k: int) -> list[StoredWeight]:
    w = torch.randn(n, k) * 0.05
    return [
        DenseWeight(w),
        int8_channel(w),
        int4_group(w, 32),
        fp8_channel(w),
        codebook_weight(n, k),
        lut_weight(n, k, 4, sparse=True),
        lut_weight(n, k, 3, sparse=False),
        progressive_weight(n, k),
    ]


@pytest.mark.parametrize(("n", "k"), SHAPES)
@pytest.mark.parametrize("rows", [1, 2, 7, 8, 33])
@pytest.mark.parametrize("copy", [None, torch.float32, torch.bfloat16])
def test_agrees_with_the_dense_product(n: int, k: int, rows: int, copy: torch.dtype | None) -> None:
    torch.manual_seed(n + k + rows)
    bias = torch.randn(n)
    x = torch.randn(rows, k).to(torch.bfloat16)
    for weight in weights(n, k):
        op = cpu_linear(weight, bias, dtype=torch.bfloat16, copy_dtype=copy)
        wanted = x.double() @ weight.dequantize(torch.float32).double().t() + bias.double()
        got = op(x)
        assert got.shape == (rows, n) and got.dtype == torch.bfloat16
        error = float((got.double() - wanted).norm() / wanted.norm())
        assert error < 8e-3, (op.kernel, error)


def test_float32_is_exact_enough_to_be_a_reference() -> None:
    for weight in weights(48, 64):
        op = cpu_linear(weight, None, dtype=torch.float32, copy_dtype=None)
        x = torch.randn(5, 64)
        wanted = x.double() @ weight.dequantize(torch.float32).double().t()
        assert float((op(x).double() - wanted).norm() / wanted.norm()) < 1e-6


def test_misaligned_codes_are_moved() -> None:
    storage = torch.zeros(64 * 64 + 8, dtype=torch.int8)
    codes = storage[8:].view(64, 64)
    assert aligned(codes).data_ptr() % 64 == 0
    fine = torch.zeros(64, dtype=torch.int8)
    assert fine.data_ptr() % 64 == 0 and aligned(fine) is fine


def test_bytes_and_copies_are_told() -> None:
    weight = int8_channel(torch.randn(32, 64))
    plain = PackedLinear(weight, None, None)
    copied = PackedLinear(weight, None, torch.float32)
    assert plain.copy_bytes == 0 and copied.copy_bytes == 32 * 64 * 4
    assert plain.weight_bytes == 32 * 64 + 32 * 2
    assert (
        not plain.owns_copy
        and PackedLinear(int4_group(torch.randn(32, 64), 32), None, None).owns_copy
    )


def test_what_no_op_reads_is_held_in_other_forms() -> None:
    for weight in weights(32, 64)[4:7]:
        op = cpu_linear(weight, None, dtype=torch.bfloat16, copy_dtype=None)
        assert op.owns_copy and op.weight_bytes == 32 * 64 * 2 and op.kernel == "dense bfloat16"
        copied = cpu_linear(weight, None, dtype=torch.bfloat16, copy_dtype=torch.float32)
        assert copied.owns_copy and copied.copy_bytes == 32 * 64 * 4
    op = cpu_linear(weights(32, 64)[7], None, dtype=torch.bfloat16, copy_dtype=None)
    assert op.owns_copy and 32 * 64 < op.weight_bytes <= 32 * (64 + 4)


@pytest.mark.parametrize("group", [32, 96])
def test_progressive_codes_meet_rounded_rows(group: int) -> None:
    weight = progressive_weight(48, 96, group)
    op = cpu_linear(
        weight,
        None,
        dtype=torch.bfloat16,
        copy_dtype=None,
        activations="int8",
        all_rows=True,
    )
    for rows in (1, 9):
        x = torch.randn(rows, 96).to(torch.bfloat16)
        codes, scale = quantize_rows(x.float(), "int8")
        product = codes.long() @ weight.expand().long().t()
        truth = product.double() * scale[:, None] * weight.scale
        assert float((op(x).double() - truth).norm() / truth.norm()) < 5e-3


@pytest.mark.parametrize("k", [72, 97])
def test_rows_that_the_packed_op_would_read_past_are_made_dense(k: int) -> None:
    weight = int8_channel(torch.randn(33, k))
    x = torch.randn(2, k).to(torch.bfloat16)
    wanted = x.double() @ weight.dequantize(torch.float64).t()
    for activations in ("16bit", "int8"):
        op = cpu_linear(
            weight, None, dtype=torch.bfloat16, copy_dtype=None, activations=activations
        )
        assert float((op(x).double() - wanted).norm() / wanted.norm()) < 8e-3


def test_stacked_outputs_lie_side_by_side() -> None:
    a, b = (cpu_linear(w, None, dtype=torch.bfloat16, copy_dtype=None) for w in weights(16, 64)[:2])
    x = torch.randn(3, 64).to(torch.bfloat16)
    stacked = StackedLinear([a, b])
    assert torch.equal(stacked(x), torch.cat((a(x), b(x)), dim=-1))
    assert stacked.out_features == 32


@pytest.mark.parametrize("copy", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("rows", [1, 33])
def test_without_copies_an_op_is_the_one_that_never_had_any(copy: torch.dtype, rows: int) -> None:
    torch.manual_seed(1)
    bias = torch.randn(48)
    x = torch.randn(rows, 64).to(torch.bfloat16)
    for weight in weights(48, 64):
        plain = cpu_linear(weight, bias, dtype=torch.bfloat16, copy_dtype=None)
        copied = cpu_linear(weight, bias, dtype=torch.bfloat16, copy_dtype=copy)
        before = copied(x)
        stored = without_copies(StackedLinear([copied, copied]))
        assert stored.copy_bytes == 0
        assert torch.equal(stored(x), torch.cat((plain(x), plain(x)), dim=-1)), plain.kernel
        assert torch.equal(copied(x), before), "the op itself is as it was"


@pytest.mark.parametrize(("n", "k"), [(16, 32), (80, 96), (208, 576), (272, 1536)])
def test_codes_packed_in_slices_are_those_packed_at_once(
    n: int, k: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The op's own blocks of rows are never cut."""
    monkeypatch.setattr(linear_cpu, "SLICE_ELEMENTS_CPU", 70 * k)
    weight = int4_group(torch.randn(n, k), 32)
    whole = torch.ops.aten._convert_weight_to_int4pack_for_cpu(weight.codes().to(torch.int32), 1)
    assert torch.equal(linear_cpu.packed_int4(weight), whole)
