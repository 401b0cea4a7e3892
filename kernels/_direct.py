"""A compiled kernel as the driver takes it: where each argument lies in its block of parameters.

Owns the way arguments are laid out; it is checked against what the kernel itself declares, and
kernels that want anything else are left to Triton.
"""

from __future__ import annotations

import ctypes
import functools
import re
import struct
from dataclasses import dataclass
from typing import Any

from triton.backends.nvidia.driver import TMA_DTYPE_DEVICE_TO_HOST

from ._driver import (
    ATTRIBUTE,
    CONFIG,
    DESCRIBED,
    MAP_BYTES,
    OVERLAP,
    Driver,
    MapKind,
    driver,
)

_SLOT = 8
_NUMBERS = {"i32": "i4x", "u32": "I4x", "i64": "q", "u64": "Q", "fp32": "f4x", "i1": "B7x"}
_DECLARED = {"i32": "u32", "u32": "u32", "i64": "u64", "u64": "u64", "fp32": "f32", "i1": "u8"}
_PARAMETER = re.compile(r"\.param\s+(?:\.align\s+\d+\s+)?\.(\w+)[^,\[\n]*?_param_\d+(\[\d+\])?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Of a kernel's run-time arguments, one slot each in the order of its parameters."""

    format: str
    """Of `struct`, what is left out included."""
    offsets: tuple[int, ...]
    """Of what the driver is handed."""
    boxed: tuple[tuple[int, MapKind], ...]
    """Which arguments are maps."""


@functools.lru_cache(1024)
def layout_of(compiled: Any, arguments: int) -> Layout | None:
    """How a compiled kernel takes its first parameters, the others being constants; None: unknown."""
    facts = compiled.metadata
    extras = (facts.global_scratch_size, facts.profile_scratch_size, facts.launch_cooperative_grid)
    if any(extras) or facts.num_ctas != 1:
        return None
    maps = iter(facts.tensordesc_meta or ())
    boxed: list[tuple[int, MapKind]] = []
    constants = {path[0] for path in compiled.src.constants if len(path) == 1}
    form, offsets, declared, at = "=", [], [], 0
    for index, kind in enumerate(list(compiled.src.signature.values())[:arguments]):
        if kind == "constexpr" or index in constants:
            form, at = form + "Q", at + _SLOT
        elif kind.startswith("*"):
            offsets.append(at)
            declared.append("u64")
            form, at = form + "Q", at + _SLOT
        elif kind.startswith("tensordesc"):
            made = _map_kind(next(maps))
            if made is None:
                return None
            boxed.append((index, made))
            offsets += [at, *(at + MAP_BYTES + i for i in (0, 4, 8, 16))]
            declared += [f"b8[{MAP_BYTES}]", "u32", "u32", "u64", "u64"]
            form, at = form + f"{DESCRIBED.size}s", at + DESCRIBED.size
        elif kind in _NUMBERS:
            offsets.append(at)
            declared.append(_DECLARED[kind])
            form, at = form + _NUMBERS[kind], at + _SLOT
        else:
            return None
    # Behind them, two addresses of scratch memory that these kernels do not use.
    offsets += [at, at]
    declared += ["u64", "u64"]
    if declared != _declared(compiled.asm["ptx"]):
        return None
    return Layout(format=form + "Q", offsets=tuple(offsets), boxed=tuple(boxed))


def _declared(ptx: str) -> list[str]:
    """Types of a kernel's parameters as its code has them."""
    start = ptx.index(".entry")
    text = ptx[start : ptx.index("{", start)]
    return [kind + (size or "") for kind, size in _PARAMETER.findall(text)]


def _map_kind(facts: dict[str, Any]) -> MapKind | None:
    if facts["fp4_padded"] or facts.get("is_im2col", False) or len(facts["block_size"]) != 2:
        return None
    high, wide = facts["block_size"]
    return MapKind(
        TMA_DTYPE_DEVICE_TO_HOST[facts["elem_type"]],
        facts["elem_size"],
        facts["swizzle"],
        (high, wide),
    )


class DirectLaunch:
    """A kernel's launches from one thread: each writes its arguments over those of the last."""

    __slots__ = (
        "_block",
        "_boxed",
        "_compiled",
        "_config",
        "_described",
        "_fixed",
        "_function",
        "_memory",
        "_places",
        "_run",
        "_write",
    )

    def __init__(self, compiled: Any, layout: Layout, driver: Driver) -> None:
        """`compiled` has been launched by Triton before: it is on the card."""
        facts = compiled.metadata
        # A kernel that nobody holds is taken off the card.
        self._compiled = compiled
        self._write = struct.Struct(layout.format).pack_into
        size = struct.calcsize(layout.format)
        # One memory: configuration, attribute, the arguments' addresses, the arguments.
        attribute = CONFIG.size
        places = attribute + ATTRIBUTE.size
        block = -(-(places + len(layout.offsets) * _SLOT) // 64) * 64
        self._memory = ctypes.create_string_buffer(block + size + 64)
        start = -ctypes.addressof(self._memory) % 64
        address = ctypes.addressof(self._memory) + start
        ATTRIBUTE.pack_into(self._memory, start + attribute, OVERLAP, 1)
        addresses = (address + block + offset for offset in layout.offsets)
        struct.pack_into(f"{len(layout.offsets)}Q", self._memory, start + places, *addresses)
        self._block = start + block
        self._config = start
        self._fixed = (32 * facts.num_warps, 1, 1, facts.shared)
        self._places = (address + attribute, int(facts.launch_pdl))
        self._function = (address, compiled.function, address + places)
        self._run = driver.launch
        self._described = driver.described
        self._boxed = layout.boxed

    def __call__(
        self, grid: tuple[int, int, int], stream: int, values: list[Any], matrices: list[Any]
    ) -> None:
        """`values`: addresses and numbers of all parameters, anything for `matrices` among them."""
        for (place, kind), matrix in zip(self._boxed, matrices, strict=True):
            rows, columns = matrix.shape
            address = matrix.data_ptr()
            values[place] = self._described(address, rows, columns, matrix.stride(0), kind)
        CONFIG.pack_into(self._memory, self._config, *grid, *self._fixed, stream, *self._places)
        self._write(self._memory, self._block, *values, 0)
        self._run(*self._function)


def direct_launch(compiled: Any, arguments: int) -> DirectLaunch | None:
    """Of a kernel that Triton has launched with so many; None where it has to be Triton's."""
    try:
        layout, calls = layout_of(compiled, arguments), driver()
        return None if layout is None or calls is None else DirectLaunch(compiled, layout, calls)
    except (AttributeError, LookupError, TypeError, ValueError, StopIteration):
        return None  # facts of a kernel go by other names in this release
