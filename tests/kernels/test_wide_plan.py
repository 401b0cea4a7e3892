"""Launches of the wide kernel: every unit is somebody's, and those of Llama-3.1-8B as timed."""

from __future__ import annotations

import pytest
from quantchat.kernels.linear.wide_plan import wide_plan

H100_SMS = 132
LINEARS = {"qkv": (6144, 4096), "o": (4096, 4096), "gate_up": (28672, 4096), "down": (4096, 14336)}


@pytest.mark.parametrize("sms", [1, 114, H100_SMS])
@pytest.mark.parametrize(("outputs", "units"), [(16, 2), (48, 14), (576, 10), (6144, 64)])
@pytest.mark.parametrize("rows", [1, 65, 128, 129, 300, 1024])
def test_every_unit_is_in_one_share(rows: int, outputs: int, units: int, sms: int) -> None:
    plan = wide_plan(rows, outputs, units, sms)
    all_units = plan.tiles * units
    assert plan.share % 2 == 0 and plan.share >= min(units, 4)
    assert (plan.programs - 1) * plan.share < all_units <= plan.programs * plan.share
    assert plan.tiles * plan.rows * 128 >= rows * outputs
    assert plan.cut == (plan.share % units != 0)
    assert rows > 128 or plan.rows == 128


@pytest.mark.parametrize(
    ("rows", "picked"),
    [
        (128, {"qkv": (128, 32), "o": (128, 16), "gate_up": (128, 110), "down": (128, 56)}),
        (256, {"qkv": (128, 64), "o": (128, 32), "gate_up": (256, 64), "down": (256, 56)}),
        (512, {"qkv": (256, 64), "o": (128, 64), "gate_up": (256, 218), "down": (256, 112)}),
    ],
)
def test_what_was_fastest_is_picked(rows: int, picked: dict[str, tuple[int, int]]) -> None:
    for name, (outputs, columns) in LINEARS.items():
        plan = wide_plan(rows, outputs, columns // 64, H100_SMS)
        assert (plan.rows, plan.share) == picked[name], name
