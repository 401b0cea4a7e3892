"""Sparse kernels in the configurations that models run them in, to compile ahead of time."""

from __future__ import annotations

from .._variants import POINTEE, Variant
from .add import add_sparse_kernel
from .product import sparse_product_kernel

_SPARSE = {"starts_ptr": "*i32", "columns_ptr": "*i32", "values_ptr": "*fp16"}
_INTS = {"N": "i32", "K": "i32"}


def _product(dtype: str, tokens: int, rows: int, entries: int, *, pdl: bool = False) -> Variant:
    return Variant(
        name=f"product-{dtype}-{tokens}x{rows}x{entries}-pdl{pdl:d}",
        kernel=sparse_product_kernel,
        signature={"x_ptr": POINTEE[dtype], **_SPARSE, "y_ptr": "*fp32", "M": "i32", **_INTS},
        constexprs={"BM": tokens, "BR": rows, "BE": entries, "PDL": pdl},
        dependent=pdl,
    )


def _add(dtype: str, rows: int, entries: int) -> Variant:
    return Variant(
        name=f"add-{dtype}-{rows}x{entries}",
        kernel=add_sparse_kernel,
        signature={"dense_ptr": POINTEE[dtype], **_SPARSE, **_INTS},
        constexprs={"BR": rows, "BE": entries},
    )


def variants() -> tuple[Variant, ...]:
    """Every configuration that must compile."""
    return (
        _product("fp16", 1, 32, 32, pdl=True),
        _product("bf16", 1, 8, 128),
        _product("bf16", 8, 2, 32, pdl=True),
        _product("fp16", 8, 2, 128),
        _product("fp16", 2, 8, 32),
        _add("fp16", 32, 32),
        _add("bf16", 8, 128),
    )
