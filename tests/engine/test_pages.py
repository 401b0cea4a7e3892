"""Pages: prefix reuse, counting, order of eviction."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from quantchat.engine.pages import PageAllocator, page_keys


def fill(pages: PageAllocator, tokens: list[int]) -> list[int]:
    """Pages for the tokens as a sequence would take them, known ones first."""
    held = pages.match(tokens)
    while len(held) * pages.page_tokens < len(tokens):
        page = pages.take(held[-1] if held else None)
        assert page is not None
        held.append(page)
    return held


def test_keys_depend_on_everything_before() -> None:
    assert len(page_keys(list(range(11)), 4)) == 2
    a, b = page_keys([1, 2, 3, 4, 5, 6, 7, 8], 4)
    c, d = page_keys([9, 2, 3, 4, 5, 6, 7, 8], 4)
    assert a != c and b != d
    assert page_keys([1, 2, 3, 4, 0, 0, 0, 0], 4)[0] == a


def test_a_second_conversation_finds_the_pages_of_the_first() -> None:
    pages = PageAllocator(10, 4)
    tokens = list(range(10))
    held = fill(pages, tokens)
    assert held == [1, 2, 3] and pages.used == 3
    pages.publish(held, tokens)
    pages.release(held)
    assert pages.used == 0
    assert pages.match([*tokens[:8], 99, 99, 99, 99]) == held[:2]
    assert pages.used == 2


def test_shared_pages_are_counted() -> None:
    pages = PageAllocator(4, 2)
    first = fill(pages, [1, 2, 3, 4])
    pages.publish(first, [1, 2, 3, 4])
    second = pages.match([1, 2, 3, 4])
    assert second == first
    pages.release(first)
    assert pages.used == 2
    pages.release(second)
    assert pages.used == 0


def test_neighbours_are_preferred_and_page_zero_is_never_given() -> None:
    pages = PageAllocator(6, 2)
    taken = [pages.take(None)]
    for _ in range(4):
        taken.append(pages.take(taken[-1]))
    assert taken == [1, 2, 3, 4, 5]
    assert pages.take(5) is None


def test_unpublished_content_goes_first() -> None:
    pages = PageAllocator(4, 2)
    known = fill(pages, [1, 2])
    pages.publish(known, [1, 2])
    other = fill(pages, [7, 8])
    pages.release(known)
    pages.release(other)
    assert pages.take(None) == other[0]
    assert pages.match([1, 2]) == known


def test_a_guests_pages_serve_until_an_answer_brings_its_own() -> None:
    pages = PageAllocator(10, 2)
    tokens = [1, 2, 3, 4]
    guest = fill(pages, tokens)
    pages.publish(guest, tokens, guest=True)
    assert pages.match(tokens) == guest
    pages.release(guest)
    # An answer that began before computes the same tokens into pages of its own.
    own = [page for _ in range(2) if (page := pages.take(None)) is not None]
    pages.publish(own, tokens)
    assert pages.match(tokens) == own
    pages.release(own)
    # A guest never takes the place of anybody.
    late = [page for _ in range(2) if (page := pages.take(None)) is not None]
    pages.publish(late, tokens, guest=True)
    assert pages.match(tokens) == own
    pages.release(guest)
    # What a guest left is overwritten before what an answer left.
    pages.release([*own, *own, *late])
    assert pages.idle == pages.total
    taken = {pages.take(None) for _ in range(pages.total - 2)}
    assert taken.isdisjoint(own) and pages.match(tokens) == own


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.lists(st.integers(0, 2), max_size=12), st.booleans()), max_size=20))
def test_no_page_is_lost_or_given_twice(steps: list[tuple[list[int], bool]]) -> None:
    pages = PageAllocator(9, 2)
    live: list[tuple[list[int], list[int]]] = []
    for tokens, keep in steps:
        held = pages.match(tokens)
        while len(held) * 2 < len(tokens):
            page = pages.take(held[-1] if held else None)
            if page is None:
                break
            held.append(page)
        full = len(held) * 2 >= len(tokens)
        if full:
            pages.publish(held, tokens, guest=len(tokens) % 2 == 1)
        live.append((tokens, held))
        if not keep or not full:
            pages.release(live.pop()[1])
        distinct = {page for _, held in live for page in held}
        assert pages.used == len(distinct)
        assert 0 not in distinct
    for _, held in live:
        pages.release(held)
    assert pages.idle == pages.total
