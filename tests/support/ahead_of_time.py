"""Compiles kernels for cards that are not there; imported by worker processes."""

from __future__ import annotations

import importlib
import os
import tempfile


def compile_op(op: str, sm: int) -> list[str]:
    """Compiles the op's variants for one SM version; returns what failed, in words."""
    os.environ.pop("TRITON_INTERPRET", None)
    with tempfile.TemporaryDirectory() as cache:
        os.environ["TRITON_CACHE_DIR"] = cache
        module = importlib.import_module(f"quantchat.kernels.{op}.variants")
        return [
            f"{op} {variant.name} sm_{sm}: {failure}"
            for variant in module.variants()
            if variant.lowest_sm <= sm <= variant.highest_sm
            and (failure := _failure(variant, sm)) is not None
        ]


def _failure(variant: object, sm: int) -> str | None:
    from quantchat.kernels._variants import Variant
    from triton import compile as triton_compile
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    assert isinstance(variant, Variant)
    names = variant.kernel.arg_names
    signature = {name: variant.signature.get(name, "constexpr") for name in names}
    aligned = {
        (i,): [["tt.divisibility", 16]]
        for i, name in enumerate(names)
        if signature[name].startswith("*")
    }
    options = {
        "num_warps": variant.warps,
        "num_stages": variant.stages,
        "enable_fp_fusion": True,
        **variant.options,
    }
    try:
        source = ASTSource(variant.kernel, signature, dict(variant.constexprs), aligned)
        built = triton_compile(source, target=GPUTarget("cuda", sm, 32), options=options)
    except Exception as error:  # whatever the compiler raises is the finding
        return f"{type(error).__name__}: {error}"
    if not built.asm["cubin"]:
        return "empty"
    return _over_the_limit(built.metadata.shared, sm)


def _over_the_limit(shared_bytes: int, sm: int) -> str | None:
    limits = {75: 64, 80: 163, 86: 99, 89: 99, 90: 227, 100: 227, 120: 99}
    if shared_bytes > limits[sm] * 1024:
        return f"{shared_bytes} bytes of shared memory, {limits[sm]} KiB are there"
    return None
