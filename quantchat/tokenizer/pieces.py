"""What a vocabulary entry stands for, in bytes: byte-level BPE and SentencePiece spellings."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TypeAlias

PieceBytes: TypeAlias = Callable[[str], bytes]

SPACE = "\u2581"
"""SentencePiece writes a space as LOWER ONE EIGHTH BLOCK."""

_BYTE_PIECE = re.compile(r"<0x([0-9A-Fa-f]{2})>")


def _alphabet() -> dict[str, int]:
    """GPT-2's printable stand-in for each byte: itself where printable, else from U+0100 on."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    hidden = (byte for byte in range(256) if byte not in printable)
    table = {chr(byte): byte for byte in printable}
    table.update((chr(0x100 + n), byte) for n, byte in enumerate(hidden))
    return table


BYTE_ALPHABET: Mapping[str, int] = MappingProxyType(_alphabet())


def byte_level(piece: str) -> bytes:
    """Bytes of a byte-level piece; one with foreign characters stands for itself in UTF-8."""
    try:
        return bytes([BYTE_ALPHABET[char] for char in piece])
    except KeyError:
        return literal(piece)


def sentencepiece(piece: str) -> bytes:
    """Bytes of a SentencePiece piece: `<0x0A>` is one byte, the block character a space."""
    match = _BYTE_PIECE.fullmatch(piece)
    if match:
        return bytes([int(match[1], 16)])
    return literal(piece.replace(SPACE, " "))


def literal(piece: str) -> bytes:
    """The piece in UTF-8; lone surrogates become U+FFFD."""
    try:
        return piece.encode()
    except UnicodeEncodeError:
        return clean(piece).encode()


def clean(text: str) -> str:
    """Text without lone surrogates, each replaced by U+FFFD."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
