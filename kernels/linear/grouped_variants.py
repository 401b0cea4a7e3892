"""Products of rows by expert, and what puts rows in that order, to compile ahead of time."""

from __future__ import annotations

import torch

from .._launch import power_of_2
from .._variants import POINTEE, SM_VERSIONS, Variant
from .choose import ROUTE_DEPTH, ROUTE_ROWS, choose_kernel, route_kernel, route_stages
from .grouped import DENSE, INT4, INT8, GroupedTile, grouped_kernel, grouped_tile
from .grouped_order import (
    FEW_SLOTS,
    MANY_SLOTS,
    TABLE_BLOCKS,
    bins_of,
    collect_kernel,
    order_kernel,
    order_warps,
    spread_kernel,
)
from .grouped_wide import grouped_wide_kernel, staged
from .launch import LOWEST_SM
from .wide import SM as WIDE_SM
from .wide import word_layout, x_layout

_NAMES = {INT4.value: "int4", INT8.value: "int8", DENSE.value: "dense"}


def _grouped(
    code: int,
    group: int,
    dtype: str,
    rows: int,
    *,
    gated: bool = False,
    gelu: bool = False,
    even: bool = True,
) -> list[Variant]:
    """Gated ones find their rows by token, as they do in a layer."""
    value = POINTEE[dtype]
    pointers = {
        "x_ptr": value,
        "w_ptr": {INT4.value: "*i32", INT8.value: "*i8", DENSE.value: value}[code],
        "s_ptr": {INT4.value: "*i32", INT8.value: "*fp32", DENSE.value: None}[code],
        "y_ptr": value,
        "tokens_ptr": "*i32" if gated else None,
        "blocks_ptr": "*i32",
    }
    signature = {name: kind for name, kind in pointers.items() if kind is not None}
    left_out: dict[str, object] = {name: None for name, kind in pointers.items() if kind is None}
    numbers = ("blocks", "outputs", "tiles", "K", "w_step", "s_step")
    by_tile: dict[GroupedTile, list[int]] = {}
    for sm in SM_VERSIONS:
        if sm >= LOWEST_SM:
            by_tile.setdefault(grouped_tile(code, rows, sm), []).append(sm)
    return [
        Variant(
            name=f"grouped-{_NAMES[code]}-{rows}x{tile.outputs}-g{group}-{dtype}-gated{gated:d}-gelu{gelu:d}-even{even:d}",
            kernel=grouped_kernel,
            signature=signature | dict.fromkeys(numbers, "i32"),
            constexprs=left_out
            | {
                "CODE": code,
                "GROUP": group,
                "GATHERED": gated,
                "GATED": gated,
                "GELU": gelu,
                "EVEN_K": even,
                "INTERPRETED": False,
                "BM": rows,
                "BN": tile.outputs,
                "BK": tile.depth,
            },
            warps=tile.warps,
            stages=tile.stages,
            only_sms=tuple(sms),
            divisible=("outputs", "tiles", "K", "w_step", "s_step") if even else ("w_step",),
        )
        for tile, sms in by_tile.items()
    ]


def _order(slots: int, active: int, rows: int, count: int) -> Variant:
    return Variant(
        name=f"order-{slots}-{active}-{rows}-{count}",
        kernel=order_kernel,
        signature={
            "experts_ptr": "*i32",
            "tokens_ptr": "*i32",
            "places_ptr": "*i32",
            "blocks_ptr": "*i32",
            "S": "i32",
            "blocks": "i32",
        },
        constexprs={
            "ACTIVE": active,
            "BM": rows,
            "BS": slots,
            "BB": TABLE_BLOCKS,
            "BE": bins_of(count),
        },
        warps=order_warps(slots),
    )


def _collect(active: int, dtype: str, block: int) -> Variant:
    return Variant(
        name=f"collect-{active}-{dtype}-{block}",
        kernel=collect_kernel,
        signature={
            "y_ptr": POINTEE[dtype],
            "places_ptr": "*i32",
            "shares_ptr": "*fp32",
            "out_ptr": "*fp32",
            "C": "i32",
        },
        constexprs={"ACTIVE": active, "BC": block},
        divisible=("C",),
    )


def _wide(rows: int, group: int, dtype: str, *, gated: bool) -> Variant:
    value, words = POINTEE[dtype], word_layout()
    x = x_layout(rows, torch.bfloat16 if dtype == "bf16" else torch.float16)
    return Variant(
        name=f"grouped-wide-{rows}-g{group}-{dtype}-gated{gated:d}",
        kernel=grouped_wide_kernel,
        signature={
            "x_desc": f"tensordesc<{dtype}[{rows}, 64],{x!r}>",
            "w_desc": f"tensordesc<i32[8, 128],{words!r}>",
            "s_desc": f"tensordesc<i32[8, 16],{words!r}>",
            "blocks_ptr": "*i32",
            "used_ptr": "*i32",
            "y_ptr": value,
            **dict.fromkeys(("blocks", "eighths", "tiles", "units"), "i32"),
        },
        constexprs={
            "GROUP": group,
            "GATED": gated,
            "GELU": False,
            "BF16": dtype == "bf16",
            "BM": rows,
            "STAGES": staged(rows),
        },
        warps=8,
        only_sms=(WIDE_SM,),
        most_stack_bytes=0,
        dependent=True,
    )


def _spread(dtype: str, block: int) -> Variant:
    value = POINTEE[dtype]
    return Variant(
        name=f"spread-{dtype}-{block}",
        kernel=spread_kernel,
        signature={"x_ptr": value, "tokens_ptr": "*i32", "out_ptr": value, "C": "i32"},
        constexprs={"BC": block},
        divisible=("C",),
    )


def _choose(count: int, active: int, *, renormalise: bool) -> Variant:
    return Variant(
        name=f"choose-{count}-{active}-{renormalise:d}",
        kernel=choose_kernel,
        signature={"scores_ptr": "*fp32", "shares_ptr": "*fp32", "experts_ptr": "*i32"},
        constexprs={
            "COUNT": count,
            "ACTIVE": active,
            "RENORMALISE": renormalise,
            "BE": power_of_2(count),
            "BA": power_of_2(active),
        },
        warps=1,
    )


def _route(count: int, active: int, dtype: str, *, even: bool) -> Variant:
    return Variant(
        name=f"route-{count}-{active}-{dtype}-even{even:d}",
        kernel=route_kernel,
        signature={
            "x_ptr": POINTEE[dtype],
            "router_ptr": "*fp32",
            "shares_ptr": "*fp32",
            "experts_ptr": "*i32",
            "M": "i32",
            "K": "i32",
        },
        constexprs={
            "COUNT": count,
            "ACTIVE": active,
            "RENORMALISE": even,
            "EVEN_K": even,
            "BM": ROUTE_ROWS,
            "BE": max(ROUTE_ROWS, power_of_2(count)),
            "BK": ROUTE_DEPTH,
            "BA": power_of_2(active),
        },
        stages=route_stages(count),
        lowest_sm=LOWEST_SM,
        divisible=("K",) if even else (),
    )


def grouped_variants() -> tuple[Variant, ...]:
    """Every configuration that must compile."""
    return (
        _choose(128, 8, renormalise=True),
        _choose(60, 4, renormalise=False),
        _route(128, 8, "bf16", even=True),
        _route(8, 2, "fp16", even=False),
        _route(256, 8, "bf16", even=True),
        _order(FEW_SLOTS, 8, 8, 128),
        _order(MANY_SLOTS, 2, 128, 8),
        _order(MANY_SLOTS, 10, 64, 512),
        _spread("bf16", 1024),
        _collect(8, "bf16", 1024),
        _collect(2, "fp16", 512),
        *_grouped(INT4.value, 128, "bf16", 128, gated=True),
        *_grouped(INT4.value, 64, "fp16", 32),
        *_grouped(INT4.value, 32, "bf16", 16, gated=True, gelu=True, even=False),
        _wide(32, 128, "fp16", gated=True),
        _wide(64, 64, "bf16", gated=False),
        _wide(128, 128, "bf16", gated=True),
        *_grouped(INT8.value, 0, "bf16", 64, gated=True),
        *_grouped(INT8.value, 0, "fp16", 16, even=False),
        *_grouped(DENSE.value, 0, "bf16", 128, gated=True),
        *_grouped(DENSE.value, 0, "fp16", 16),
    )
