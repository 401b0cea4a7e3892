"""Stop strings in streamed text: nothing of a stop string is shown, everything else at once."""

from __future__ import annotations


def _failure(word: str) -> list[int]:
    """For each prefix of the word, the length of its longest proper border (Knuth-Morris-Pratt)."""
    table = [0] * len(word)
    k = 0
    for i in range(1, len(word)):
        while k and word[i] != word[k]:
            k = table[k - 1]
        if word[i] == word[k]:
            k += 1
        table[i] = k
    return table


class StopMatcher:
    """Cuts a stream of text before the stop string that is complete first.

    Of several that end at the same character, the longest counts. Text is held back only as far
    as it may still become a stop string. Linear in the text, times the number of stop strings.
    """

    def __init__(self, stops: tuple[str, ...]) -> None:
        self._stops = tuple(dict.fromkeys(stop for stop in stops if stop))
        self._tables = tuple(_failure(stop) for stop in self._stops)
        self._matched = [0] * len(self._stops)
        self._held = ""
        self._stopped = False

    def push(self, text: str) -> tuple[str, bool]:
        """Text safe to show, and whether a stop string ended the answer. After that: nothing."""
        if self._stopped:
            return "", True
        if not self._stops:
            return text, False
        end = self._scan(text)
        buffer = self._held + text
        self._held = ""
        if end is not None:
            self._stopped = True
            stop_chars = max(
                len(stop)
                for stop, matched in zip(self._stops, self._matched, strict=True)
                if matched == len(stop)
            )
            return buffer[: len(buffer) - len(text) + end - stop_chars], True
        keep = max(self._matched)
        if keep:
            self._held = buffer[-keep:]
            buffer = buffer[:-keep]
        return buffer, False

    def flush(self) -> str:
        """The text held back, at the end of an answer that no stop string ended."""
        rest, self._held = self._held, ""
        self._matched = [0] * len(self._stops)
        return rest

    def _scan(self, text: str) -> int | None:
        """Advance every automaton; the end of the first match in `text`, if there is one."""
        for position, char in enumerate(text):
            complete = False
            for n, stop in enumerate(self._stops):
                table, k = self._tables[n], self._matched[n]
                while k and stop[k] != char:
                    k = table[k - 1]
                if stop[k] == char:
                    k += 1
                self._matched[n] = k
                complete = complete or k == len(stop)
            if complete:
                return position + 1
        return None
