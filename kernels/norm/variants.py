"""Norm kernels in the configurations that models run them in, to compile ahead of time."""

from __future__ import annotations

from .._variants import POINTEE, Variant
from ..quantize.codes import FP8, INT8
from ..quantize.rows import LOWEST_CAST_SM, row_warps
from ..quantize.variants import CODES
from .reference import StreamKind
from .rows import PLAIN, norm_kernel
from .stream import KINDS, stream_norm_kernel


def _norm(
    block: int,
    dtype: str,
    *,
    residual: bool,
    form: int = PLAIN.value,
    cast: bool = False,
    given: bool = False,
    pdl: bool = False,
) -> Variant:
    pointer = POINTEE[dtype]
    return Variant(
        name=f"rms-{block}-{dtype}-residual{residual:d}-form{form}-cast{cast:d}-given{given:d}-pdl{pdl:d}",
        kernel=norm_kernel,
        signature={
            "x_ptr": pointer,
            "residual_ptr": pointer,
            "weight_ptr": pointer,
            "y_ptr": CODES.get(form, pointer),
            "scale_ptr": "*fp32",
            "total_ptr": pointer,
            "given_ptr": "*fp32",
            "K": "i32",
            "eps": "fp32",
        },
        constexprs={
            "BK": block,
            "HAS_RESIDUAL": residual,
            "FORM": form,
            "CAST": cast,
            "GIVEN": given,
            "PDL": pdl,
        },
        warps=row_warps(block),
        lowest_sm=LOWEST_CAST_SM if cast else 75,
        dependent=pdl,
    )


def _stream(
    block: int,
    kind: StreamKind,
    dtype: str,
    *,
    sums: int = 1,
    fresh: bool = False,
    behind: bool = False,
    ahead: bool = True,
    made: str = "",
    pdl: bool = False,
) -> Variant:
    vectors = ("behind_ptr", "behind_bias_ptr", "ahead_ptr", "ahead_bias_ptr")
    layer = kind == "layer"
    there = (behind, behind and layer, ahead, ahead and layer)
    pointer = POINTEE[made or dtype] if made != "fp32" else "*fp32"
    signature = {
        "residual_ptr": "*fp32",
        "y_ptr": POINTEE[dtype],
        "K": "i32",
        "eps": "fp32",
        "scale": "fp32",
    }
    left_out: dict[str, object] = {}
    for name, has in (("made_ptr", sums > 0), ("beside_ptr", sums > 1)):
        if has:
            signature[name] = pointer
        else:
            left_out[name] = None
    for name, has in zip(vectors, there, strict=True):
        if has:
            signature[name] = "*fp32"
        else:
            left_out[name] = None
    return Variant(
        name=(
            f"stream-{block}-{kind}-{dtype}-sums{sums}-fresh{fresh:d}-behind{behind:d}"
            f"-ahead{ahead:d}-made{made or dtype}-pdl{pdl:d}"
        ),
        kernel=stream_norm_kernel,
        signature=signature,
        constexprs=left_out
        | {
            "BK": block,
            "KIND": KINDS[kind],
            "FRESH": fresh,
            "SUMS": sums,
            "BEHIND": there[0],
            "BEHIND_BIAS": there[1],
            "AHEAD": there[2],
            "AHEAD_BIAS": there[3],
            "PDL": pdl,
        },
        warps=row_warps(block),
        dependent=pdl,
    )


def variants() -> tuple[Variant, ...]:
    """Every configuration that must compile."""
    return (
        _norm(1024, "fp16", residual=False),
        _norm(4096, "bf16", residual=True),
        _norm(8192, "fp16", residual=True),
        _norm(4096, "bf16", residual=True, pdl=True),
        _norm(4096, "bf16", residual=True, form=INT8.value),
        _norm(4096, "bf16", residual=False, form=FP8.value),
        _norm(4096, "bf16", residual=True, form=FP8.value, cast=True, pdl=True),
        _norm(8192, "fp16", residual=True, form=FP8.value, cast=True),
        _norm(4096, "bf16", residual=True, form=INT8.value, given=True),
        _norm(4096, "bf16", residual=False, form=FP8.value, cast=True, given=True),
        _stream(4096, "rms_float", "bf16", behind=True),
        _stream(4096, "rms_float", "bf16", behind=True, pdl=True),
        _stream(4096, "rms_float", "fp16", fresh=True),
        _stream(4096, "rms", "bf16", behind=True, ahead=False),
        _stream(2048, "rms", "bf16", made="fp32", pdl=True),
        _stream(8192, "layer", "fp16", sums=2),
        _stream(8192, "layer", "bf16", sums=0, pdl=True),
    )
