"""What the driver is handed for a compiled kernel: each argument where the kernel looks for it."""

from __future__ import annotations

import ctypes
import struct
import threading
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("triton")

import torch
from quantchat.kernels import _direct
from quantchat.kernels._direct import DirectLaunch, direct_launch, layout_of
from quantchat.kernels._driver import ATTRIBUTE, CONFIG, DESCRIBED, OVERLAP, Driver, MapKind

BOX = {"swizzle": 3, "elem_size": 2, "elem_type": 6, "block_size": [64, 32], "fp4_padded": False}
SIGNATURE = {
    "x_desc": "tensordesc<fp16[64, 32]>",
    "bias_ptr": "constexpr",
    "y_ptr": "*bf16",
    "M": "i32",
    "stride": "i64",
    "one": "constexpr",
    "eps": "fp32",
    "BM": "constexpr",
}
ARGUMENTS = 7
DECLARED = (".align 64 .b8", ".u32", ".u32", ".u64", ".u64", ".u64 .ptr .global .align 1")
DECLARED += (".u32", ".u64", ".f32", ".u64 .ptr .global .align 1", ".u64 .ptr .global .align 1")
SIZES = (128, 4, 4, 8, 8, 8, 4, 8, 4, 8, 8)


class Compiled(SimpleNamespace):
    """As a kernel is: the same as itself alone."""

    __hash__ = object.__hash__


def compiled(**changes: Any) -> Any:
    """Stands for what Triton compiled: changes of its metadata, or of its `declared` parameters."""
    declared = changes.pop("declared", DECLARED)
    lines = ",\n".join(
        f"\t.param {kind} k_param_{i}" + ("[128]" if "b8" in kind else "")
        for i, kind in enumerate(declared)
    )
    facts = {
        "global_scratch_size": 0,
        "profile_scratch_size": 0,
        "launch_cooperative_grid": False,
        "num_ctas": 1,
        "num_warps": 12,
        "shared": 4567,
        "launch_pdl": True,
        "tensordesc_meta": [BOX],
    }
    return Compiled(
        metadata=SimpleNamespace(**facts | changes),
        src=SimpleNamespace(signature=SIGNATURE, constants={(1,): None, (5,): 1, (7,): 64}),
        asm={"ptx": f".visible .entry k(\n{lines}\n)\n.reqntid 384\n{{\n ret;\n}}"},
        function=0xF00D,
    )


class Library:
    """Stands for the driver's: keeps a copy of what a launch and an encoding were handed."""

    def __init__(self, *, refuses: int = 0) -> None:
        self.launches: list[tuple[tuple[Any, ...], bytes, int, list[bytes]]] = []
        self.encoded: list[tuple[Any, ...]] = []
        code = ctypes.c_int
        pointer = ctypes.c_void_p

        @ctypes.CFUNCTYPE(code, pointer, pointer, pointer, pointer)
        def launch(config: int, function: int, parameters: int, extra: int | None) -> int:
            held = CONFIG.unpack(ctypes.string_at(config, CONFIG.size))
            attribute = ctypes.string_at(held[8], ATTRIBUTE.size)
            places = struct.unpack("11Q", ctypes.string_at(parameters, 88))
            parts = [ctypes.string_at(at, size) for at, size in zip(places, SIZES, strict=True)]
            assert extra is None and places[0] % 64 == 0
            self.launches.append((held, attribute, function, parts))
            return refuses

        @ctypes.CFUNCTYPE(code, *(ctypes.c_uint64,) * 12)
        def encode(*args: int) -> int:
            shape = struct.unpack("2Q", ctypes.string_at(args[4], 16))
            strides = struct.unpack("Q", ctypes.string_at(args[5], 8))
            box = struct.unpack("2I", ctypes.string_at(args[6], 8))
            ctypes.memset(args[0], len(self.encoded) + 1, 128)
            numbers = [arg & 0xFFFFFFFF for arg in (*args[1:3], *args[8:])]
            self.encoded.append((args[3], shape, strides, box, numbers))
            return refuses

        @ctypes.CFUNCTYPE(code, code, ctypes.POINTER(ctypes.c_char_p))
        def words(refused: int, text: Any) -> int:
            text[0] = b"no such thing" if refused == 1 else None
            return 0

        self.cuLaunchKernelEx, self.cuTensorMapEncodeTiled = launch, encode
        self.cuGetErrorString = words


def driver_of(library: Library) -> Driver:
    return Driver(library)  # type: ignore[arg-type]


def test_every_argument_is_where_the_kernel_looks_for_it() -> None:
    library, kernel = Library(), compiled()
    layout = layout_of(kernel, ARGUMENTS)
    assert layout is not None
    run = DirectLaunch(kernel, layout, driver_of(library))
    x = torch.zeros(48, 96, dtype=torch.float16)[:, :80]
    run((7, 5, 3), 0xABC, [0, 0, 0xBEEF, -9, 2**40, 1, 0.25], [x])
    ((config, attribute, function, parts),) = library.launches
    assert config[:8] == (7, 5, 3, 12 * 32, 1, 1, 4567, 0xABC) and config[9] == 1
    assert struct.unpack_from("I4xi", attribute) == (OVERLAP, 1)
    assert function == 0xF00D
    assert parts[0] == b"\1" * 128
    numbers = struct.unpack("=iiqqQiqf", b"".join(parts[1:9]))
    assert numbers == (48, 80, 96, 1, 0xBEEF, -9, 2**40, 0.25)
    assert parts[9:] == [bytes(8)] * 2, "scratch memory that is not used"
    ((address, shape, strides, box, rest),) = library.encoded
    assert (address, shape, strides, box) == (x.data_ptr(), (80, 48), (192,), (32, 64))
    assert rest == [6, 2, 0, 3, 2, 0]


def test_launches_differ_and_matrices_are_described_once() -> None:
    library, kernel = Library(), compiled(launch_pdl=False)
    layout = layout_of(kernel, ARGUMENTS)
    assert layout is not None
    run = DirectLaunch(kernel, layout, driver_of(library))
    x, y = (torch.zeros(8, 64, dtype=torch.float16) for _ in "xy")
    for number, matrix in enumerate((x, y, x, y[:4])):
        run((1 + number, 1, 1), 0, [0, 0, number, number, 0, 0, 1.0], [matrix])
    maps = [parts[0][:1] for _, _, _, parts in library.launches]
    assert maps == [b"\1", b"\2", b"\1", b"\3"]
    assert [held[0] for held, _, _, _ in library.launches] == [1, 2, 3, 4]
    assert {held[9] for held, _, _, _ in library.launches} == {0}, "no overlap"
    assert [int.from_bytes(parts[5], "little") for *_, parts in library.launches] == [0, 1, 2, 3]


@pytest.mark.parametrize(
    "changes",
    [
        {"global_scratch_size": 1},
        {"profile_scratch_size": 1},
        {"launch_cooperative_grid": True},
        {"num_ctas": 2},
        {"declared": DECLARED[:-1]},
        {"declared": (*DECLARED, ".u64")},
        {"declared": (*DECLARED[:6], ".u64", *DECLARED[7:])},
        {"tensordesc_meta": [BOX | {"fp4_padded": True}]},
        {"tensordesc_meta": [BOX | {"block_size": [4, 64, 32]}]},
    ],
)
def test_kernels_that_want_anything_else_are_left_to_triton(changes: dict[str, Any]) -> None:
    assert layout_of(compiled(), ARGUMENTS) is not None
    assert layout_of(compiled(**changes), ARGUMENTS) is None


@pytest.mark.parametrize(
    "missing", ["num_ctas", "global_scratch_size", "tensordesc_meta", "shared"]
)
def test_kernels_of_a_release_with_other_names_are_left_to_triton(
    missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_direct, "driver", lambda: driver_of(Library()))
    kernel = compiled()
    assert direct_launch(kernel, ARGUMENTS) is not None
    other = compiled()
    delattr(other.metadata, missing)
    assert direct_launch(other, ARGUMENTS) is None
    bare = compiled()
    bare.asm = {}
    assert direct_launch(bare, ARGUMENTS) is None
    fewer = compiled(tensordesc_meta=[])
    assert direct_launch(fewer, ARGUMENTS) is None


def test_refusals_are_told_in_the_driver_s_words() -> None:
    kernel = compiled()
    layout = layout_of(kernel, ARGUMENTS)
    assert layout is not None
    kind = MapKind(6, 2, 3, (64, 32))
    for code, words in ((1, "no such thing"), (2, "unknown error")):
        driver = driver_of(Library(refuses=code))
        with pytest.raises(RuntimeError, match=f"CUDA error: tensor map of .*: {words}"):
            driver.described(64, 8, 64, 64, kind)
        run = DirectLaunch(kernel, layout, driver)
        run._boxed = ()
        with pytest.raises(RuntimeError, match=f"CUDA error: {words}"):
            run((1, 1, 1), 0, [bytes(DESCRIBED.size), 0, 0, 0, 0, 0, 0.0], [])


def test_structures_have_the_driver_s_sizes() -> None:
    assert (CONFIG.size, ATTRIBUTE.size, DESCRIBED.size % 64) == (56, 72, 0)


def test_threads_write_into_memory_of_their_own() -> None:
    from quantchat.kernels import _launch

    mine = _launch._known.launches
    seen: list[bool] = []
    thread = threading.Thread(target=lambda: seen.append(_launch._known.launches is mine))
    thread.start()
    thread.join()
    assert seen == [False]
