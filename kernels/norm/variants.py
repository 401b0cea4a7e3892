"""Norm kernels in the configurations that models run them in, to compile ahead of time."""

from __future__ import annotations

from .._variants import POINTEE, Variant
from .rms import rms_norm_kernel


def _rms(block: int, dtype: str, residual: bool) -> Variant:
    pointer = POINTEE[dtype]
    return Variant(
        name=f"rms-{block}-{dtype}-residual{residual:d}",
        kernel=rms_norm_kernel,
        signature={
            "x_ptr": pointer,
            "residual_ptr": pointer,
            "weight_ptr": pointer,
            "y_ptr": pointer,
            "total_ptr": pointer,
            "K": "i32",
            "eps": "fp32",
        },
        constexprs={"BK": block, "HAS_RESIDUAL": residual},
        warps=min(16, max(1, block // 512)),
    )


def variants() -> tuple[Variant, ...]:
    """Every configuration that must compile."""
    return (_rms(1024, "fp16", False), _rms(4096, "bf16", True), _rms(8192, "fp16", True))
