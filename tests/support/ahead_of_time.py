"""Compiles kernels for cards that are not there; imported by worker processes."""

from __future__ import annotations

import gc
import importlib
import os
import re
import subprocess
import tempfile
from pathlib import Path
from typing import Any

SHARED_KIB = {75: 64, 80: 163, 86: 99, 89: 99, 90: 227, 100: 227, 120: 99}
"""What one program may have of shared memory, by SM version."""


def compile_op(op: str, sm: int) -> list[str]:
    """Compiles the op's variants for one SM version; returns what failed, in words.

    Line tables are left out, but where registers are counted.
    """
    os.environ.pop("TRITON_INTERPRET", None)
    with tempfile.TemporaryDirectory() as cache:
        os.environ["TRITON_CACHE_DIR"] = cache
        module = importlib.import_module(f"quantchat.kernels.{op}.variants")
        failures = [
            f"{op} {variant.name} sm_{sm}: {failure}"
            for variant in module.variants()
            if variant.runs_on(sm) and (failure := _failure(variant, sm)) is not None
        ]
    # Syntax trees of kernels are many small objects: looked through once an op, not at their pace.
    gc.collect()
    gc.freeze()
    gc.disable()
    return failures


def build(variant: object, sm: int) -> Any:
    """The compiled kernel of one variant; whatever the compiler raises goes on."""
    from quantchat.kernels._variants import Variant

    assert isinstance(variant, Variant)
    return variant.job(sm).compile()


def _failure(variant: object, sm: int) -> str | None:
    from quantchat.kernels._direct import layout_of
    from quantchat.kernels._variants import Variant
    from triton import knobs

    assert isinstance(variant, Variant)
    counted = variant.most_stack_bytes is not None and sm == 90
    try:
        with knobs.compilation.scope():
            # They cost a tenth of the time; what they may change is the order of instructions.
            knobs.compilation.disable_line_info = not counted
            built = build(variant, sm)
    except Exception as error:  # whatever the compiler raises is the finding
        return f"{type(error).__name__}: {error}"
    if not built.asm["cubin"]:
        return "empty"
    if built.metadata.shared > SHARED_KIB[sm] * 1024:
        return f"{built.metadata.shared} bytes of shared memory, {SHARED_KIB[sm]} KiB are there"
    given = sum(not parameter.is_constexpr for parameter in variant.kernel.params)
    if layout_of.__wrapped__(built, given) is None:
        return "its parameters are not where a launch would put them"
    limit = variant.most_stack_bytes
    if counted and limit is not None and (spilled := _stack_bytes(built.asm["cubin"])) > limit:
        return f"{spilled} bytes a lane do not fit in registers"
    return None


def _stack_bytes(cubin: bytes) -> int:
    """Stack of a lane: what the assembler found no registers for."""
    import triton

    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        said = subprocess.run(
            [tool, "-res-usage", file.name], capture_output=True, text=True, check=True
        ).stdout
    return max(int(size) for size in re.findall(r"STACK:(\d+)", said))
