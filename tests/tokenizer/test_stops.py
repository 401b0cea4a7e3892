"""Stop strings against a brute force over the whole text."""

from __future__ import annotations

import time

from hypothesis import example, given
from hypothesis import strategies as st

from quantchat.tokenizer import StopMatcher

WORDS = st.text(alphabet="ab\n", min_size=1, max_size=5)


def cut(text: str, stops: tuple[str, ...]) -> tuple[str, bool]:
    """The text before the stop string that ends first; of those the longest."""
    for end in range(1, len(text) + 1):
        found = [stop for stop in stops if text[:end].endswith(stop)]
        if found:
            return text[: end - max(map(len, found))], True
    return text, False


def longest_open(text: str, stops: tuple[str, ...]) -> int:
    """Length of the longest end of the text that begins a stop string."""
    return max(
        (n for stop in stops for n in range(1, len(stop)) if text.endswith(stop[:n])), default=0
    )


@given(stops=st.lists(WORDS, max_size=4).map(tuple), parts=st.lists(st.text("ab\n", max_size=6)))
@example(stops=("aab",), parts=["a", "aa", "b", "x"])
@example(stops=("ab", "bab"), parts=["b", "ab"])
@example(stops=("abab\n", "b\n"), parts=["ab", "abab\n"])
def test_stops_as_brute_force_does(stops: tuple[str, ...], parts: list[str]) -> None:
    matcher = StopMatcher(stops)
    shown, seen = "", ""
    for part in parts:
        seen += part
        text, stopped = matcher.push(part)
        shown += text
        expected, complete = cut(seen, stops)
        assert stopped == complete
        if complete:
            assert shown == expected
            assert matcher.push("more") == ("", True)
            assert matcher.flush() == ""
            return
        assert shown == seen[: len(seen) - longest_open(seen, stops)]
    assert shown + matcher.flush() == seen


def test_nothing_is_held_without_stops() -> None:
    for stops in ((), ("",)):
        matcher = StopMatcher(stops)
        assert matcher.push("anything") == ("anything", False)
        assert matcher.flush() == ""


def test_repetitive_text_costs_linear_time() -> None:
    stop = "a" * 2000 + "b"
    matcher = StopMatcher((stop,))
    start = time.process_time()
    shown = "".join(matcher.push("a" * 10)[0] for _ in range(10_000))
    assert shown + matcher.flush() == "a" * 100_000
    assert time.process_time() - start < 5  # quadratic would be minutes
