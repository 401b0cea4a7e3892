"""Text within a block: emphasis, code, links, as `Content` with styles."""

from __future__ import annotations

from markdown_it.tree import SyntaxTreeNode
from textual.content import Content, Span
from textual.style import Style

from quantchat.tui.markup.palette import Palette

ADDRESS_CHARS = 200
"""Of a link; pictures within a text have addresses of any length."""


def inline(node: SyntaxTreeNode, palette: Palette, base: Style | None = None) -> Content:
    """The content of an `inline` node; `base` styles all of it."""
    parts: list[str] = []
    spans: list[Span] = []
    _walk(node, palette, parts, spans, [0])
    text = "".join(parts)
    if base is not None:
        spans.insert(0, Span(0, len(text), base))
    return Content(text, spans=spans)


def _walk(
    node: SyntaxTreeNode, palette: Palette, parts: list[str], spans: list[Span], at: list[int]
) -> None:
    def put(text: str, style: Style | None = None) -> None:
        if style is not None:
            spans.append(Span(at[0], at[0] + len(text), style))
        parts.append(text)
        at[0] += len(text)

    def put_address(address: str, shown: str) -> None:
        """A link leads nowhere in a terminal: its address is to be read, unless it is there."""
        if address and address.removeprefix("mailto:") != shown:
            cut = address if len(address) <= ADDRESS_CHARS else f"{address[: ADDRESS_CHARS - 1]}…"
            put(f" ({cut})", palette.muted)

    for child in node.children:
        kind = child.type
        start, first = at[0], len(parts)
        if kind in ("softbreak", "hardbreak"):
            put("\n")
        elif kind == "code_inline":
            put(child.content, palette.code)
        elif kind == "image":
            put(child.content or "image", palette.link)
            put_address(str(child.attrs.get("src", "")), child.content)
        elif child.children:
            _walk(child, palette, parts, spans, at)
            style = _style(child, palette)
            if style is not None:
                spans.append(Span(start, at[0], style))
            if kind == "link":
                put_address(str(child.attrs.get("href", "")), "".join(parts[first:]))
        elif child.content:
            put(child.content)


def _style(node: SyntaxTreeNode, palette: Palette) -> Style | None:
    if node.type == "strong":
        return palette.strong
    if node.type == "em":
        return palette.emphasis
    if node.type == "s":
        return palette.strike
    if node.type == "link":
        return palette.link
    return None
