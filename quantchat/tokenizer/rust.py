"""The tokenizers library's failures as ours: it raises bare Exception, and panics are no Exception."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from quantchat.errors import QuantchatError, TokenizerError

BROKEN_HINT = "the file is damaged; download it again"
_PANIC = "PanicException"
"""Of pyo3, which is a BaseException and has no name to import."""


@contextlib.contextmanager
def guarded(path: Path, problem: str) -> Iterator[None]:
    """Raises TokenizerError, `problem` and the library's reason, for whatever it raises within."""
    try:
        yield
    except (QuantchatError, MemoryError):
        raise
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != _PANIC:
            raise
        reason = str(error).partition("\n")[0][:200]
        raise TokenizerError(path, f"{problem}: {reason}", hint=BROKEN_HINT) from error
