"""How the tiles of a product are shared out among programs that run at once.

Tiles that fill no wave of programs come first and are cut along K, so that every multiprocessor has
a part of them; each program then takes as many whole tiles as there are waves.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

Cut: TypeAlias = Literal["whole", "even", "all"]
"""Not at all; each tile into as many equal parts as there are programs for; all programs alike."""
LEAST_STEPS = 4
"""A share has at least so many steps along K: less is not worth the sum that follows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shares:
    """The first `rest` tiles are cut: `sharers` programs take equal shares of their steps in order."""

    rest: int
    sharers: int
    """1 where nothing is shared."""
    waves: int
    """Whole tiles of each program, after its share."""
    programs: int
    """Programs to launch."""

    @property
    def parts(self) -> int:
        """Programs that leave sums of a part of a tile."""
        return self.sharers if self.sharers > self.rest > 0 else 0


def shares(tiles: int, steps: int, programs: int, cut: Cut) -> Shares:
    """`tiles` of `steps` each, on that many programs at once."""
    waves, rest = divmod(tiles, programs)
    if rest == 0:
        return Shares(rest=0, sharers=1, waves=waves, programs=programs)
    sharers = rest
    if cut == "even":
        sharers = rest * max(1, min(programs // rest, steps // LEAST_STEPS))
    elif cut == "all":
        sharers = min(programs, max(rest, rest * steps // LEAST_STEPS))
    return Shares(rest=rest, sharers=sharers, waves=waves, programs=programs if waves else sharers)
