"""The CUDA driver's launch and tensor maps, called directly.

Triton's own way to the driver takes 20 to 80 us of the processor a launch, asks the driver about
every pointer and describes tiled matrices anew each time; a prompt has hundreds of launches.
Structures as in the driver's cuda.h; owns no memory of the card.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import struct
import sys
from typing import NamedTuple

LIBRARY = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
MAP_BYTES = 128
DESCRIBED = struct.Struct(f"{MAP_BYTES}s2i2q40x")
"""A map, shape and strides as kernels take them; a multiple of the 64 bytes that maps lie at."""
CONFIG = struct.Struct("3I3II4xQQI4x")
"""CUlaunchConfig: grid, block, shared bytes, stream, attributes, their number."""
ATTRIBUTE = struct.Struct("I4xi60x")
"""CUlaunchAttribute."""
OVERLAP = 6
"""CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION."""
_PROMOTE_128 = 2
"""CU_TENSOR_MAP_L2_PROMOTION_L2_128B."""
_MOST_MAPS = 4096


class MapKind(NamedTuple):
    """What a compiled kernel fixes of a map: names and numbers of the driver's."""

    element: int
    element_bytes: int
    swizzle: int
    box: tuple[int, int]


class Driver:
    """Calls of the driver; RuntimeError in its own words where one is refused."""

    def __init__(self, library: ctypes.CDLL) -> None:
        """Raises AttributeError where the library lacks a call."""
        pointer = ctypes.c_void_p
        self._launch = library.cuLaunchKernelEx
        self._launch.argtypes = (pointer, pointer, pointer, pointer)
        self._encode = library.cuTensorMapEncodeTiled
        self._encode.argtypes = (
            *(pointer, ctypes.c_int, ctypes.c_uint32, ctypes.c_uint64),
            *(pointer, pointer, pointer, pointer),
            *(ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_int),
        )
        self._words = library.cuGetErrorString
        self._words.argtypes = (ctypes.c_int, ctypes.POINTER(ctypes.c_char_p))
        self.described = functools.lru_cache(_MOST_MAPS)(self._described)
        """`_described`, remembered: layers share addresses of what they compute."""

    def launch(self, config: int, function: int, parameters: int) -> None:
        """Addresses of a CONFIG and of the parameters' addresses, and a kernel's handle."""
        refused = self._launch(config, function, parameters, None)
        if refused:
            raise RuntimeError(f"CUDA error: {self._said(refused)}")

    def _described(
        self, address: int, rows: int, columns: int, stride: int, kind: MapKind
    ) -> bytes:
        """A matrix [rows, columns] at an address, `stride` elements a row, as DESCRIBED."""
        raw = ctypes.create_string_buffer(MAP_BYTES + 64)
        start = -ctypes.addressof(raw) % 64
        refused = self._encode(
            ctypes.addressof(raw) + start,
            kind.element,
            2,
            address,
            (ctypes.c_uint64 * 2)(columns, rows),
            (ctypes.c_uint64 * 1)(stride * kind.element_bytes),
            (ctypes.c_uint32 * 2)(kind.box[1], kind.box[0]),
            (ctypes.c_uint32 * 2)(1, 1),
            0,
            kind.swizzle,
            _PROMOTE_128,
            0,
        )
        if refused:
            raise RuntimeError(f"CUDA error: tensor map of {kind}: {self._said(refused)}")
        held = raw.raw[start : start + MAP_BYTES]
        return DESCRIBED.pack(held, rows, columns, stride, 1)

    def _said(self, code: int) -> str:
        text = ctypes.c_char_p()
        self._words(code, ctypes.byref(text))
        return (text.value or b"unknown error").decode()


@functools.cache
def driver() -> Driver | None:
    """None where there is no such library, or one without these calls."""
    with contextlib.suppress(OSError, AttributeError):
        return Driver(ctypes.CDLL(LIBRARY))
    return None
