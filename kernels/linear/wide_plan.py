"""How many rows a program of the wide kernel takes, and how many units of 64 columns."""

from __future__ import annotations

import functools
from dataclasses import dataclass

from .._launch import ceil_div
from .wide_sums import PART

_UNIT_US = {128: 0.44, 256: 0.76}
"""By rows of a program: what a unit takes where all multiprocessors are at work (H100)."""
_PART_US = {128: 1.1, 256: 2.0}
"""What the sum of one more part of a tile takes."""
_UNEVEN = 1.12
"""Units take so many times longer where programs are not at the same place of their tiles."""
_LEAST_SHARE = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class WidePlan:
    """A launch: its tiles of y are PART outputs times `rows`."""

    rows: int
    share: int
    """Units of a program, one tile's after another's; even."""
    tiles: int
    programs: int
    cut: bool
    """Whether some tile is several programs' work."""


def plan_of(rows: int, share: int, *, x_rows: int, outputs: int, units: int) -> WidePlan:
    """The launch for x of `x_rows` rows and so many outputs (padded or not), `units` even."""
    tiles = ceil_div(outputs, PART) * ceil_div(x_rows, rows)
    programs = ceil_div(tiles * units, share)
    return WidePlan(rows=rows, share=share, tiles=tiles, programs=programs, cut=share % units != 0)


def _us(plan: WidePlan, units: int, sms: int) -> float:
    """What a launch takes, without what all take."""
    alone = 1 - min(1.0, plan.programs / sms)
    busy = ceil_div(plan.programs, sms) * plan.share * _UNIT_US[plan.rows] * (1 - alone / 4)
    if not plan.cut:
        return busy
    if units % plan.share == 0:
        return busy + units // plan.share * _PART_US[plan.rows]
    return busy * _UNEVEN + (ceil_div(units, plan.share) + 1) * _PART_US[plan.rows]


@functools.cache
def wide_plan(x_rows: int, outputs: int, units: int, sms: int) -> WidePlan:
    """The launch that should take the least time on a card of so many multiprocessors.

    On an H100, for the linears of Llama-3.1-8B over 96 to 1024 rows, it picks the best of all that
    were timed or one within 4 % of it.
    """
    plans = []
    for rows in (128, 256) if x_rows > 128 else (128,):
        tiles = ceil_div(outputs, PART) * ceil_div(x_rows, rows)
        shares = (units, ceil_div(units, max(1, sms // tiles)), ceil_div(tiles * units, sms))
        for share in shares:
            even = max(ceil_div(share, 2) * 2, min(units, _LEAST_SHARE))
            plans.append(plan_of(rows, even, x_rows=x_rows, outputs=outputs, units=units))
    return min(plans, key=lambda plan: _us(plan, units, sms))
