"""Code blocks: highlighted lines on a background of their own."""

from __future__ import annotations

import time
from functools import lru_cache
from itertools import accumulate

from pygments.lexer import Lexer  # type: ignore[import-untyped]
from pygments.lexers import get_lexer_by_name  # type: ignore[import-untyped]
from pygments.token import (  # type: ignore[import-untyped]
    Comment,
    Keyword,
    Name,
    Number,
    Operator,
    String,
    Token,
)
from pygments.util import ClassNotFound  # type: ignore[import-untyped]
from rich.cells import chop_cells
from textual.content import Content, Span
from textual.style import Style

from quantchat.tui.markup.palette import Palette

TAB_CELLS = 4
LEXING_S = 0.25
"""What of a part takes longer stays plain: some lexers take a time that grows with its square."""


@lru_cache(maxsize=64)
def lexer_for(language: str) -> Lexer | None:
    """pygments' lexer for a fence's info word, or None."""
    try:
        return get_lexer_by_name(language.lower(), stripnl=False, ensurenl=False)
    except ClassNotFound:
        return None


def highlight(code: str, language: str, palette: Palette) -> Content:
    """Code with colours, or plain when the language is not known."""
    lexer = lexer_for(language) if language else None
    if lexer is None:
        return Content(code)
    spans: list[Span] = []
    styles: dict[object, Style | None] = {}
    at = 0
    until_s = time.thread_time() + LEXING_S
    for kind, text in lexer.get_tokens(code):
        if kind not in styles:
            styles[kind] = _token_style(kind, palette)
        style = styles[kind]
        end = at + len(text)
        if style is not None and text.strip():
            spans.append(Span(at, end, style))
        at = end
        if time.thread_time() > until_s:
            return Content(code, spans=spans)
    return Content(code, spans=spans) if at >= len(code) else Content(code)


def code_lines(
    code: str, language: str, width: int, palette: Palette, *, opens: bool, label: Content | None
) -> list[Content]:
    """Lines of a fence, padded to `width` cells; `opens` puts the language above them."""
    inner = max(8, width - 2)
    lines: list[Content] = []
    if opens:
        name = Content(f" {language or 'text'} ")
        right = label or Content("")
        gap = max(0, width - name.cell_length - right.cell_length)
        head = Content.assemble(name, " " * gap, right)
        lines.append(head.stylize_before(palette.block_label))
    for line in highlight(code.expandtabs(TAB_CELLS), language, palette).split(allow_blank=True):
        # Not by `fold`: it ends at the first piece that holds a character without width.
        for piece in line.divide(_cuts(line.plain, inner)):
            pad = max(0, inner - piece.cell_length)
            lines.append(
                Content.assemble(" ", piece, " " * (pad + 1)).stylize_before(palette.block)
            )
    return lines


def _cuts(text: str, width: int) -> list[int]:
    """Where a line is cut into pieces of at most `width` cells."""
    if text.isascii():
        return list(range(width, len(text), width))
    return list(accumulate(map(len, chop_cells(text, width)[:-1])))


def _token_style(kind: object, palette: Palette) -> Style | None:
    table = (
        (Comment, palette.comment),
        (Keyword, palette.keyword),
        (Operator.Word, palette.keyword),
        (String, palette.string),
        (Number, palette.number),
        (Name.Class, palette.type_),
        (Name.Function, palette.name),
        (Name.Decorator, palette.name),
        (Name.Builtin, palette.type_),
        (Name.Tag, palette.name),
        (Name.Attribute, palette.number),
        (Token.Generic.Deleted, palette.error),
        (Token.Generic.Inserted, palette.success),
        (Token.Generic.Heading, palette.heading),
    )
    for wanted, style in table:
        if kind in wanted:
            return style
    return None
