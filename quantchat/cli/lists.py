"""Options that take a list: words or numbers between commas."""

from __future__ import annotations

from quantchat.errors import UsageError


def words(text: str, option: str) -> tuple[str, ...]:
    """Words between commas, each once; raises UsageError where there are none."""
    found = tuple(dict.fromkeys(word.strip() for word in text.split(",") if word.strip()))
    if not found:
        raise UsageError(f"{option} names nothing", hint="separate several with commas")
    return found


def numbers(text: str, option: str) -> tuple[int, ...]:
    """Numbers from 1 between commas, each once; raises UsageError for others and for none."""
    found = words(text, option)
    for word in found:
        if not word.isdecimal() or int(word) < 1:
            raise UsageError(f"{option}: {word!r} is no number from 1 on")
    return tuple(map(int, found))


def scheme_words(text: str) -> tuple[str, ...]:
    """Names of schemes, or all; raises UsageError for unknown ones."""
    from quantchat.quant.registry import SCHEMES, scheme_named

    names = tuple(SCHEMES) if text == "all" else words(text, "--schemes")
    return tuple(dict.fromkeys(scheme_named(name).name for name in names))


def kv_words(text: str) -> tuple[str, ...]:
    """Names of KV precisions, or all; raises UsageError for unknown ones."""
    from quantchat.kv_formats import KV_FORMATS

    names = tuple(KV_FORMATS) if text == "all" else words(text, "--kv")
    for name in names:
        if name not in KV_FORMATS:
            raise UsageError(
                f"unknown KV precision {name!r}", hint=f"some of: all, {', '.join(KV_FORMATS)}"
            )
    return names
