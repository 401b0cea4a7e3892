"""Launches that are found again: what makes one the same, what does not, and what is handed over."""

from __future__ import annotations

import pytest

pytest.importorskip("triton")

import torch
from quantchat.kernels import _launch
from quantchat.kernels._launch import Boxed, ceil_div, launch, power_of_2


class Compiled:
    """Stands for a compiled kernel and its launches by the driver: remembers what it was given."""

    def __init__(self) -> None:
        self.launches: list[tuple[object, ...]] = []

    def __call__(
        self,
        grid: tuple[int, int, int],
        stream: int,
        values: list[object],
        matrices: list[torch.Tensor],
    ) -> None:
        self.launches.append((grid, stream, values, matrices))


class Kernel:
    """Stands for a kernel with two parameters and two constants."""

    arg_names = ("x_ptr", "M", "BM", "EVEN")

    def __init__(self, *, interpreted: bool = False) -> None:
        self.made: list[Compiled] = []
        self.calls = 0
        self.options: dict[str, object] = {}
        self.given: tuple[object, ...] = ()
        self._interpreted = interpreted

    def __getitem__(self, grid: tuple[int, int, int]) -> object:
        def run(*args: object, **options: object) -> Compiled | None:
            self.calls += 1
            self.given, self.options = args, options
            if self._interpreted:
                return None
            self.made.append(Compiled())
            return self.made[-1]

        return run


@pytest.fixture(autouse=True)
def forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_launch, "_known", _launch._Known())
    monkeypatch.setattr(_launch, "direct_launch", lambda compiled, arguments: compiled)
    monkeypatch.setattr(_launch, "_stream_of", lambda device: 77)


def aligned(dtype: torch.dtype) -> torch.Tensor:
    buffer = torch.zeros(256, dtype=dtype)
    start = -buffer.data_ptr() % 64 // dtype.itemsize
    return buffer[start : start + 16]


ONE = {"warps": 4, "BM": 16, "EVEN": True}


def test_a_launch_is_found_again_and_handed_its_own_arguments() -> None:
    kernel, x, y = Kernel(), aligned(torch.float16), aligned(torch.float16)
    launch(kernel, (1, 1, 1), x, 5, **ONE)
    assert kernel.given == (x, 5)
    assert kernel.options == {
        "BM": 16,
        "EVEN": True,
        "num_warps": 4,
        "num_stages": 1,
        "enable_fp_fusion": True,
    }
    launch(kernel, (2, 1, 1), y, 7, **ONE)
    launch(kernel, (3, 4, 1), x, 5, **ONE)
    assert kernel.calls == 1
    assert kernel.made[0].launches == [
        ((2, 1, 1), 77, [y.data_ptr(), 7], []),
        ((3, 4, 1), 77, [x.data_ptr(), 5], []),
    ]


def test_what_is_compiled_otherwise_is_another_launch() -> None:
    kernel, x = Kernel(), aligned(torch.float16)
    grid = (1, 1, 1)
    others: list[tuple[object, object, dict[str, object]]] = [
        (x, 5, {}),
        (x, 16, {}),
        (x, 1, {}),
        (x, 2**31, {}),
        (x, 2**35 + 5, {}),
        (x, 0.5, {}),
        (x, None, {}),
        (aligned(torch.bfloat16), 5, {}),
        (None, 5, {}),
        (x[1:], 5, {}),
        (x, 5, {"warps": 8}),
        (x, 5, {"stages": 3}),
        (x, 5, {"dependent": True}),
        (x, 5, {"registers": 168}),
        (x, 5, {"fused": False}),
        (x, 5, {"BM": 32}),
    ]
    for tensor, number, changed in others:
        launch(kernel, grid, tensor, number, **ONE | changed)
    assert kernel.calls == len(others)
    for tensor, number, changed in others:
        launch(kernel, grid, tensor, number, **ONE | changed)
    for number in (6, 48, 2**32, -(2**40) + 1, 0.25):
        launch(kernel, grid, x, number, **ONE)
    assert kernel.calls == len(others)


def test_options_reach_the_compiler() -> None:
    kernel = Kernel()
    launch(kernel, (1, 1, 1), aligned(torch.float16), 5, **ONE, dependent=True, registers=168)
    assert kernel.options["launch_pdl"] is True and kernel.options["maxnreg"] == 168
    launch(kernel, (1, 1, 1), aligned(torch.float16), 5, **ONE, fused=False)
    assert kernel.options["enable_fp_fusion"] is False and "launch_pdl" not in kernel.options


def test_matrices_are_told_apart_by_type_and_box_and_described_to_triton() -> None:
    kernel = Kernel()
    matrix = aligned(torch.float16).view(1, 16)
    again = aligned(torch.float16).view(2, 8)
    launch(kernel, (1, 1, 1), Boxed(matrix, (1, 8)), 5, **ONE)
    described = kernel.given[0]
    assert described.base is matrix  # type: ignore[attr-defined]
    assert described.block_shape == [1, 8]  # type: ignore[attr-defined]
    launch(kernel, (1, 1, 1), Boxed(again, (1, 8)), 5, **ONE)
    assert kernel.calls == 1
    ((_, _, values, matrices),) = kernel.made[0].launches
    assert matrices == [again] and values == [0, 5]
    launch(kernel, (1, 1, 1), Boxed(matrix, (2, 8)), 5, **ONE)
    assert kernel.calls == 2


def test_what_is_interpreted_or_stays_triton_s_is_never_found_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    interpreted, x = Kernel(interpreted=True), aligned(torch.float16)
    monkeypatch.setattr(_launch, "direct_launch", lambda compiled, arguments: None)
    for kernel in (interpreted, Kernel()):
        for _ in range(3):
            launch(kernel, (1, 1, 1), x, 5, **ONE)
        assert kernel.calls == 3


def test_constants_out_of_order_are_no_launch() -> None:
    with pytest.raises(AssertionError, match="out of order"):
        launch(Kernel(), (1, 1, 1), aligned(torch.float16), 5, warps=4, EVEN=True, BM=16)


def test_launches_are_forgotten_before_they_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_launch, "_MOST_LAUNCHES", 3)
    kernel, x = Kernel(), aligned(torch.float16)
    for rows in range(10):
        launch(kernel, (1, 1, 1), x, 5, warps=4, BM=rows, EVEN=True)
        assert len(_launch._known.launches) <= 3
    assert kernel.calls == 10


@pytest.mark.parametrize("n", [1, 2, 3, 63, 64, 65, 4097])
def test_whole_numbers(n: int) -> None:
    assert power_of_2(n) >= n > power_of_2(n) // 2
    assert (ceil_div(n, 64) - 1) * 64 < n <= ceil_div(n, 64) * 64
