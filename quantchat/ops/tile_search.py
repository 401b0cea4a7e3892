"""Which tiles make a decode step fastest: one linear at a time, within a bound of time.

Pure policy: what a step takes is asked of the caller, who runs it on the card.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from quantchat.kernels.linear.tiles import (
    LinearShape,
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """How the search reaches the machine."""

    step_s: Callable[[Mapping[LinearShape, Tile]], float]
    """Seconds of a step with these tiles; raises where one of them does not run."""
    runs_not: Callable[[Exception], bool]
    """Whether an error means no more than that the tile does not run here."""
    candidates: Callable[[LinearShape], Sequence[Tile]]
    out_of_time: Callable[[], bool]
    tried: Callable[[LinearShape], None]
    """Called before each timing of a candidate; may raise to stop it all."""


@dataclass(slots=True)
class Findings:
    """What a search has brought."""

    tiles: dict[LinearShape, Tile]
    """The best known, of shapes that were not finished too."""
    finished: dict[LinearShape, Tile] = field(default_factory=dict)
    """Of shapes whose candidates were all tried: worth keeping."""


def search(start: Mapping[LinearShape, Tile], trial: Trial) -> Findings:
    """The fastest tiles found from `start` on, whose order is that of the search."""
    found = Findings(tiles=dict(start))
    for shape in start:
        if trial.out_of_time():
            break
        if _improve(found, shape, trial):
            found.finished[shape] = found.tiles[shape]
    return found


def _improve(found: Findings, shape: LinearShape, trial: Trial) -> bool:
    """Try the candidates of one shape; False where time ran out before the last."""
    before = found.tiles[shape]
    # Clocks move: what came before this shape is no measure for it.
    best_s = trial.step_s(found.tiles)
    best = before
    whole = True
    for tile in trial.candidates(shape):
        if tile == before:
            continue
        if trial.out_of_time():
            whole = False
            break
        trial.tried(shape)
        took_s = _took_s({**found.tiles, shape: tile}, trial)
        if took_s is not None and took_s < best_s * (1 - MARGIN):
            best, best_s = tile, took_s
    if best != before:
        again_s = trial.step_s(found.tiles)
        if trial.step_s({**found.tiles, shape: best}) < again_s * (1 - MARGIN):
            found.tiles[shape] = best
    return whole


def _took_s(tiles: Mapping[LinearShape, Tile], trial: Trial) -> float | None:
    try:
        return trial.step_s(tiles)
    except Exception as error:
        if not trial.runs_not(error):
            raise
        logger.info("a tile does not run here: %s", error)
        return None
