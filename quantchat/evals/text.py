"""Text as windows of tokens with the positions that count, by the field's named methods.

Owns what a perplexity's name stands for: window length, first scored token, BOS. Runs no model.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from quantchat.errors import UsageError
from quantchat.tokenizer import Tokenizer

MAX_TEXT_BYTES = 1 << 28


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """How a text is cut; perplexities of different methods cannot be compared."""

    name: str
    window_tokens: int
    first_target: int
    """Index in each window of the first token whose prediction is scored."""
    bos_per_window: bool
    """BOS replaces every window's first token; else it stands once before the text."""
    joins_rows: bool
    """Lines are rows of a data set, joined by blank lines."""
    source: str


METHODS: Mapping[str, Method] = MappingProxyType(
    {
        method.name: method
        for method in (
            Method(
                name="academic",
                window_tokens=2048,
                first_target=1,
                bos_per_window=False,
                joins_rows=True,
                source="the 2048-token windows of the GPTQ and AWQ papers' tables",
            ),
            Method(
                name="llama.cpp",
                window_tokens=512,
                first_target=257,
                bos_per_window=True,
                joins_rows=False,
                source="llama.cpp tools/perplexity with n_ctx 512: the second half is scored",
            ),
        )
    }
)


@dataclass(frozen=True, slots=True)
class Window:
    """Tokens of one forward pass from an empty cache; `first_target` and all after are scored."""

    ids: tuple[int, ...]
    first_target: int

    @property
    def scored_tokens(self) -> int:
        """How many predictions count."""
        return len(self.ids) - self.first_target


@dataclass(frozen=True, slots=True, kw_only=True)
class Passages:
    """The windows of one evaluation and what they were cut from."""

    origin: str
    """File name, for the report."""
    method: str
    windows: tuple[Window, ...]

    @property
    def tokens(self) -> int:
        """Tokens that are run."""
        return sum(len(window.ids) for window in self.windows)

    @property
    def scored_tokens(self) -> int:
        """Predictions that count."""
        return sum(window.scored_tokens for window in self.windows)

    @property
    def digest(self) -> str:
        """Short hash of what is run and scored."""
        sha = hashlib.sha256(self.method.encode())
        for window in self.windows:
            sha.update(f"|{window.first_target}:{','.join(map(str, window.ids))}".encode())
        return sha.hexdigest()[:20]

    @property
    def longest_tokens(self) -> int:
        """Tokens of the longest window."""
        return max(len(window.ids) for window in self.windows)


def method_named(name: str) -> Method:
    """The method of that name; raises UsageError naming the known ones."""
    try:
        return METHODS[name]
    except KeyError:
        raise UsageError(f"unknown method {name!r}", hint=f"one of: {', '.join(METHODS)}") from None


def read_text(path: Path) -> str:
    """A UTF-8 text file; raises UsageError where it cannot serve."""
    try:
        size = path.stat().st_size
        if size > MAX_TEXT_BYTES:
            raise UsageError(
                f"{path.name} has {size / 2**20:.0f} MiB, at most {MAX_TEXT_BYTES >> 20} are read",
                hint="cut a piece out of it",
            )
        return path.read_bytes().decode("utf-8")
    except OSError as error:
        raise UsageError(
            f"{path} cannot be read: {error.strerror}", hint="check the path"
        ) from None
    except UnicodeDecodeError as error:
        raise UsageError(
            f"{path.name} is not UTF-8 text (byte {error.start})", hint="convert it to UTF-8"
        ) from None


def join_rows(text: str) -> str:
    """Lines as data-set rows joined by blank lines; a row of spaces alone is empty."""
    rows = text.splitlines(keepends=True)
    return "\n\n".join(row if row.strip() else "" for row in rows)


def cut(
    text: str, tokenizer: Tokenizer, method: Method, *, origin: str, max_scored_tokens: int
) -> Passages:
    """Whole windows of a text, as many as it takes to score `max_scored_tokens` (0: all).

    Raises UsageError where the text is shorter than one window.
    """
    prepared = join_rows(text) if method.joins_rows else text
    ids = tokenizer.encode(prepared, add_bos=tokenizer.adds_bos)
    size = method.window_tokens
    count = len(ids) // size
    if count == 0:
        raise UsageError(
            f"{origin} has {len(ids)} tokens, one window of the {method.name} method takes {size}",
            hint="take a longer text" + (", or --method llama.cpp" if size > 512 else ""),
        )
    if max_scored_tokens:
        count = min(count, -(-max_scored_tokens // (size - method.first_target)))
    return Passages(
        origin=origin,
        method=method.name,
        windows=tuple(
            _window(ids[i * size : (i + 1) * size], tokenizer, method) for i in range(count)
        ),
    )


def _window(ids: Sequence[int], tokenizer: Tokenizer, method: Method) -> Window:
    if method.bos_per_window and tokenizer.adds_bos and tokenizer.bos_id is not None:
        ids = [tokenizer.bos_id, *ids[1:]]
    return Window(tuple(ids), method.first_target)
