"""Stored weights out of a packed file's tensors, whatever those hold.

Owns what makes a stored format whole: names, dtypes, shapes and every index within bounds, so
that nothing that reads codes can read beside a table or a row. Finite numbers are not asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch

from quantchat.ops.linear import LinearForm, check_order
from quantchat.quant.codebook import NESTED_BLOCK, BlockScales, CodebookWeight, NestedScales
from quantchat.quant.lut import LutBits, LutWeight, SparseRows
from quantchat.quant.progressive import ProgressiveWeight
from quantchat.quant.progressive_rounding import LARGEST_STEP
from quantchat.quant.tensor import (
    DenseWeight,
    Fp8ChannelWeight,
    Int4GroupWeight,
    Int8ChannelWeight,
    StoredWeight,
)

BIAS = "bias"
INPUT_SCALE = "input_scale"
FLOATS = (torch.float32, torch.bfloat16, torch.float16)


def weight_of(kind: str, form: LinearForm) -> StoredWeight:
    """The stored weight of a form's tensors, bias apart; ValueError where they are not one."""
    if kind not in _READERS:
        raise ValueError(f"unknown stored format {kind!r}")
    if min(form.shape) < 1:
        raise ValueError(f"{kind}: a matrix of {form.shape}")
    tensors = {name: values for name, values in form.tensors.items() if name != BIAS}
    if BIAS in form.tensors:
        _check(form.tensors, BIAS, FLOATS, (form.shape[0],))
    return _READERS[kind](form, tensors)


def _dense(form: LinearForm, tensors: Mapping[str, torch.Tensor]) -> StoredWeight:
    _only(tensors, {"data"})
    return DenseWeight(_check(tensors, "data", FLOATS, form.shape))


def _int8(form: LinearForm, tensors: Mapping[str, torch.Tensor]) -> StoredWeight:
    _only(tensors, {"codes", "scale"}, {INPUT_SCALE})
    codes = _check(tensors, "codes", (torch.int8,), form.shape)
    scale = _check(tensors, "scale", (torch.float32,), (form.shape[0],))
    return Int8ChannelWeight(codes, scale, _input_scale(tensors))


def _fp8(form: LinearForm, tensors: Mapping[str, torch.Tensor]) -> StoredWeight:
    _only(tensors, {"codes", "scale"}, {INPUT_SCALE})
    codes = _check(tensors, "codes", (torch.float8_e4m3fn,), form.shape)
    scale = _check(tensors, "scale", (torch.float32,), (form.shape[0],))
    return Fp8ChannelWeight(codes.view(torch.uint8), scale, _input_scale(tensors))


def _int4(form: LinearForm, tensors: Mapping[str, torch.Tensor]) -> StoredWeight:
    _only(tensors, {"packed", "scale", "offset"}, {"order"})
    groups = _groups(form)
    packed = _packed(form, tensors, 4)
    scale = _check(tensors, "scale", (torch.float16,), groups)
    offset = _check(tensors, "offset", (torch.float16,), groups)
    order = None
    if "order" in tensors:
        order = _check(tensors, "order", (torch.int32,), (form.shape[1],))
        check_order(order)
    return Int4GroupWeight(packed, scale, offset, form.group_size, order)


def _codebook(form: LinearForm, tensors: Mapping[str, torch.Tensor]) -> StoredWeight:
    groups = _groups(form)
    packed = _packed(form, tensors, 4)
    table = _check(tensors, "table", (torch.float32,), (16,))
    scales: BlockScales
    if "scale" in tensors:
        _only(tensors, {"packed", "table", "scale"})
        scales = _check(tensors, "scale", (torch.float32,), groups)
    else:
        nested = ("scale_codes", "scale_table", "scale_scale", "scale_offset")
        _only(tensors, {"packed", "table", *nested})
        blocks = (-(-groups[0] * groups[1] // NESTED_BLOCK),)
        scales = NestedScales(
            _check(tensors, "scale_codes", (torch.uint8,), groups),
            _check(tensors, "scale_table", (torch.float32,), (256,)),
            _check(tensors, "scale_scale", (torch.float32,), blocks),
            _check(tensors, "scale_offset", (torch.float32,), blocks),
        )
    return CodebookWeight(packed, table, scales, form.group_size)


def _lut(bits: LutBits) -> Callable[[LinearForm, Mapping[str, torch.Tensor]], StoredWeight]:
    def read(form: LinearForm, tensors: Mapping[str, torch.Tensor]) -> StoredWeight:
        sparse = {"sparse_starts", "sparse_columns", "sparse_values"}
        kept_apart = not sparse.isdisjoint(tensors)
        _only(tensors, {"packed", "table"} | (sparse if kept_apart else set()))
        packed = _packed(form, tensors, bits)
        table = _check(tensors, "table", (torch.float16,), (form.shape[0], 1 << bits))
        return LutWeight(packed, table, bits, _sparse(form, tensors) if kept_apart else None)

    return read


def _sparse(form: LinearForm, tensors: Mapping[str, torch.Tensor]) -> SparseRows:
    """Entries within the matrix, each place once, in order."""
    n, k = form.shape
    starts = _check(tensors, "sparse_starts", (torch.int32,), (n + 1,))
    columns = tensors["sparse_columns"]
    entries = columns.numel()
    if entries > n * k:
        raise ValueError(f"{entries} sparse entries in [{n}, {k}]")
    _check(tensors, "sparse_columns", (torch.int32,), (entries,))
    values = _check(tensors, "sparse_values", (torch.float16,), (entries,))
    first, last = int(starts[0]), int(starts[-1])
    if (first, last) != (0, entries) or bool((starts[1:] < starts[:-1]).any()):
        raise ValueError("sparse_starts: rows do not follow each other")
    if bool(((columns < 0) | (columns >= k)).any()):
        raise ValueError(f"sparse_columns: beyond the {k} columns")
    sparse = SparseRows(starts, columns, values)
    place = sparse.rows() * k + columns
    if bool((place[1:] <= place[:-1]).any()):
        raise ValueError("sparse_columns: not ascending in a row")
    return sparse


def _progressive(form: LinearForm, tensors: Mapping[str, torch.Tensor]) -> StoredWeight:
    _only(tensors, {"packed", "scale", "group_scale", "group_zero"})
    groups = _groups(form)
    packed = _packed(form, tensors, 4)
    scale = _check(tensors, "scale", (torch.float32,), (form.shape[0],))
    group_scale = _check(tensors, "group_scale", (torch.uint8,), groups)
    group_zero = _check(tensors, "group_zero", (torch.uint8,), groups)
    if not 1 <= int(group_scale.min()) <= int(group_scale.max()) <= LARGEST_STEP:
        raise ValueError(f"group_scale: not from 1 to {LARGEST_STEP}")
    if int(group_zero.max()) > 15:
        raise ValueError("group_zero: beyond 15")
    return ProgressiveWeight(packed, scale, group_scale, group_zero, form.group_size)


_READERS: Mapping[str, Callable[[LinearForm, Mapping[str, torch.Tensor]], StoredWeight]] = (
    MappingProxyType(
        {
            "dense": _dense,
            "int8_channel": _int8,
            "fp8_channel": _fp8,
            "int4_group": _int4,
            "codebook4": _codebook,
            "lut4": _lut(4),
            "lut3": _lut(3),
            "progressive4": _progressive,
        }
    )
)


def _only(
    tensors: Mapping[str, torch.Tensor], wanted: set[str], allowed: set[str] | None = None
) -> None:
    names = set(tensors)
    if not wanted <= names <= wanted | (allowed or set()):
        raise ValueError(f"{sorted(names)} stand where {sorted(wanted)} should")


def _check(
    tensors: Mapping[str, torch.Tensor],
    name: str,
    dtypes: tuple[torch.dtype, ...],
    shape: tuple[int, ...],
) -> torch.Tensor:
    """The tensor of that name; ValueError where it is missing or of another kind."""
    if name not in tensors:
        raise ValueError(f"{name} is missing")
    values = tensors[name]
    if values.dtype not in dtypes or tuple(values.shape) != shape:
        raise ValueError(
            f"{name}: {values.dtype} {list(values.shape)}, not {dtypes[0]} {list(shape)}"
        )
    return values


def _packed(form: LinearForm, tensors: Mapping[str, torch.Tensor], bits: int) -> torch.Tensor:
    n, k = form.shape
    if k * bits % (8 if bits == 4 else 24):
        raise ValueError(f"{k} columns are no whole bytes of {bits}-bit codes")
    return _check(tensors, "packed", (torch.uint8,), (n, k * bits // 8))


def _groups(form: LinearForm) -> tuple[int, int]:
    """(N, groups along K)."""
    n, k = form.shape
    if form.group_size < 1 or k % form.group_size:
        raise ValueError(f"groups of {form.group_size} in {k} columns")
    return n, k // form.group_size


def _input_scale(tensors: Mapping[str, torch.Tensor]) -> torch.Tensor | None:
    """float32 [], which files hold as one value in a row."""
    if INPUT_SCALE not in tensors:
        return None
    return _check(tensors, INPUT_SCALE, (torch.float32,), (1,)).reshape(())
