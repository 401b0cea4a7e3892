"""Codebooks, tables of rows and two-level weights as the tensor-core linears hold them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import get_args

import pytest

pytest.importorskip("triton")

import torch
from quantchat.kernels.linear import pack, table_pack
from quantchat.kernels.linear.launch import Weight
from quantchat.kernels.linear.pack import Int4Tiles
from quantchat.kernels.linear.table_pack import TableTiles
from table_weights import codebook_weight, lut_weight, progressive_weight

from quantchat.hardware.op_table import few_rows
from quantchat.ops import linear_tiles
from quantchat.ops.linear import LinearForm
from quantchat.ops.linear_tiles import TileLinear, restored_tiles, tile_linear
from quantchat.quant.codebook import CodebookWeight, NestedScales
from quantchat.quant.lut import SparseRows
from quantchat.quant.scheme import ActivationFormat
from quantchat.quant.tensor import StoredWeight

ROWS, COLUMNS = 48, 192


def nested_weight(n: int, k: int) -> CodebookWeight:
    plain = codebook_weight(n, k, 64)
    blocks = n * k // 64
    scales = NestedScales(
        torch.randint(0, 256, (n, k // 64), dtype=torch.uint8),
        torch.linspace(-1, 1, 256),
        torch.rand(-(-blocks // 256)) * 0.05,
        torch.full((-(-blocks // 256),), 0.1),
    )
    return dataclasses.replace(plain, scales=scales)


MAKERS: dict[str, Callable[[int, int], StoredWeight]] = {
    "codebook": lambda n, k: codebook_weight(n, k, 64),
    "wide blocks": lambda n, k: codebook_weight(n, k, k),
    "nested": nested_weight,
    "lut4": lambda n, k: lut_weight(n, k, 4, sparse=False),
    "lut3": lambda n, k: lut_weight(n, k, 3, sparse=False),
    "lut4 sparse": lambda n, k: lut_weight(n, k, 4, sparse=True),
    "lut3 sparse": lambda n, k: lut_weight(n, k, 3, sparse=True),
    "progressive": lambda n, k: progressive_weight(n, k, 32),
    "progressive channel": lambda n, k: progressive_weight(n, k, k),
}


def stored(name: str, columns: int = COLUMNS) -> StoredWeight:
    torch.manual_seed(len(name))
    return MAKERS[name](ROWS, columns)


def op_of(
    weight: StoredWeight,
    *,
    bias: torch.Tensor | None = None,
    gated: bool = False,
    activations: ActivationFormat = "16bit",
    dtype: torch.dtype = torch.float16,
) -> TileLinear | None:
    return tile_linear(
        weight, bias, dtype=dtype, gated=gated, activations=activations, dependent=True
    )


def made(name: str, **options: object) -> TileLinear:
    op = op_of(stored(name), **options)  # type: ignore[arg-type]
    assert op is not None
    return op


def dense_of(weight: Weight) -> torch.Tensor:
    if isinstance(weight, TableTiles):
        dense: torch.Tensor = table_pack.dense(weight)
        return dense
    assert isinstance(weight, Int4Tiles) and weight.channel is not None
    return integers(weight) * weight.channel[:, None]


def integers(weight: Int4Tiles) -> torch.Tensor:
    codes, scale, offset = pack.unpack(weight)
    wide = [part.float().repeat_interleave(weight.group_size, 1) for part in (scale, offset)]
    return codes.float() * wide[0] + wide[1]


def entries(*parts: torch.Tensor, shape: tuple[int, int]) -> torch.Tensor:
    return SparseRows(*parts).add_to(torch.zeros(shape))


@pytest.fixture
def launches(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Kernels replaced by torch; names of those that ran."""
    ran: list[str] = []

    def few(x: torch.Tensor, weight: Weight, **options: object) -> torch.Tensor:
        ran.append("few")
        assert options["dependent"] is True
        extra, bias, scale = options["extra"], options["bias"], options["row_scale"]
        y = x.float() @ dense_of(weight).t()
        y = y + extra if isinstance(extra, torch.Tensor) else y
        y = y * scale[:, None] if isinstance(scale, torch.Tensor) else y
        y = y + bias.float() if isinstance(bias, torch.Tensor) else y
        if options["gated"]:
            gate, up = y.chunk(2, dim=-1)
            y = torch.nn.functional.silu(gate) * up
        return y.to(x.dtype)

    def product(x: torch.Tensor, *parts: torch.Tensor, dependent: bool) -> torch.Tensor:
        ran.append("sparse")
        assert dependent
        return x.float() @ entries(*parts, shape=(ROWS, x.shape[1])).t()

    def add(dense: torch.Tensor, *parts: torch.Tensor) -> torch.Tensor:
        ran.append("add")
        return dense.add_(entries(*parts, shape=(dense.shape[0], dense.shape[1])).to(dense.dtype))

    def dense(weight: Weight, dtype: torch.dtype) -> torch.Tensor:
        ran.append("dequantize")
        return dense_of(weight).to(dtype)

    def codes(weight: Int4Tiles) -> torch.Tensor:
        ran.append("expand")
        return integers(weight).to(torch.int8)

    monkeypatch.setattr(linear_tiles, "linear", few)
    monkeypatch.setattr(linear_tiles, "sparse_product", product)
    monkeypatch.setattr(linear_tiles, "add_sparse", add)
    monkeypatch.setattr(linear_tiles, "dequantize_table", dense)
    monkeypatch.setattr(linear_tiles, "dense_from_tiles", dense)
    monkeypatch.setattr(linear_tiles, "expand", codes)
    return ran


def close(y: torch.Tensor, truth: torch.Tensor) -> None:
    torch.testing.assert_close(y.float(), truth, rtol=2e-2, atol=2e-2 * float(truth.std()))


@pytest.mark.parametrize("name", MAKERS)
def test_few_rows_and_many_see_the_same_weight(name: str, launches: list[str]) -> None:
    bias = torch.randn(ROWS).half()
    op = made(name, bias=bias)
    dense = stored(name).dequantize(torch.float32)
    for rows in (1, op.few_rows, op.few_rows + 1):
        x = torch.randn(rows, COLUMNS).half()
        close(op(x), x.float() @ dense.t() + bias.float())
    sparse = "sparse" in name
    few = ["sparse", "few"] if sparse else ["few"]
    assert launches == [*few, *few, "dequantize", *(["add"] if sparse else [])]


@pytest.mark.parametrize("name", MAKERS)
def test_gated_weights(name: str, launches: list[str]) -> None:
    op = made(name, gated=True)
    x = torch.randn(2, COLUMNS).half()
    truth = x.float() @ stored(name).dequantize(torch.float32).t()
    close(op(x), truth)
    gate, up = truth.chunk(2, dim=-1)
    close(op.few(x, gated=True), torch.nn.functional.silu(gate) * up)
    assert launches[0] == "dequantize" and launches[-1] == "few"


@pytest.mark.parametrize("name", ["progressive", "progressive channel"])
def test_rounded_inputs_multiply_expanded_codes(name: str, launches: list[str]) -> None:
    op = made(name, activations="int8")
    assert op.codes_read == "int8" and op.code == "progressive4"
    assert op.few_rows == few_rows("progressive4", "int8")
    assert op._many is not None
    expanded = op._many._expand()  # type: ignore[attr-defined]
    weight = stored(name)
    assert torch.equal(expanded, weight.expand())  # type: ignore[union-attr]
    scale = torch.rand(3)
    x = torch.randint(-127, 128, (3, COLUMNS)).half()
    y = op.few(x, row_scale=scale)
    close(y, x.float() @ weight.dequantize(torch.float32).t() * scale[:, None])
    assert launches == ["expand", "few"]


def test_bytes_that_decode_reads() -> None:
    n, k = ROWS, COLUMNS
    wide = 256
    blocks = -(-n * (k // 64) // 256)
    sparse = stored("lut4 sparse").tensors()
    entry_bytes = len(sparse["sparse_columns"]) * 6 + (n + 1) * 4
    assert made("codebook").weight_bytes == n * k // 2 + n * k // 64 * 4 + 256
    assert made("nested").weight_bytes == n * wide // 2 + n * wide // 64 + 8 * blocks + 1024 + 256
    assert made("lut4").weight_bytes == n * k // 2 + n * 32
    assert made("lut3").weight_bytes == n * wide * 3 // 8 + n * 16
    assert made("lut4 sparse").weight_bytes == n * k // 2 + n * 32 + entry_bytes
    assert made("progressive").weight_bytes == n * k // 2 + n * k // 32 * 4 + n * 4
    assert made("progressive channel").weight_bytes == n * k // 2 + n * k // 64 * 4 + n * 4


@pytest.mark.parametrize("name", MAKERS)
def test_facts(name: str) -> None:
    op = made(name)
    assert (op.out_features, op.in_features) == (ROWS, COLUMNS)
    assert op.code == ("progressive4" if "progressive" in name else "table4")
    assert op.few_rows == few_rows(op.code, "16bit") and op.code in op.kernel
    assert op.owns_copy and op.copy_bytes == 0 and op.codes_read is None
    shape = op.shape(one_row=True)
    assert (shape.outputs, shape.columns) == (ROWS, COLUMNS)


@pytest.mark.parametrize(
    "weight",
    [
        codebook_weight(16, 96, 32),
        codebook_weight(16, 64, 32),
        lut_weight(16, 96, 4, sparse=False),
        lut_weight(16, 96, 3, sparse=True),
        progressive_weight(16, 96, 16),
        progressive_weight(16, 48, 48),
    ],
)
def test_shapes_that_the_kernel_does_not_take_are_left_to_others(weight: StoredWeight) -> None:
    assert op_of(weight) is None


def test_a_sparse_part_without_entries_costs_nothing(launches: list[str]) -> None:
    weight = lut_weight(ROWS, COLUMNS, 4, sparse=False)
    empty = SparseRows(
        torch.zeros(ROWS + 1, dtype=torch.int32),
        torch.zeros(0, dtype=torch.int32),
        torch.zeros(0, dtype=torch.float16),
    )
    op = op_of(dataclasses.replace(weight, sparse=empty))
    assert op is not None
    op(torch.randn(1, COLUMNS).half())
    assert launches == ["few"]


def restored(
    form: LinearForm, *, gated: bool = False, dtype: torch.dtype = torch.float16
) -> TileLinear:
    return restored_tiles(form, dtype=dtype, gated=gated, activations="int8", dependent=True)


@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", MAKERS)
def test_what_is_packed_comes_back(name: str, dtype: torch.dtype, gated: bool) -> None:
    op = made(name, bias=torch.randn(ROWS).to(dtype), gated=gated, dtype=dtype, activations="int8")
    form = op.packed()
    assert form is not None and form.shape == (ROWS, COLUMNS)
    again = restored(form, gated=gated, dtype=dtype)
    second = again.packed()
    assert second is not None
    assert (second.form, second.group_size) == (form.form, form.group_size)
    assert second.tensors.keys() == form.tensors.keys() and "bias" in form.tensors
    for key, tensor in form.tensors.items():
        assert torch.equal(second.tensors[key], tensor)
    assert torch.equal(dense_of(again._weight), dense_of(op._weight))
    assert (again.codes_read, again.weight_bytes) == (op.codes_read, op.weight_bytes)
    with pytest.raises(ValueError):
        restored(form, gated=not gated, dtype=dtype)
    if op.code == "table4":
        other = next(kind for kind in (torch.float16, torch.bfloat16) if kind != dtype)
        with pytest.raises(ValueError):
            restored(form, gated=gated, dtype=other)


@pytest.mark.parametrize("name", MAKERS)
def test_a_form_that_does_not_fit_is_refused(name: str) -> None:
    form = made(name).packed()
    assert form is not None
    changes: list[dict[str, object]] = [
        {"form": form.form.replace("-1", "-0")},
        {"shape": (ROWS, COLUMNS + 8)},
        {"shape": (ROWS * 100, COLUMNS)},
        {"shape": (ROWS, COLUMNS * 4)},
        {"group_size": 48},
    ]
    for key, tensor in form.tensors.items():
        others = {other: form.tensors[other] for other in form.tensors if other != key}
        if not key.startswith("sparse_starts"):
            changes.append({"tensors": others})
        changes.append({"tensors": form.tensors | {key: tensor[:-1]}})
        changes.append({"tensors": form.tensors | {key: tensor.to(torch.float64)}})
    for change in changes:
        with pytest.raises(ValueError):
            restored(dataclasses.replace(form, **change))  # type: ignore[arg-type]


@pytest.mark.parametrize("damage", ["negative", "beyond", "falling", "later"])
def test_sparse_entries_stay_inside_the_matrix(damage: str) -> None:
    form = made("lut4 sparse").packed()
    assert form is not None
    starts = form.tensors["sparse_starts"].clone()
    columns = form.tensors["sparse_columns"].clone()
    if damage in ("negative", "beyond"):
        columns[5] = -1 if damage == "negative" else COLUMNS
    elif damage == "falling":
        starts[3] = starts[-1] + 1
    else:
        starts[0] = 1
    tensors = form.tensors | {"sparse_starts": starts, "sparse_columns": columns}
    with pytest.raises(ValueError, match="outside"):
        restored(dataclasses.replace(form, tensors=tensors))


def test_every_table_code_is_made() -> None:
    codes = {made(name)._weight.code for name in MAKERS if "progressive" not in name}  # type: ignore[union-attr]
    assert codes == set(get_args(table_pack.TableCode))
