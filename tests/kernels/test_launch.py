"""Launches that are found again: what makes one the same, and what does not."""

from __future__ import annotations

import pytest

pytest.importorskip("triton")

import torch
from quantchat.kernels import _launch
from quantchat.kernels._launch import ceil_div, launch, power_of_2


class Compiled:
    """Stands for a compiled kernel: remembers what it was launched with."""

    def __init__(self) -> None:
        self.launches: list[tuple[object, ...]] = []

    def __getitem__(self, grid: tuple[int, int, int]) -> object:
        return lambda *args: self.launches.append((grid, *args))


class Kernel:
    """Stands for a kernel with two parameters and two constants."""

    arg_names = ("x_ptr", "M", "BM", "EVEN")

    def __init__(self, *, interpreted: bool = False) -> None:
        self.made: list[Compiled] = []
        self.calls = 0
        self._interpreted = interpreted

    def __getitem__(self, grid: tuple[int, int, int]) -> object:
        def run(*args: object, **options: object) -> Compiled | None:
            self.calls += 1
            if self._interpreted:
                return None
            self.made.append(Compiled())
            return self.made[-1]

        return run


@pytest.fixture(autouse=True)
def forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_launch, "_launches", {})


def aligned(dtype: torch.dtype) -> torch.Tensor:
    buffer = torch.zeros(256, dtype=dtype)
    start = -buffer.data_ptr() % 64 // dtype.itemsize
    return buffer[start : start + 16]


def test_a_launch_is_found_again_with_its_constants_in_order() -> None:
    kernel, x = Kernel(), aligned(torch.float16)
    for grid in ((1, 1, 1), (2, 1, 1), (3, 4, 1)):
        launch(kernel, grid, x, 5, warps=4, BM=16, EVEN=True)
    assert kernel.calls == 1
    assert kernel.made[0].launches == [((2, 1, 1), x, 5, 16, True), ((3, 4, 1), x, 5, 16, True)]


def test_other_numbers_types_and_options_are_other_launches() -> None:
    kernel, x = Kernel(), aligned(torch.float16)
    one = {"warps": 4, "BM": 16, "EVEN": True}
    grid = (1, 1, 1)
    launch(kernel, grid, x, 5, **one)
    launch(kernel, grid, x, 16, **one)
    launch(kernel, grid, aligned(torch.bfloat16), 5, **one)
    launch(kernel, grid, None, 5, **one)
    launch(kernel, grid, x, 5, **one | {"warps": 8})
    launch(kernel, grid, x, 5, **one | {"stages": 3})
    launch(kernel, grid, x, 5, **one | {"dependent": True})
    launch(kernel, grid, x, 5, **one | {"BM": 32})
    assert kernel.calls == 8
    launch(kernel, grid, x, 16, **one)
    assert kernel.calls == 8


def test_unaligned_tensors_and_interpreted_kernels_are_never_found_again() -> None:
    x = aligned(torch.float16)
    for kernel, tensor in ((Kernel(), x[1:]), (Kernel(interpreted=True), x)):
        for _ in range(2):
            launch(kernel, (1, 1, 1), tensor, 5, warps=4, BM=16, EVEN=True)
        assert kernel.calls == 2


def test_constants_out_of_order_are_no_launch() -> None:
    with pytest.raises(AssertionError, match="out of order"):
        launch(Kernel(), (1, 1, 1), aligned(torch.float16), 5, warps=4, EVEN=True, BM=16)


def test_launches_are_forgotten_before_they_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_launch, "_MOST_LAUNCHES", 3)
    kernel, x = Kernel(), aligned(torch.float16)
    for rows in range(10):
        launch(kernel, (1, 1, 1), x, rows, warps=4, BM=16, EVEN=True)
        assert len(_launch._launches) <= 3


@pytest.mark.parametrize("n", [1, 2, 3, 63, 64, 65, 4097])
def test_whole_numbers(n: int) -> None:
    assert power_of_2(n) >= n > power_of_2(n) // 2
    assert (ceil_div(n, 64) - 1) * 64 < n <= ceil_div(n, 64) * 64
