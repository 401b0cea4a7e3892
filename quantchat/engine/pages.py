"""Who owns which page of the KV cache, and which pages can serve again.

Full pages are known by a hash chained over all tokens before them, so that a conversation that
begins as an earlier one did finds its pages. Freed pages keep their content until they are needed.
Page 0 belongs to nobody: padding rows write there.
"""

from __future__ import annotations

import hashlib
from array import array
from collections import OrderedDict
from collections.abc import Sequence as Tokens


def page_keys(tokens: Tokens[int], page_tokens: int) -> list[bytes]:
    """One key per full page, each depending on every token up to its end."""
    keys: list[bytes] = []
    parent = b""
    for start in range(0, len(tokens) - page_tokens + 1, page_tokens):
        page = array("q", tokens[start : start + page_tokens]).tobytes()
        parent = hashlib.blake2b(page, digest_size=16, key=parent).digest()
        keys.append(parent)
    return keys


class PageAllocator:
    """Pages with reference counts; released pages stay findable, least recently used first out."""

    def __init__(self, pages: int, page_tokens: int) -> None:
        assert pages >= 2
        self.page_tokens = page_tokens
        self.total = pages - 1
        self._references = [0] * pages
        self._idle: OrderedDict[int, None] = OrderedDict.fromkeys(range(1, pages))
        self._page_of: dict[bytes, int] = {}
        self._key_of: dict[int, bytes] = {}
        self._guests: set[int] = set()
        """Known pages that no answer wrote."""

    @property
    def used(self) -> int:
        """Pages held by sequences."""
        return self.total - len(self._idle)

    @property
    def idle(self) -> int:
        """Pages that can be taken."""
        return len(self._idle)

    def match(self, tokens: Tokens[int]) -> list[int]:
        """Take the longest run of known pages that `tokens` begins with."""
        pages: list[int] = []
        for key in page_keys(tokens, self.page_tokens):
            page = self._page_of.get(key)
            if page is None:
                break
            self._references[page] += 1
            self._idle.pop(page, None)
            pages.append(page)
        return pages

    def take(self, after: int | None) -> int | None:
        """Take one page, the one behind `after` where it is idle; None when there is none."""
        if not self._idle:
            return None
        page = None if after is None else after + 1
        if page is None or page not in self._idle:
            page = next(iter(self._idle))
        del self._idle[page]
        self._forget(page)
        self._references[page] = 1
        return page

    def publish(self, pages: Tokens[int], tokens: Tokens[int], *, guest: bool = False) -> None:
        """Make the full pages of a sequence findable; the first page with a key keeps it.

        `guest`: they were not written by an answer, whose own pages take their place when they
        come: an answer's next turn reads what it would have read without the guest.
        """
        for page, key in zip(pages, page_keys(tokens, self.page_tokens), strict=False):
            known = self._page_of.get(key)
            if known is not None and known in self._guests and known != page and not guest:
                self._forget(known)
                if known in self._idle:
                    self._idle.move_to_end(known, last=False)
                known = None
            if known is None and page not in self._key_of:
                self._page_of[key] = page
                self._key_of[page] = key
                if guest:
                    self._guests.add(page)

    def _forget(self, page: int) -> None:
        """The page's content can be found no more."""
        key = self._key_of.pop(page, None)
        if key is not None:
            del self._page_of[key]
        self._guests.discard(page)

    def release(self, pages: Tokens[int]) -> None:
        """Give pages back; content without a key is the first to be overwritten."""
        for page in reversed(pages):
            self._references[page] -= 1
            assert self._references[page] >= 0
            if self._references[page] == 0:
                self._idle[page] = None
                if page not in self._key_of:
                    self._idle.move_to_end(page, last=False)
