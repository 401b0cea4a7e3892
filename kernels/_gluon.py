"""What Gluon kernels share: 16-bit pairs, dependent launch, names that differ between releases."""

from __future__ import annotations

from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.ampere import async_copy
from triton.experimental.gluon.language.nvidia.hopper import tma

# Names that changed between the Triton releases that are supported.
copy_to_shared = (
    async_copy.async_load
    if hasattr(async_copy, "async_load")
    else async_copy.async_copy_global_to_shared
)
tile_to_shared = tma.async_load if hasattr(tma, "async_load") else tma.async_copy_global_to_shared
REINTERPRET_IS_PUBLIC = gl.constexpr(hasattr(gl.shared_memory_descriptor, "reinterpret"))
everyone_arrives = gl.barrier if hasattr(gl, "barrier") else gl.thread_barrier
copies_end_a_stage = async_copy.commit_group
wait_for_stage = async_copy.wait_group


@gluon.jit
def pair_low(pair, BF16: gl.constexpr):
    """The lower half of a 16-bit pair in fp32."""
    if BF16:
        x = (pair << 16).to(gl.float32, bitcast=True)
    else:
        x = pair.to(gl.int16).to(gl.float16, bitcast=True).to(gl.float32)
    return x


@gluon.jit
def pair_high(pair, BF16: gl.constexpr):
    """The upper half of a 16-bit pair in fp32."""
    if BF16:
        x = (pair & -65536).to(gl.float32, bitcast=True)
    else:
        x = (pair >> 16).to(gl.int16).to(gl.float16, bitcast=True).to(gl.float32)
    return x


@gluon.jit
def dependents_may_start():
    """Lets the next kernel of the stream begin where there is room; it waits before it reads."""
    gl.inline_asm_elementwise(
        "griddepcontrol.launch_dependents; // $0", "=r", [], gl.int32, False, 1
    )


@gluon.jit
def wait_for_producers():
    """Returns when all kernels before this one in the stream have ended and are visible."""
    gl.inline_asm_elementwise("griddepcontrol.wait; // $0", "=r", [], gl.int32, False, 1)
