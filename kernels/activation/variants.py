"""Activation kernels in the configurations that models run them in, to compile ahead of time."""

from __future__ import annotations

from .._variants import POINTEE, Variant
from ..quantize.codes import FP8, INT8
from ..quantize.rows import LOWEST_CAST_SM, row_warps
from ..quantize.variants import CODES
from .reference import Activation
from .rows import ACTIVATIONS, PLAIN, activation_kernel


def _activation(
    activation: Activation,
    dtype: str,
    *,
    block: int = 1024,
    gated: bool = True,
    form: int = PLAIN.value,
    cast: bool = False,
    given: bool = False,
    pdl: bool = False,
) -> Variant:
    pointer = POINTEE[dtype]
    return Variant(
        name=f"{activation}-{block}-{dtype}-gated{gated:d}-form{form}-cast{cast:d}-given{given:d}-pdl{pdl:d}",
        kernel=activation_kernel,
        signature={
            "x_ptr": pointer,
            "y_ptr": CODES.get(form, pointer),
            "scale_ptr": "*fp32",
            "given_ptr": "*fp32",
            "I": "i32",
        },
        constexprs={
            "BI": block,
            "ACT": ACTIVATIONS[activation],
            "GATED": gated,
            "FORM": form,
            "CAST": cast,
            "GIVEN": given,
            "PDL": pdl,
        },
        warps=4 if form == PLAIN.value else row_warps(block),
        lowest_sm=LOWEST_CAST_SM if cast else 75,
        dependent=pdl,
    )


def variants() -> tuple[Variant, ...]:
    """Every configuration that must compile."""
    return (
        *(_activation("silu", dtype) for dtype in POINTEE),
        _activation("gelu_tanh", "bf16"),
        _activation("gelu_tanh", "bf16", pdl=True),
        _activation("gelu_tanh", "fp16", gated=False),
        _activation("gelu", "fp16", gated=False),
        _activation("silu", "bf16", pdl=True),
        _activation("silu", "bf16", block=16384, form=INT8.value),
        _activation("silu", "bf16", block=16384, form=FP8.value),
        _activation("silu", "bf16", block=16384, form=FP8.value, cast=True),
        _activation("silu", "bf16", block=16384, form=INT8.value, given=True),
        _activation("gelu_tanh", "fp16", block=32768, form=FP8.value, cast=True),
    )
