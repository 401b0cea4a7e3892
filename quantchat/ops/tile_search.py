"""Which tiles make a decode step fastest: one linear at a time, within a bound of time.

Pure policy: what a step takes is asked of the caller, who runs it on the card.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from quantchat.kernels.linear.tiles import (
    LinearShape,
    Origin,
    Tile,
    candidates,
    install,
    on_trial,
    origin,
    tile_for,
)

__all__ = [
    "Findings",
    "LinearShape",
    "Origin",
    "Tile",
    "Trial",
    "candidates",
    "install",
    "on_trial",
    "origin",
    "search",
    "tile_for",
]

logger = logging.getLogger(__name__)

MARGIN = 0.005
"""A tile must save this share of the step: less is the noise of two timings."""
ENOUGH = 2
"""Candidates tried after which a shape counts as tuned, though time ran out before the last."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """How the search reaches the machine."""

    step_s: Callable[[Mapping[LinearShape, Tile]], float]
    """Seconds of a step with these tiles; raises where one of them does not run."""
    runs_not: Callable[[Exception], bool]
    """Whether an error means no more than that the tile does not run here."""
    candidates: Callable[[LinearShape], Sequence[Tile]]
    """Likeliest first."""
    out_of_time: Callable[[], bool]
    tried: Callable[[LinearShape], None]
    """Called before each timing of a candidate; may raise to stop it all."""


@dataclass(slots=True)
class Findings:
    """What a search has brought."""

    tiles: dict[LinearShape, Tile]
    """The fastest known of every shape."""
    finished: set[LinearShape] = field(default_factory=set)
    """Shapes of which enough candidates were tried to keep the answer."""


def search(start: Mapping[LinearShape, Tile], trial: Trial) -> Findings:
    """The fastest tiles found from `start` on: every shape's likeliest candidates before any other.

    `start` is in the order of what the shapes cost.
    """
    found = Findings(tiles=dict(start))
    waiting = {
        shape: [tile for tile in trial.candidates(shape) if tile != begun]
        for shape, begun in start.items()
    }
    most = max((len(tiles) for tiles in waiting.values()), default=0)
    for turn in range(most):
        if trial.out_of_time():
            break
        # Clocks move: what a step took in the turn before is no measure.
        now_s = trial.step_s(found.tiles)
        for shape, tiles in waiting.items():
            if turn >= len(tiles):
                continue
            if trial.out_of_time():
                return found
            now_s = _try(found, shape, tiles[turn], now_s, trial)
            if turn + 1 >= min(ENOUGH, len(tiles)):
                found.finished.add(shape)
    found.finished |= {shape for shape, tiles in waiting.items() if not tiles}
    return found


def _try(found: Findings, shape: LinearShape, tile: Tile, now_s: float, trial: Trial) -> float:
    """Take the tile if it is faster, twice over; the time of a step with what is taken."""
    trial.tried(shape)
    took_s = _took_s({**found.tiles, shape: tile}, trial)
    if took_s is None or took_s >= now_s * (1 - MARGIN):
        return now_s
    now_s = trial.step_s(found.tiles)
    if took_s >= now_s * (1 - MARGIN):
        return now_s
    found.tiles[shape] = tile
    return took_s


def _took_s(tiles: Mapping[LinearShape, Tile], trial: Trial) -> float | None:
    try:
        return trial.step_s(tiles)
    except Exception as error:
        if not trial.runs_not(error):
            raise
        logger.info("a tile does not run here: %s", error)
        return None
