"""Norm kernels in the configurations that models run them in, to compile ahead of time."""

from __future__ import annotations

from .._variants import POINTEE, Variant
from ..quantize.codes import FP8, INT8
from ..quantize.rows import LOWEST_CAST_SM, row_warps
from ..quantize.variants import CODES
from .rows import PLAIN, norm_kernel


def _norm(
    block: int,
    dtype: str,
    *,
    residual: bool,
    center: bool = False,
    form: int = PLAIN.value,
    cast: bool = False,
    given: bool = False,
    pdl: bool = False,
) -> Variant:
    pointer = POINTEE[dtype]
    kind = "layer" if center else "rms"
    return Variant(
        name=f"{kind}-{block}-{dtype}-residual{residual:d}-form{form}-cast{cast:d}-given{given:d}-pdl{pdl:d}",
        kernel=norm_kernel,
        signature={
            "x_ptr": pointer,
            "residual_ptr": pointer,
            "weight_ptr": pointer,
            "bias_ptr": pointer,
            "y_ptr": CODES.get(form, pointer),
            "scale_ptr": "*fp32",
            "total_ptr": pointer,
            "given_ptr": "*fp32",
            "K": "i32",
            "eps": "fp32",
        },
        constexprs={
            "BK": block,
            "CENTER": center,
            "HAS_RESIDUAL": residual,
            "HAS_BIAS": center,
            "FORM": form,
            "CAST": cast,
            "GIVEN": given,
            "PDL": pdl,
        },
        warps=row_warps(block),
        lowest_sm=90 if pdl else LOWEST_CAST_SM if cast else 75,
        options={"launch_pdl": True} if pdl else {},
    )


def variants() -> tuple[Variant, ...]:
    """Every configuration that must compile."""
    return (
        _norm(1024, "fp16", residual=False),
        _norm(4096, "bf16", residual=True),
        _norm(8192, "fp16", residual=True, center=True),
        _norm(4096, "bf16", residual=True, pdl=True),
        _norm(4096, "bf16", residual=True, form=INT8.value),
        _norm(4096, "bf16", residual=False, form=FP8.value),
        _norm(4096, "bf16", residual=True, form=FP8.value, cast=True, pdl=True),
        _norm(8192, "fp16", residual=True, center=True, form=FP8.value, cast=True),
        _norm(4096, "bf16", residual=True, form=INT8.value, given=True),
        _norm(4096, "bf16", residual=False, form=FP8.value, cast=True, given=True),
    )
