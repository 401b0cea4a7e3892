"""Every stored format through a packed file and back; files that lie are refused."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from quantchat.model.packed_cache import PackedCache
from quantchat.model.packed_parts import STORED, stored_form, stored_weight
from quantchat.ops.linear import LinearForm
from quantchat.quant.codebook_rounding import fp4, nf4, nf4_dq
from quantchat.quant.progressive_rounding import progressive
from quantchat.quant.rounding import fp8_channel, int4_group, int8_channel, int8_vectorwise
from quantchat.quant.sparse_rounding import lut_weight
from quantchat.quant.tensor import DenseWeight, StoredWeight

CPU = torch.device("cpu")
WEIGHT = torch.randn(6, 128, generator=torch.Generator().manual_seed(0))
STATIC = torch.tensor(0.125)

FORMATS: dict[str, Callable[[], StoredWeight]] = {
    "dense": lambda: DenseWeight(WEIGHT),
    "int8": lambda: int8_channel(WEIGHT),
    "int8 static": lambda: dataclasses.replace(int8_vectorwise(WEIGHT), input_scale=STATIC),
    "fp8": lambda: fp8_channel(WEIGHT),
    "fp8 static": lambda: dataclasses.replace(fp8_channel(WEIGHT), input_scale=STATIC),
    "int4": lambda: int4_group(WEIGHT, 32),
    "nf4": lambda: nf4(WEIGHT),
    "nf4-dq": lambda: nf4_dq(WEIGHT),
    "fp4": lambda: fp4(WEIGHT),
    "lut4": lambda: lut_weight(WEIGHT, None, 4),
    "lut4 sparse": lambda: lut_weight(WEIGHT, None, 4, 0.02),
    "lut3 sparse": lambda: lut_weight(WEIGHT, None, 3, 0.02),
    "progressive": lambda: progressive(WEIGHT, 32),
    "progressive rows": lambda: progressive(WEIGHT, 0),
}


def same(a: StoredWeight, b: StoredWeight) -> bool:
    if type(a) is not type(b) or a.shape != b.shape:
        return False
    ours, theirs = a.tensors(), b.tensors()
    return set(ours) == set(theirs) and all(
        torch.equal(ours[name].view(-1).view(torch.uint8), theirs[name].view(-1).view(torch.uint8))
        for name in ours
    )


def form_of(name: str) -> LinearForm:
    return stored_form(FORMATS[name](), torch.ones(6))


@pytest.mark.parametrize("name", list(FORMATS))
def test_forms_come_back(name: str) -> None:
    weight = FORMATS[name]()
    again, bias = stored_weight(stored_form(weight, None))
    assert bias is None and same(again, weight)
    assert torch.equal(again.dequantize(torch.float32), weight.dequantize(torch.float32))
    again, bias = stored_weight(form_of(name))
    assert bias is not None and same(again, weight)


def test_a_file_holds_them_all(tmp_path: Path) -> None:
    cache = PackedCache(tmp_path, "abc", "all", 32)
    writer = cache.writer("stored", 1 << 16)
    assert writer is not None
    for name in FORMATS:
        writer.add_linear(name, [form_of(name)])
    head = stored_form(DenseWeight(torch.ones(4, 8)), None)
    writer.add_linear("head", [head])
    writer.add_embedding(head, head)
    writer.commit()
    file = cache.open("stored")
    assert file is not None
    tensors = file.read(CPU, on_bytes=lambda _: None, cancelled=lambda: False)
    for name, made in FORMATS.items():
        again, _ = stored_weight(file.index.linears[name][0].load(tensors))
        assert same(again, made())
    file.close()


@pytest.mark.parametrize("name", list(FORMATS))
def test_other_shapes_dtypes_and_names_are_refused(name: str) -> None:
    form = form_of(name)
    liars = [
        dataclasses.replace(form, shape=(7, 128)),
        dataclasses.replace(form, shape=(6, 64)),
        dataclasses.replace(form, shape=(0, 128)),
        dataclasses.replace(form, form=STORED + "lut5"),
        dataclasses.replace(form, form="int8_channels"),
        dataclasses.replace(form, tensors={**form.tensors, "more": torch.ones(1)}),
    ]
    if form.group_size:
        liars += [dataclasses.replace(form, group_size=size) for size in (0, 48, 256, 16)]
    for key, values in form.tensors.items():
        without = {other: kept for other, kept in form.tensors.items() if other != key}
        if key not in ("bias", "input_scale"):
            liars.append(dataclasses.replace(form, tensors=without))
        wide = torch.int64 if values.dtype != torch.float8_e4m3fn else torch.int8
        for wrong in (values.to(wide), values[:-1], values[None]):
            liars.append(dataclasses.replace(form, tensors={**without, key: wrong}))
    for liar in liars:
        with pytest.raises(ValueError):
            stored_weight(liar)


@pytest.mark.parametrize(
    ("key", "place", "value"),
    [
        ("sparse_starts", 0, 1),
        ("sparse_starts", -1, 14),
        ("sparse_starts", -1, 1 << 30),
        ("sparse_starts", 3, -1),
        ("sparse_starts", 2, 1 << 20),
        ("sparse_columns", 0, -1),
        ("sparse_columns", 4, 128),
        ("sparse_columns", 4, 1 << 30),
    ],
)
def test_sparse_entries_lie_within_the_matrix(key: str, place: int, value: int) -> None:
    form = form_of("lut4 sparse")
    assert len(form.tensors["sparse_values"]) == 15
    values = form.tensors[key].clone()
    values[place] = value
    with pytest.raises(ValueError, match="sparse"):
        stored_weight(dataclasses.replace(form, tensors={**form.tensors, key: values}))


def test_sparse_entries_come_in_order_and_once() -> None:
    form = form_of("lut3 sparse")
    starts = form.tensors["sparse_starts"]
    row = int((starts[1:] - starts[:-1]).argmax())
    first = int(starts[row])
    assert int(starts[row + 1]) - first >= 2
    for swapped in ([first + 1, first], [first, first]):
        columns = form.tensors["sparse_columns"].clone()
        columns[first : first + 2] = columns[swapped]
        with pytest.raises(ValueError, match="ascending"):
            stored_weight(
                dataclasses.replace(form, tensors={**form.tensors, "sparse_columns": columns})
            )


@pytest.mark.parametrize(
    ("key", "value"), [("group_scale", 0), ("group_scale", 18), ("group_zero", 16)]
)
def test_progressive_levels_are_bounded(key: str, value: int) -> None:
    form = form_of("progressive")
    values = form.tensors[key].clone()
    values[3, 1] = value
    with pytest.raises(ValueError, match=key):
        stored_weight(dataclasses.replace(form, tensors={**form.tensors, key: values}))
