"""Tiles measured on cards: a table by SM version and code, of (outputs, columns).

Values: warps, blocks, programs, stages, as in tiles.Tile. Medians inside a whole decode step under
dependent launch, since a linear alone ranks tiles differently.
"""

from __future__ import annotations

from collections.abc import Mapping

Shape = tuple[int, int]
Launch = tuple[int, int, int, int]

TUNED: Mapping[tuple[int, str, int, bool], Mapping[Shape, Launch]] = {
    (90, "int4", 128, True): {
        (6144, 4096): (4, 2, 4, 2),
        (4096, 4096): (4, 4, 2, 2),
        (28672, 4096): (4, 4, 2, 2),
        (4096, 14336): (8, 2, 2, 2),
        (128256, 4096): (4, 2, 4, 2),
    },
    (90, "int4", 128, False): {
        (6144, 4096): (4, 2, 4, 2),
        (4096, 4096): (8, 1, 2, 4),
        (28672, 4096): (8, 2, 2, 2),
        (4096, 14336): (4, 4, 2, 2),
        (128256, 4096): (8, 4, 1, 2),
    },
    (90, "int8", 0, True): {
        (6144, 4096): (4, 4, 4, 2),
        (4096, 4096): (8, 2, 2, 2),
        (28672, 4096): (8, 4, 2, 2),
        (4096, 14336): (8, 4, 2, 2),
        (128256, 4096): (4, 4, 4, 2),
    },
    (90, "fp8", 0, True): {
        (6144, 4096): (4, 4, 4, 2),
        (4096, 4096): (4, 4, 2, 2),
        (28672, 4096): (4, 4, 4, 2),
        (4096, 14336): (8, 4, 2, 2),
        (128256, 4096): (4, 2, 4, 2),
    },
    (90, "dense", 0, True): {
        (6144, 4096): (8, 4, 1, 4),
        (4096, 4096): (4, 4, 2, 4),
        (28672, 4096): (8, 4, 2, 2),
        (4096, 14336): (8, 4, 2, 2),
        (128256, 4096): (4, 4, 2, 2),
    },
}
