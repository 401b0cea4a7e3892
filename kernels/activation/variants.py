"""Activation kernels in the configurations that models run them in, to compile ahead of time."""

from __future__ import annotations

from .._variants import POINTEE, Variant
from .silu import silu_mul_kernel


def variants() -> tuple[Variant, ...]:
    """Every configuration that must compile."""
    return tuple(
        Variant(
            name=f"silu-{dtype}",
            kernel=silu_mul_kernel,
            signature={"x_ptr": pointer, "y_ptr": pointer, "I": "i32"},
            constexprs={"BI": 1024},
        )
        for dtype, pointer in POINTEE.items()
    )
