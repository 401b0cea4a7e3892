"""The start of a step in one launch: embedded rows, the first norm's inputs, places in the cache.

Reads dense rows, int8 or E4M3 rows with a scale each, or int4 groups. One program a row and a run
of columns; the first of a row also looks up its slot.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
import triton
import triton.language as tl
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

from .._launch import check_out, launch
from ..linear.reference import PARTIAL_COLUMNS

RowFormat: TypeAlias = Literal["dense", "int8", "fp8", "int4"]
_BLOCK = 512
_PART = tl.constexpr(PARTIAL_COLUMNS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Rows of an embedding [vocab, columns] by format.

    dense: data float [V, C]; int8: int8 [V, C], scale float32 [V]; fp8: E4M3 bits uint8, the same
    scale; int4: uint8 [V, C / 2] low nibble first, scale and offset float16 [V, C / group].
    """

    form: RowFormat
    data: torch.Tensor
    scale: torch.Tensor | None = None
    offset: torch.Tensor | None = None
    group: int = 0

    @property
    def columns(self) -> int:
        """C."""
        return self.data.shape[1] * (2 if self.form == "int4" else 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Where rows lie in the paged cache: positions int32 [R], pages int32 [R, max_pages]."""

    positions: torch.Tensor
    table: torch.Tensor
    page_tokens: int
    slots: torch.Tensor
    """int64 [R], written."""


@triton.jit
def embed_kernel(
    ids_ptr,
    data_ptr,
    scale_ptr,
    offset_ptr,
    rows_ptr,
    gamma_ptr,
    scaled_ptr,
    partials_ptr,
    positions_ptr,
    table_ptr,
    slots_ptr,
    max_pages,
    C: tl.constexpr,
    B: tl.constexpr,
    FORM: tl.constexpr,
    GROUP: tl.constexpr,
    PAGE_TOKENS: tl.constexpr,
    SCALED: tl.constexpr,
    PLACED: tl.constexpr,
    PDL: tl.constexpr,
):
    row = tl.program_id(0)
    block = tl.program_id(1)
    c = block * B + tl.arange(0, B)
    m_c = c < C
    if PDL:
        gdc_launch_dependents()
    if SCALED:
        gamma = tl.load(gamma_ptr + c, mask=m_c, other=0.0).to(tl.float32)
    if PDL:
        gdc_wait()
    token = tl.load(ids_ptr + row)
    if FORM == "int4":
        codes = tl.load(data_ptr + token * (C // 2) + c // 2, mask=m_c, other=0).to(tl.int32)
        q = ((codes >> ((c & 1) * 4)) & 15).to(tl.float32)
        o_group = token * (C // GROUP) + c // GROUP
        scale = tl.load(scale_ptr + o_group, mask=m_c, other=0.0).to(tl.float32)
        x = q * scale + tl.load(offset_ptr + o_group, mask=m_c, other=0.0).to(tl.float32)
    elif FORM == "fp8":
        codes = tl.load(data_ptr + token * C + c, mask=m_c, other=0).to(tl.int32)
        # The bits as an fp32 number with the same exponent field, 2^120 too small.
        bits = ((codes & 0x7F) << 20) | ((codes & 0x80) << 24)
        x = bits.to(tl.float32, bitcast=True) * 1.329227995784916e36 * tl.load(scale_ptr + token)
    elif FORM == "int8":
        codes = tl.load(data_ptr + token * C + c, mask=m_c, other=0).to(tl.float32)
        x = codes * tl.load(scale_ptr + token)
    else:
        x = tl.load(data_ptr + token * C + c, mask=m_c, other=0.0).to(tl.float32)
    dtype: tl.constexpr = rows_ptr.dtype.element_ty
    rounded = x.to(dtype)
    o_row = row.to(tl.int64) * C + c
    tl.store(rows_ptr + o_row, rounded, mask=m_c)
    if SCALED:
        wide = rounded.to(tl.float32)
        tl.store(scaled_ptr + o_row, (wide * gamma).to(dtype), mask=m_c)
        parts: tl.constexpr = (C + _PART - 1) // _PART
        squares = tl.sum(tl.reshape(wide * wide, (B // _PART, _PART)), 1)
        p = block * (B // _PART) + tl.arange(0, B // _PART)
        tl.store(partials_ptr + row.to(tl.int64) * parts + p, squares, mask=p < parts)
    if PLACED and block == 0:
        position = tl.load(positions_ptr + row).to(tl.int64)
        # A position past the table is one of padding: page 0 takes it.
        index = position // PAGE_TOKENS
        p_page = table_ptr + row.to(tl.int64) * max_pages + index
        page = tl.load(p_page, mask=index < max_pages, other=0)
        slot = page.to(tl.int64) * PAGE_TOKENS + position % PAGE_TOKENS
        tl.store(slots_ptr + row, slot)


def embed(
    ids: torch.Tensor,
    table: Table,
    *,
    out: torch.Tensor,
    gamma: torch.Tensor | None = None,
    scaled: torch.Tensor | None = None,
    partials: torch.Tensor | None = None,
    places: Places | None = None,
    dependent: bool = False,
) -> torch.Tensor:
    """Rows of the table at ids int64 [R] -> out [R, C] fp16 or bf16; ids must be in range.

    With gamma [C]: scaled [R, C] gets out * gamma, partials float32 [R, ceil(C / 16)] the sums of
    out^2 over 16 columns each. With places: their slots are written.
    """
    rows, columns = ids.shape[0], table.columns
    assert ids.ndim == 1 and ids.dtype == torch.int64
    assert out.dtype in (torch.float16, torch.bfloat16)
    check_out(out, (rows, columns), out.dtype)
    for part in (table.data, table.scale, table.offset, gamma):
        assert part is None or part.is_contiguous()
    if table.form == "int4":
        assert table.group > 0 and columns % table.group == 0
        assert table.scale is not None and table.offset is not None
    elif table.form != "dense":
        assert table.scale is not None and table.scale.dtype == torch.float32
    if gamma is not None:
        assert scaled is not None and partials is not None and gamma.shape == (columns,)
        check_out(scaled, (rows, columns), out.dtype)
        check_out(partials, (rows, -(-columns // PARTIAL_COLUMNS)), torch.float32)
    if places is not None:
        assert places.positions.dtype == places.table.dtype == torch.int32
        assert places.table.shape[0] >= rows and places.table.is_contiguous()
        assert places.slots.dtype == torch.int64 and places.slots.shape[0] >= rows
    launch(
        embed_kernel,
        (rows, triton.cdiv(columns, _BLOCK), 1),
        ids,
        table.data,
        table.scale,
        table.offset,
        out,
        gamma,
        scaled,
        partials,
        None if places is None else places.positions,
        None if places is None else places.table,
        None if places is None else places.slots,
        0 if places is None else places.table.shape[1],
        C=columns,
        B=_BLOCK,
        FORM=table.form,
        GROUP=max(table.group, 1),
        PAGE_TOKENS=1 if places is None else places.page_tokens,
        SCALED=gamma is not None,
        PLACED=places is not None,
        PDL=dependent,
        warps=2,
        dependent=dependent,
    )
    return out
