"""Tensor-core linears without a card: who sees how many rows, and the way to the disk and back."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest

pytest.importorskip("triton")

import torch
from quantchat.kernels.linear import pack as tiles
from quantchat.kernels.linear import reference
from quantchat.kernels.linear.launch import RowWeight, Weight
from quantchat.kernels.linear.wide import BoxedTiles
from quantchat.kernels.quantize import reference as quantize_reference

from quantchat.hardware.op_table import MANY_ROWS, WIDE_ROWS, WIDE_SM, few_rows
from quantchat.ops import linear_tiles
from quantchat.ops.linear import LinearForm
from quantchat.ops.linear_tiles import TileLinear, restored_tiles, tile_linear
from quantchat.ops.quantized_rows import QuantizedRows
from quantchat.quant.rounding import fp8_channel, int4_group, int8_channel
from quantchat.quant.scheme import ActivationFormat
from quantchat.quant.tensor import DenseWeight, StoredWeight


def ordered(values: torch.Tensor) -> StoredWeight:
    """int4 groups of inputs from anywhere."""
    order = torch.randperm(values.shape[1], generator=torch.Generator().manual_seed(1))
    weight = int4_group(values[:, order], 32)
    return dataclasses.replace(weight, order=order.to(torch.int32))


MAKERS: dict[str, Callable[[torch.Tensor], StoredWeight]] = {
    "int4": lambda values: int4_group(values, 32),
    "int8": int8_channel,
    "fp8": fp8_channel,
    "dense": DenseWeight,
}
ALL_MAKERS = {**MAKERS, "ordered": ordered}


def values_of(rows: int = 48, columns: int = 96) -> torch.Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(rows + columns))


def made(
    code: str,
    *,
    values: torch.Tensor | None = None,
    bias: torch.Tensor | None = None,
    gated: bool = False,
    activations: ActivationFormat = "16bit",
) -> TileLinear:
    op = tile_linear(
        ALL_MAKERS[code](values_of() if values is None else values),
        bias,
        dtype=torch.float16,
        gated=gated,
        activations=activations,
        dependent=True,
    )
    assert op is not None
    return op


def dense_of(weight: Weight) -> torch.Tensor:
    if isinstance(weight, RowWeight):
        if weight.scale is None:
            return weight.codes.float()
        codes = weight.codes
        if codes.dtype == torch.uint8:
            codes = codes.view(torch.float8_e4m3fn)
        return codes.float() * weight.scale[:, None]
    codes, scale, offset = tiles.unpack(weight)
    wide = [part.float().repeat_interleave(weight.group_size, 1) for part in (scale, offset)]
    return codes.float() * wide[0] + wide[1]


@pytest.fixture
def launches(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Kernels replaced by torch; names of those that ran."""
    ran: list[str] = []

    def few(x: torch.Tensor, weight: Weight, **options: object) -> torch.Tensor:
        ran.append("few")
        assert options.pop("dependent") is True
        bias, gated = options["bias"], options["gated"]
        assert bias is None or isinstance(bias, torch.Tensor)
        return reference.linear(x, dense_of(weight), bias=bias, gated=bool(gated)).to(x.dtype)

    def between(
        x: torch.Tensor, weight: Weight, *, bias: torch.Tensor | None = None
    ) -> torch.Tensor:
        ran.append("stored")
        return reference.linear(x, dense_of(weight), bias=bias).to(x.dtype)

    def from_tiles(weight: tiles.Int4Tiles, dtype: torch.dtype) -> torch.Tensor:
        ran.append("dequantize")
        return dense_of(weight).to(dtype)

    def from_rows(codes: torch.Tensor, scale: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        ran.append("dequantize")
        return quantize_reference.dequantize_weight(codes, scale, dtype)

    monkeypatch.setattr(linear_tiles, "linear", few)
    monkeypatch.setattr(linear_tiles, "linear_many", between)
    monkeypatch.setattr(linear_tiles, "dense_from_tiles", from_tiles)
    monkeypatch.setattr(linear_tiles, "dequantize_weight", from_rows)
    return ran


@pytest.mark.parametrize("code", ["int4", "ordered", "int8", "dense"])
def test_few_rows_read_the_weight_as_stored_and_many_a_dense_one(
    code: str, launches: list[str]
) -> None:
    values, bias = values_of(), torch.randn(48).half()
    op = made(code, values=values, bias=bias)
    dense = ALL_MAKERS[code](values).dequantize(torch.float32)
    for rows in (1, op.few_rows, op.few_rows + 1, op.stored_rows, op.stored_rows + 1):
        x = torch.randn(rows, 96).half()
        truth = x.float() @ dense.t() + bias.float()
        torch.testing.assert_close(op(x).float(), truth, rtol=2e-2, atol=5e-2)
    many = ["few"] if code == "dense" else ["stored", "stored", "dequantize"]
    assert launches == ["few", "few", *many]


@pytest.mark.parametrize(("group", "wide"), [(64, True), (32, False)])
def test_int4_of_many_rows_runs_on_warpgroups_where_there_are_any(
    group: int, wide: bool, launches: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []

    def product(
        x: torch.Tensor,
        weight: tiles.Int4Tiles,
        *,
        bias: torch.Tensor | None = None,
        boxed: BoxedTiles,
    ) -> torch.Tensor:
        assert boxed.words.matrix.data_ptr() == weight.words.data_ptr()
        assert boxed.pairs.matrix.data_ptr() == weight.pairs.data_ptr()
        seen.append(x.shape[0])
        return torch.zeros(x.shape[0], weight.rows)

    monkeypatch.setattr(linear_tiles, "sm_version", lambda device: WIDE_SM)
    monkeypatch.setattr(linear_tiles, "linear_wide", product)
    weight = int4_group(values_of(48, 128), group)
    op = tile_linear(
        weight, None, dtype=torch.float16, gated=False, activations="16bit", dependent=True
    )
    assert op is not None and op.stored_rows == (WIDE_ROWS if wide else MANY_ROWS)["int4"]
    for rows in (op.few_rows, op.few_rows + 1, op.stored_rows, op.stored_rows + 1):
        op(torch.randn(rows, 128).half())
    assert seen == ([op.few_rows + 1, op.stored_rows] if wide else [])
    assert launches == ["few", *([] if wide else ["stored", "stored"]), "dequantize"]


def test_many_rows_go_to_the_product_of_codes(launches: list[str]) -> None:
    op = made("int8", activations="int8")
    seen: list[int] = []

    class Product:
        form = "int8"

        def __call__(self, x: torch.Tensor | QuantizedRows) -> torch.Tensor:
            seen.append(x.shape[0])
            return torch.zeros(x.shape[0], 48)

    assert op.codes_read == "int8"
    op._many = Product()
    assert op.few_rows == few_rows("int8", "int8")
    op(torch.randn(op.few_rows, 96).half())
    op(torch.randn(op.few_rows + 1, 96).half())
    assert (launches, seen) == (["few"], [op.few_rows + 1])
    codes = QuantizedRows(torch.zeros(3, 96, dtype=torch.int8), torch.ones(3))
    op(codes)
    assert seen[1:] == [3]


def test_gated_tiles_do_not_leave_in_their_own_order(launches: list[str]) -> None:
    values = values_of()
    op = made("int4", values=values, gated=True)
    x = torch.randn(2, 96).half()
    dense = int4_group(values, 32).dequantize(torch.float32)
    truth = x.float() @ dense.t()
    torch.testing.assert_close(op(x).float(), truth, rtol=2e-2, atol=5e-2)
    gate, up = truth.chunk(2, dim=-1)
    gated = torch.nn.functional.silu(gate) * up
    torch.testing.assert_close(op.few(x, gated=True).float(), gated, rtol=3e-2, atol=0.2)
    assert launches == ["stored", "few"]


@pytest.mark.parametrize("code", list(MAKERS))
def test_facts(code: str) -> None:
    op = made(code)
    assert (op.out_features, op.in_features) == (48, 96)
    assert op.few_rows == few_rows(code, "16bit") and code in op.kernel
    assert op.copy_bytes == 0 and op.owns_copy == (code == "int4")
    bits = {"int4": 4 + 32 / 32, "int8": 8 + 32 / 96, "fp8": 8 + 32 / 96, "dense": 16}[code]
    # int4: 96 columns take two units of 64.
    padded = 128 / 96 if code == "int4" else 1
    assert op.weight_bytes == pytest.approx(48 * 96 * bits / 8 * padded)


@pytest.mark.parametrize(("code", "columns"), [("int8", 88), ("fp8", 72), ("dense", 100)])
def test_widths_that_lanes_do_not_read_are_left_to_others(code: str, columns: int) -> None:
    weight = MAKERS[code](values_of(16, columns))
    for activations in ("16bit", "int8"):
        op = tile_linear(
            weight,
            None,
            dtype=torch.float16,
            gated=False,
            activations=activations,  # type: ignore[arg-type]
            dependent=False,
        )
        assert op is None


def restored(form: LinearForm, *, gated: bool = False) -> TileLinear:
    return restored_tiles(
        form, dtype=torch.float16, gated=gated, activations="16bit", dependent=True
    )


@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("code", ["int4", "int8", "fp8"])
def test_what_is_packed_comes_back(code: str, gated: bool) -> None:
    bias = torch.randn(48).half()
    op = made(code, bias=bias, gated=gated)
    form = op.packed()
    assert form is not None and form.shape == (48, 96)
    again = restored(form, gated=gated)
    second = again.packed()
    assert second is not None
    assert (second.form, second.group_size) == (form.form, form.group_size)
    assert second.tensors.keys() == form.tensors.keys() and "bias" in form.tensors
    for name, tensor in form.tensors.items():
        assert torch.equal(second.tensors[name], tensor)
    assert torch.equal(dense_of(again._weight), dense_of(op._weight))
    assert (again.code, again.gated, again.kernel) == (op.code, op.gated, op.kernel)


def test_dense_weights_are_kept_as_they_are_in_the_file() -> None:
    assert made("dense").packed() is None


def damaged(form: LinearForm, /, **changes: object) -> LinearForm:
    return dataclasses.replace(form, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize("code", ["int4", "int8", "fp8"])
def test_a_form_that_does_not_fit_is_refused(code: str) -> None:
    form = made(code).packed()
    assert form is not None
    name = "words" if code == "int4" else "codes"
    short = form.tensors | {name: form.tensors[name][:-1]}
    wrong = form.tensors | {name: form.tensors[name].to(torch.int16)}
    missing = {key: tensor for key, tensor in form.tensors.items() if key != name}
    changes: tuple[dict[str, object], ...] = (
        {"form": "int4-tiles-0"},
        {"shape": (48, 104)},
        {"shape": (4800, 96)},
        {"tensors": short},
        {"tensors": wrong},
        {"tensors": missing},
        {"tensors": form.tensors | {"bias": torch.zeros(47).half()}},
    )
    if code == "int4":
        changes += ({"group_size": 0}, {"group_size": 48}, {"group_size": 128})
    for change in changes:
        with pytest.raises(ValueError):
            restored(damaged(form, **change))


def test_an_order_of_inputs_goes_to_the_disk_and_back(launches: list[str]) -> None:
    op = made("ordered")
    form = op.packed()
    assert form is not None and form.tensors["order"].dtype == torch.int32
    options = {"dtype": torch.float16, "gated": False, "dependent": True}
    back = restored_tiles(form, activations="16bit", **options)
    x = torch.randn(1, 96).half()
    assert torch.equal(back(x), op(x))
    form.tensors["order"] = form.tensors["order"].clamp(max=3)
    with pytest.raises(ValueError, match="each input once"):
        restored_tiles(form, activations="16bit", **options)


def test_gated_outputs_of_ordered_inputs(launches: list[str]) -> None:
    values = values_of(64)
    op = made("ordered", values=values, gated=True)
    x = torch.randn(2, 96).half()
    gate, up = (x.float() @ ordered(values).dequantize(torch.float32).t()).chunk(2, dim=1)
    truth = torch.nn.functional.silu(gate) * up
    torch.testing.assert_close(op.few(x, gated=True).float(), truth, rtol=2e-2, atol=5e-2)
