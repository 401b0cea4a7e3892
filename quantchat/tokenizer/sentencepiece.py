"""Merges of a SentencePiece BPE vocabulary, recovered from its scores.

SentencePiece joins, again and again, the two neighbours whose joint piece scores highest. A list
of merges in order of falling score does the same.
"""

from __future__ import annotations

from collections.abc import Sequence

MAX_SPLITS = 20_000_000
"""More ways to cut all pieces in two than any real vocabulary has (Gemma's 256 k: 2 million)."""


class TooManySplits(ValueError):
    """The pieces are too many and too long to look for their merges."""


def merges_from_scores(
    pieces: Sequence[str], scores: Sequence[float], mergeable: Sequence[int]
) -> list[tuple[str, str]]:
    """Pairs to merge, best first: every cut of a piece into two pieces of the vocabulary.

    `mergeable` are the ids of ordinary pieces. The cuts of one piece follow one another, ordered
    by the ids of their halves. Raises TooManySplits.
    """
    ids = {pieces[i]: i for i in mergeable}
    if sum(map(len, ids)) > MAX_SPLITS:
        raise TooManySplits
    merges: list[tuple[str, str]] = []
    for token_id in sorted(mergeable, key=lambda i: -scores[i]):
        piece = pieces[token_id]
        splits = [
            (ids[left], ids[right])
            for cut in range(1, len(piece))
            if (left := piece[:cut]) in ids and (right := piece[cut:]) in ids
        ]
        splits.sort()
        merges += [(pieces[left], pieces[right]) for left, right in splits]
    return merges
