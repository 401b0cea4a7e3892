"""Tiles shared out among programs: every step of every tile has one program, and who adds is known."""

from __future__ import annotations

import random

import pytest

pytest.importorskip("triton")

from quantchat.kernels.quantize.shares import LEAST_BEFORE_WAVES, LEAST_STEPS, Shares, shares


def work_of(share: Shares, steps: int, program: int) -> list[tuple[int, int, int]]:
    """Tile, first step and the step behind the last, as parted.py has them."""
    total = share.rest * steps
    begin, end = (min(p, share.sharers) * total // share.sharers for p in (program, program + 1))
    met = -(-end // steps) - begin // steps
    cut = [
        (tile, max(begin - tile * steps, 0), min(end - tile * steps, steps))
        for tile in range(begin // steps, begin // steps + met)
    ]
    whole = [share.rest + wave * share.programs + program for wave in range(share.waves)]
    return cut + [(tile, 0, steps) for tile in whole]


def test_every_step_has_one_program() -> None:
    draw = random.Random(1)
    cases = [(224, 32, 132), (64, 32, 132), (22, 112, 132), (1, 1, 132), (132, 3, 132)]
    cases += [
        (draw.randint(1, 60), draw.randint(1, 120), draw.choice((3, 7, 16))) for _ in range(99)
    ]
    for tiles, steps, programs in cases:
        share = shares(tiles, steps, programs)
        assert share.programs <= programs
        pieces: dict[int, list[tuple[int, int, int]]] = {}
        for program in range(share.programs):
            for tile, first, stop in work_of(share, steps, program):
                assert first < stop
                pieces.setdefault(tile, []).append((first, stop, program))
        assert sorted(pieces) == list(range(tiles))
        slots = set()
        for tile, found in pieces.items():
            assert [first for first, _, _ in found] == [0, *(stop for _, stop, _ in found[:-1])]
            assert found[-1][1] == steps
            if len(found) == 1:
                continue
            head, tail = (
                (at * share.sharers - 1) // (share.rest * steps)
                for at in (tile * steps + 1, (tile + 1) * steps)
            )
            assert [program for _, _, program in found] == list(range(head, tail + 1))
            slots |= {2 * program + (first > 0) for first, _, program in found}
            least = LEAST_BEFORE_WAVES if share.waves else LEAST_STEPS
            assert all(stop - first >= least for first, stop, _ in found)
        assert len(slots) == sum(len(found) for found in pieces.values() if len(found) > 1)
        assert max(slots, default=-1) < 2 * share.parts
