"""The embedding kernel in the configurations of models, to compile ahead of time."""

from __future__ import annotations

from .._variants import POINTEE, Variant
from .embed import embed_kernel

_DATA = {"dense": "*bf16", "int8": "*i8", "fp8": "*u8", "int4": "*u8"}


def _embed(columns: int, form: str, dtype: str, scaled: bool, placed: bool, pdl: bool) -> Variant:
    pointer = POINTEE[dtype]
    return Variant(
        name=f"{columns}-{form}-{dtype}-scaled{scaled:d}-placed{placed:d}-pdl{pdl:d}",
        kernel=embed_kernel,
        signature={
            "ids_ptr": "*i64",
            "data_ptr": _DATA[form],
            "scale_ptr": "*fp16" if form == "int4" else "*fp32",
            "offset_ptr": "*fp16",
            "rows_ptr": pointer,
            "gamma_ptr": pointer,
            "scaled_ptr": pointer,
            "partials_ptr": "*fp32",
            "positions_ptr": "*i32",
            "table_ptr": "*i32",
            "slots_ptr": "*i64",
            "max_pages": "i32",
        },
        constexprs={
            "C": columns,
            "B": 512,
            "FORM": form,
            "GROUP": 64 if form == "int4" else 1,
            "PAGE_TOKENS": 16,
            "SCALED": scaled,
            "PLACED": placed,
            "PDL": pdl,
        },
        warps=2,
        dependent=pdl,
    )


def variants() -> tuple[Variant, ...]:
    """Every configuration that must compile."""
    return (
        _embed(4096, "dense", "fp16", True, True, False),
        _embed(4096, "dense", "bf16", True, True, True),
        _embed(576, "int8", "bf16", False, True, False),
        _embed(896, "int4", "fp16", True, False, False),
        _embed(100, "fp8", "bf16", True, True, False),
    )
