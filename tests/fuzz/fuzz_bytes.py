"""Bytes that lie: flips, extreme lengths, cuts and repetitions in sound content."""

from __future__ import annotations

import struct
from random import Random

EXTREMES = (
    *(
        0,
        1,
        2,
        7,
        8,
        9,
        31,
        32,
        33,
        127,
        128,
        255,
        256,
        4095,
        65535,
        65536,
        2**20,
        2**24,
        2**24 + 1,
    ),
    *(2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**48, 2**60, 2**63 - 1, 2**63, 2**64 - 32, 2**64 - 1),
)
TYPES = ("<B", "<H", "<I", "<Q", ">I", ">Q")


def extreme(random: Random, kind: str = "<Q") -> bytes:
    """A number as large or as small as a field may hold, or near a power of two."""
    width = 8 * struct.calcsize(kind)
    return struct.pack(kind, random.choice(EXTREMES) & ((1 << width) - 1))


def mutated(random: Random, data: bytes, *, most: int = 4, reach: int | None = None) -> bytes:
    """The bytes with one to `most` changes, most of them within the first `reach`."""
    content = bytearray(data)
    for _ in range(random.choice([1, random.randint(1, most)])):
        end = len(content) if reach is None or random.random() < 0.1 else min(reach, len(content))
        if not end:
            return bytes(content)
        _change(random, content, random.randrange(end), end)
    return bytes(content)


def _change(random: Random, content: bytearray, at: int, end: int) -> None:
    what = random.random()
    if what < 0.25:
        content[at] ^= 1 << random.randrange(8)
    elif what < 0.5:
        put = extreme(random, random.choice(TYPES))
        content[at : at + len(put)] = put
    elif what < 0.6:
        put = random.randbytes(random.randint(1, 12))
        content[at : at + len(put)] = put
    elif what < 0.7:
        content[at:at] = random.choice(
            [random.randbytes(random.randint(1, 40)), bytes(8), b"\xff" * 8]
        )
    elif what < 0.8:
        del content[at : at + random.randint(1, 40)]
    elif what < 0.9:
        source, count = random.randrange(end), random.randint(1, 64)
        content[at:at] = content[source : source + count]
    elif what < 0.95:
        del content[at:]
    else:
        content += random.randbytes(random.randint(1, 64))
