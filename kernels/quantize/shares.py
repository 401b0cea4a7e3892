"""How the tiles of a product are shared out among programs that run at once.

Tiles that fill no wave of programs come first and are cut along K where that is long, so that more
multiprocessors have a part of them; each program then takes as many whole tiles as there are waves.
"""

from __future__ import annotations

from dataclasses import dataclass

LEAST_STEPS = 24
"""A part of a tile has at least so many steps along K: fewer are not worth the sum that follows."""
LEAST_BEFORE_WAVES = 16
"""The same where whole tiles follow, which the sum does not hold up."""


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


def shares(tiles: int, steps: int, programs: int) -> Shares:
    """`tiles` of `steps` each, on that many programs at once; each cut tile in equal parts."""
    waves, rest = divmod(tiles, programs)
    if rest == 0:
        return Shares(rest=0, sharers=1, waves=waves, programs=programs)
    least = LEAST_BEFORE_WAVES if waves else LEAST_STEPS
    sharers = rest * max(1, min(programs // rest, steps // least))
    return Shares(rest=rest, sharers=sharers, waves=waves, programs=programs if waves else sharers)
