"""Linears of more rows than a decode step has, to compile ahead of time."""

from __future__ import annotations

import torch

from .._variants import POINTEE, SM_VERSIONS, Variant
from .launch import LOWEST_SM
from .many import INT4_TILE, ManyTile, int8_tile, many_int4_kernel, many_int8_kernel
from .wide import SM as WIDE_SM
from .wide import stages_of, wide_int4_kernel, word_layout, x_layout


def _many_int4(group: int, dtype: str, *, gated: bool, even: bool, bias: bool) -> Variant:
    tile, value = INT4_TILE, POINTEE[dtype]
    pointers = {"x_ptr": value, "w_ptr": "*i32", "s_ptr": "*i32", "bias_ptr": value, "y_ptr": value}
    return Variant(
        name=f"many-int4-g{group}-{dtype}-gated{gated:d}-even{even:d}-bias{bias:d}",
        kernel=many_int4_kernel,
        signature=pointers | dict.fromkeys(("M", "outputs", "tiles", "K"), "i32"),
        constexprs={
            "GROUP": group,
            "GATED": gated,
            "HAS_BIAS": bias,
            "EVEN_K": even,
            "INTERPRETED": False,
            "BM": tile.rows,
            "BN": tile.outputs,
        },
        warps=tile.warps,
        stages=tile.stages,
        lowest_sm=LOWEST_SM,
        divisible=("K",) if even else (),
    )


def _wide_int4(rows: int, group: int, dtype: str, *, gated: bool, bias: bool) -> Variant:
    value, words = POINTEE[dtype], word_layout()
    x = x_layout(rows, torch.bfloat16 if dtype == "bf16" else torch.float16)
    pointers = {"y_ptr": value, "partial_ptr": "*fp32", "arrived_ptr": "*i32"}
    left_out: dict[str, object] = {} if bias else {"bias_ptr": None}
    if bias:
        pointers["bias_ptr"] = value
    return Variant(
        name=f"wide-int4-{rows}-g{group}-{dtype}-gated{gated:d}-bias{bias:d}",
        kernel=wide_int4_kernel,
        signature={
            "x_desc": f"tensordesc<{dtype}[{rows}, 64],{x!r}>",
            "w_desc": f"tensordesc<i32[8, 128],{words!r}>",
            "s_desc": f"tensordesc<i32[8, 16],{words!r}>",
            **pointers,
            **dict.fromkeys(("M", "eighths", "tiles", "units", "share"), "i32"),
        },
        constexprs=left_out
        | {
            "GROUP": group,
            "GATED": gated,
            "HAS_BIAS": bias,
            "BF16": dtype == "bf16",
            "BM": rows,
            "STAGES": stages_of(rows),
        },
        warps=8,
        only_sms=(WIDE_SM,),
        most_stack_bytes=0,
        dependent=True,
    )


def _many_int8(rows: int, dtype: str, *, even: bool, bias: bool) -> list[Variant]:
    value = POINTEE[dtype]
    pointers = {
        "x_ptr": value,
        "w_ptr": "*i8",
        "scale_ptr": "*fp32",
        "bias_ptr": value,
        "y_ptr": value,
    }
    by_tile: dict[ManyTile, list[int]] = {}
    for sm in SM_VERSIONS:
        if sm >= LOWEST_SM:
            by_tile.setdefault(int8_tile(rows, sm), []).append(sm)
    return [
        Variant(
            name=f"many-int8-{tile.rows}x{tile.depth}-{dtype}-even{even:d}-bias{bias:d}",
            kernel=many_int8_kernel,
            signature=pointers | dict.fromkeys(("M", "N", "K"), "i32"),
            constexprs={
                "HAS_BIAS": bias,
                "EVEN_K": even,
                "INTERPRETED": False,
                "BM": tile.rows,
                "BN": tile.outputs,
                "BK": tile.depth,
            },
            warps=tile.warps,
            stages=tile.stages,
            only_sms=tuple(sms),
            divisible=("K",),
        )
        for tile, sms in by_tile.items()
    ]


def many_variants() -> tuple[Variant, ...]:
    """Every configuration that must compile."""
    return (
        _many_int4(128, "bf16", gated=True, even=True, bias=False),
        _many_int4(64, "fp16", gated=False, even=True, bias=True),
        _many_int4(32, "bf16", gated=False, even=False, bias=False),
        _wide_int4(128, 128, "bf16", gated=True, bias=False),
        _wide_int4(256, 64, "fp16", gated=False, bias=True),
        _wide_int4(256, 128, "bf16", gated=True, bias=False),
        *_many_int8(256, "bf16", even=True, bias=False),
        *_many_int8(64, "fp16", even=False, bias=True),
    )
