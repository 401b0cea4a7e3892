"""Draws a chunk of Markdown as lines of a given width.

Owns the look of blocks: headings, lists with hanging indents, quotes, tables, rules.
A line is a `Content`; nothing here knows of widgets.
"""

from __future__ import annotations

from functools import lru_cache

from markdown_it import MarkdownIt
from markdown_it.tree import SyntaxTreeNode
from textual.content import Content

from quantchat.tui.markup.chunks import Chunk
from quantchat.tui.markup.code import code_lines
from quantchat.tui.markup.inline import inline
from quantchat.tui.markup.palette import Palette
from quantchat.tui.markup.table import Side, table_lines

BLANK = Content("")
BULLETS = "•◦▪"
DEEPEST = 12
"""Blocks nested deeper than this are drawn without further indentation."""


@lru_cache(maxsize=1)
def parser() -> MarkdownIt:
    """CommonMark with tables and strikethrough."""
    return MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"])


def chunk_lines(
    chunk: Chunk, width: int, palette: Palette, *, copy: Content | None = None
) -> list[Content]:
    """Lines of one chunk, at most `width` cells each; `copy` goes above a code block."""
    width = max(12, width)
    if chunk.kind == "code":
        return code_lines(
            chunk.source, chunk.language, width, palette, opens=chunk.opens, label=copy
        )
    root = SyntaxTreeNode(parser().parse(chunk.source))
    return _blocks(root, width, palette, tight=False, depth=0)


def _blocks(
    node: SyntaxTreeNode, width: int, palette: Palette, *, tight: bool, depth: int
) -> list[Content]:
    lines: list[Content] = []
    for child in node.children:
        drawn = _block(child, width, palette, depth)
        if lines and drawn and not tight:
            lines.append(BLANK)
        lines.extend(drawn)
    return lines


def _block(node: SyntaxTreeNode, width: int, palette: Palette, depth: int) -> list[Content]:
    kind = node.type
    if kind == "paragraph":
        return inline(node.children[0], palette).wrap(width)
    if kind == "heading":
        return _heading(node, width, palette)
    if kind in ("bullet_list", "ordered_list"):
        return _list(node, width, palette, depth)
    if kind == "blockquote":
        bar = Content.styled("▎ ", palette.marker)
        inner = _blocks(node, max(8, width - 2), palette, tight=False, depth=depth + 1)
        return [bar + line.stylize_before(palette.muted) for line in inner]
    if kind == "table":
        return _table(node, width, palette)
    if kind == "hr":
        return [Content.styled("─" * width, palette.faint)]
    if kind in ("fence", "code_block"):
        language = node.info.split()[0] if node.info.split() else ""
        code = node.content.rstrip("\n")
        return code_lines(code, language, width, palette, opens=kind == "fence", label=None)
    return Content(node.content.rstrip("\n")).wrap(width) if node.content else []


def _heading(node: SyntaxTreeNode, width: int, palette: Palette) -> list[Content]:
    level = int(node.tag[1:])
    text = inline(node.children[0], palette, palette.heading if level < 4 else palette.strong)
    lines = text.wrap(width)
    if level == 1:
        rule = "─" * min(width, max(line.cell_length for line in lines))
        lines.append(Content.styled(rule, palette.faint))
    return lines


def _list(node: SyntaxTreeNode, width: int, palette: Palette, depth: int) -> list[Content]:
    ordered = node.type == "ordered_list"
    number = int(node.attrs.get("start", 1)) if ordered else 0
    last = number + len(node.children) - 1
    tight = all(
        child.hidden
        for item in node.children
        for child in item.children
        if child.type == "paragraph"
    )
    lines: list[Content] = []
    for at, item in enumerate(node.children):
        sign = f"{number + at}.".rjust(len(str(last)) + 1) if ordered else BULLETS[min(depth, 2)]
        mark = Content.styled(sign + " ", palette.marker)
        indent = mark.cell_length if depth < DEEPEST else 0
        inner = _blocks(item, max(8, width - indent), palette, tight=tight, depth=depth + 1)
        if lines and not tight:
            lines.append(BLANK)
        for y, line in enumerate(inner or [BLANK]):
            lines.append((mark if y == 0 else Content(" " * indent)) + line)
    return lines


def _table(node: SyntaxTreeNode, width: int, palette: Palette) -> list[Content]:
    head: list[Content] = []
    sides: list[Side] = []
    rows: list[list[Content]] = []
    for part in node.children:
        for row in part.children:
            base = palette.strong if part.type == "thead" else None
            cells = [inline(cell.children[0], palette, base) for cell in row.children]
            if part.type == "thead":
                head = cells
                sides = [_side(cell) for cell in row.children]
            else:
                rows.append(cells)
    return table_lines(head, rows, width, palette, sides=sides)


def _side(cell: SyntaxTreeNode) -> Side:
    style = str(cell.attrs.get("style", ""))
    return (
        "right" if style.endswith(":right") else "center" if style.endswith(":center") else "left"
    )
