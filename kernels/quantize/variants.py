"""Quantising kernels in the configurations that models run them in, to compile ahead of time."""

from __future__ import annotations

from .._variants import POINTEE, Variant
from ..linear.reference import PARTIAL_COLUMNS
from .codes import FP8, INT8
from .dense import dequantize_weight_kernel
from .matmul import LOWEST_SM, scaled_matmul_kernel
from .parted import REGISTERS, parted_matmul_kernel, tile_layout
from .prepare import prepare_rows_kernel, prepare_warps
from .product import scale_product_kernel
from .rows import LOWEST_CAST_SM, quantize_rows_kernel, row_warps
from .tiles import (
    GROUP_COLUMNS,
    ONE_WAVE,
    PARTED,
    PARTED_DEPTH,
    SMALL,
    SQUARE,
    WALKED,
    WALKED_LOW,
    Parted,
    Tile,
)
from .walk import walked_matmul_kernel

CODES = {INT8.value: "*i8", FP8.value: "*u8"}


def _rows(
    block: int,
    dtype: str,
    form: int,
    *,
    cast: bool = False,
    given: bool = False,
    pdl: bool = False,
) -> Variant:
    return Variant(
        name=f"rows-{block}-{dtype}-form{form}-cast{cast:d}-given{given:d}-pdl{pdl:d}",
        kernel=quantize_rows_kernel,
        signature={
            "x_ptr": POINTEE[dtype],
            "codes_ptr": CODES[form],
            "scale_ptr": "*fp32",
            "given_ptr": "*fp32",
            "K": "i32",
        },
        constexprs={"BK": block, "FORM": form, "CAST": cast, "GIVEN": given, "PDL": pdl},
        warps=row_warps(block),
        lowest_sm=LOWEST_CAST_SM if cast else 75,
        dependent=pdl,
    )


def _prepare(
    block: int,
    dtype: str,
    *,
    normed: bool = False,
    outliers: bool = False,
    restore: bool = False,
    pdl: bool = False,
) -> Variant:
    return Variant(
        name=f"prepare-{block}-{dtype}-normed{normed:d}-outliers{outliers:d}-restore{restore:d}-pdl{pdl:d}",
        kernel=prepare_rows_kernel,
        signature={
            "x_ptr": POINTEE[dtype],
            "squares_ptr": "*fp32",
            "y_ptr": POINTEE[dtype],
            "scale_ptr": "*fp32",
            "K": "i32",
            "eps": "fp32",
            "threshold": "fp32",
        },
        constexprs={
            "BK": block,
            "BP": block // PARTIAL_COLUMNS,
            "NORMED": normed,
            "OUTLIERS": outliers,
            "RESTORE": restore,
            "PDL": pdl,
        },
        warps=prepare_warps(block),
        dependent=pdl,
    )


def _product(dtype: str, bias: bool) -> Variant:
    return Variant(
        name=f"product-{dtype}-bias{bias:d}",
        kernel=scale_product_kernel,
        signature={
            "product_ptr": "*i32",
            "row_scale_ptr": "*fp32",
            "column_scale_ptr": "*fp32",
            "bias_ptr": POINTEE[dtype],
            "y_ptr": POINTEE[dtype],
            "N": "i32",
            "product_stride": "i32",
            "y_stride": "i32",
        },
        constexprs={"BN": 1024, "HAS_BIAS": bias},
    )


def _dense(dtype: str, *, fp8: bool) -> Variant:
    return Variant(
        name=f"dense-{dtype}-fp8{fp8:d}",
        kernel=dequantize_weight_kernel,
        signature={
            "w_ptr": "*u8" if fp8 else "*i8",
            "s_ptr": "*fp32",
            "y_ptr": POINTEE[dtype],
            "N": "i32",
            "K": "i32",
        },
        constexprs={"BN": 4, "BK": 1024, "FP8": fp8},
        warps=8,
    )


_PRODUCT = {
    "row_scale_ptr": "*fp32",
    "column_scale_ptr": "*fp32",
    "bias_ptr": "*bf16",
    "y_ptr": "*bf16",
    "M": "i32",
    "N": "i32",
    "K": "i32",
}
"""Arguments of both products after their codes."""


def _matmul(code: str, tile: Tile, sms: tuple[int, int], *, even: bool, bias: bool) -> Variant:
    return Variant(
        name=f"matmul-{code}-{tile.rows}x{tile.columns}x{tile.depth}-even{even:d}-bias{bias:d}",
        kernel=scaled_matmul_kernel,
        signature={
            "x_ptr": f"*{code}",
            "w_ptr": f"*{code}",
            **_PRODUCT,
        },
        constexprs={
            "BM": tile.rows,
            "BN": tile.columns,
            "BK": tile.depth,
            "GROUP": tile.group,
            "EVEN_K": even,
            "HAS_BIAS": bias,
        },
        warps=tile.warps,
        stages=tile.stages,
        lowest_sm=sms[0],
        highest_sm=sms[1],
        divisible=("K",),
    )


def _walked(code: str, tile: Tile, *, bias: bool) -> Variant:
    return Variant(
        name=f"walked-{code}-{tile.rows}x{tile.columns}x{tile.depth}-bias{bias:d}",
        kernel=walked_matmul_kernel,
        signature={
            "x_desc": f"tensordesc<{code}[{tile.rows}, {tile.depth}]>",
            "w_desc": f"tensordesc<{code}[{tile.columns}, {tile.depth}]>",
            **_PRODUCT,
        },
        constexprs={
            "BM": tile.rows,
            "BN": tile.columns,
            "BK": tile.depth,
            "GROUP": tile.group,
            "PROGRAMS": 264,
            "INT8": code == "i8",
            "HAS_BIAS": bias,
        },
        warps=tile.warps,
        stages=tile.stages,
        lowest_sm=90,
    )


def _parted(code: str, tile: Parted, *, bias: bool) -> Variant:
    layouts = [tile_layout(rows, code == "i8") for rows in (tile.rows, GROUP_COLUMNS)]
    sizes = ("steps", "tiles_m", "rest", "sharers", "waves")
    return Variant(
        name=f"parted-{code}-{tile.rows}-bias{bias:d}",
        kernel=parted_matmul_kernel,
        signature={
            "x_desc": f"tensordesc<{code}[{tile.rows}, {PARTED_DEPTH}],{layouts[0]!r}>",
            "w_desc": f"tensordesc<{code}[{GROUP_COLUMNS}, {PARTED_DEPTH}],{layouts[1]!r}>",
            **{name: kind for name, kind in _PRODUCT.items() if name != "K"},
            "partial_ptr": "*i32" if code == "i8" else "*fp32",
            "arrived_ptr": "*i32",
            **dict.fromkeys(sizes, "i32"),
        },
        constexprs={
            "BM": tile.rows,
            "STAGES": tile.stages,
            "INT8": code == "i8",
            "HAS_BIAS": bias,
        },
        only_sms=(90,),
        divisible=("N",),
        most_stack_bytes=0,
        dependent=True,
        registers=REGISTERS,
    )


def variants() -> tuple[Variant, ...]:
    """Every configuration that must compile."""
    return (
        _rows(1024, "fp16", INT8.value),
        _rows(16384, "bf16", INT8.value),
        _rows(4096, "bf16", INT8.value, pdl=True),
        _rows(4096, "bf16", FP8.value),
        _rows(1024, "fp16", FP8.value, cast=True),
        _rows(4096, "bf16", FP8.value, cast=True, pdl=True),
        _rows(4096, "bf16", INT8.value, given=True),
        _rows(1024, "fp16", FP8.value, cast=True, given=True),
        _prepare(4096, "fp16", normed=True, pdl=True),
        _prepare(4096, "bf16", normed=True, outliers=True, pdl=True),
        _prepare(16384, "fp16", outliers=True),
        _prepare(32768, "bf16", pdl=True),
        _prepare(16384, "bf16", outliers=True, restore=True),
        _product("bf16", True),
        _product("fp16", False),
        *(_dense(dtype, fp8=fp8) for dtype in POINTEE for fp8 in (False, True)),
        _matmul("i8", SQUARE, (90, 100), even=True, bias=True),
        _matmul("i8", SMALL, (LOWEST_SM, 120), even=False, bias=False),
        _matmul("fp8e4nv", SQUARE, (90, 100), even=False, bias=False),
        _matmul("fp8e4nv", SMALL, (LOWEST_CAST_SM, 120), even=True, bias=True),
        *(
            _matmul(code, tile, (90, 90), even=code == "i8", bias=False)
            for code in ("i8", "fp8e4nv")
            for _, tile in ONE_WAVE
        ),
        *(
            _parted(code, tile, bias=code == "i8")
            for code in ("i8", "fp8e4nv")
            for tile in dict.fromkeys(tile for *_, tile in PARTED)
        ),
        _walked("i8", WALKED, bias=True),
        _walked("i8", WALKED_LOW, bias=False),
        _walked("fp8e4nv", WALKED, bias=True),
        _walked("fp8e4nv", WALKED_LOW, bias=False),
    )
