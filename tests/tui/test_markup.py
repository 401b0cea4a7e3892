"""Markdown as lines: what streams equals what is drawn at once, and nothing is too wide."""

from __future__ import annotations

import random

import pytest
from textual.theme import BUILTIN_THEMES

from quantchat.tui.markup import code
from quantchat.tui.markup.answer import GrowingText, text_lines
from quantchat.tui.markup.chunks import Chunk, Splitter, code_blocks, split
from quantchat.tui.markup.layout import chunk_lines
from quantchat.tui.markup.palette import palette_from
from quantchat.tui.markup.table import share

PALETTE = palette_from(BUILTIN_THEMES["nord"].to_color_system().generate())

ANSWER = """# Title

Some **bold**, *leaning*, ~~gone~~ and `code` with a [link](https://a.b).
A second line.

1. one that is long enough to be wrapped onto a second line of the pane
   - inner
   - inner two

   a paragraph within
2. two

| a | b |
|---|---|
| 1 | a cell that is wide enough to be wrapped when the pane is narrow |

> a quote

```python
def f(x):
    return '''two
lines'''
```

~~~
no language
~~~
The end."""


def plain(lines: list[object]) -> str:
    return "\n".join(str(line).rstrip() for line in lines)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("width", [24, 61, 110])
def test_streamed_and_whole_text_are_drawn_alike(seed: int, width: int) -> None:
    draw = random.Random(seed)
    growing = GrowingText(width, PALETTE)
    at = 0
    while at < len(ANSWER):
        step = draw.randint(1, 9)
        growing.append(ANSWER[at : at + step])
        at += step
        assert all(line.cell_length <= width for line in growing.tail_lines())
    streamed = [*growing.settled_lines, *growing.tail_lines()]
    whole = text_lines(ANSWER, width, PALETTE)
    assert plain(streamed) == plain(whole)  # type: ignore[arg-type]
    assert all(line.cell_length <= width for line in whole)


def test_what_is_drawn() -> None:
    text = plain(text_lines(ANSWER, 60, PALETTE))  # type: ignore[arg-type]
    assert "Title\n─────" in text
    assert "1. one that is long enough to be wrapped onto a second line\n   of the pane" in text
    assert "   ◦ inner" in text and "a │ b" in text and "▎ a quote" in text
    assert " python" in text and "     return '''two" in text


def test_a_long_fence_is_settled_in_parts() -> None:
    growing = GrowingText(60, PALETTE)
    growing.append("```python\n" + "x = 1\n" * 100)
    assert len(growing.settled_lines) == 81 and len(growing.tail_lines()) == 20
    growing.append("```\nafter")
    assert len(growing.settled_lines) == 101
    assert [str(line) for line in growing.tail_lines()] == ["", "after"]


def test_a_long_list_is_settled_before_its_end() -> None:
    growing = GrowingText(60, PALETTE)
    text = "".join(f"{number}. item\n" for number in range(1, 61))
    growing.append(text)
    streamed = [*growing.settled_lines, *growing.tail_lines()]
    assert [str(line).split(".")[0].strip() for line in streamed] == [
        str(number) for number in range(1, 61)
    ]
    assert len(growing.tail_lines()) <= 24


def test_a_fence_that_is_being_typed_is_not_shown() -> None:
    for marks in ("`", "``", "```"):
        splitter = Splitter()
        splitter.feed("text\n" + marks)
        assert splitter.tail() == [Chunk("text", "text")]


def test_code_blocks_are_found_whole() -> None:
    long = "\n".join(f"line {number}" for number in range(900))
    assert code_blocks(f"a\n```\none\n```\nb\n~~~py\n{long}\n~~~") == ["one", long]
    assert code_blocks("nothing") == []
    assert code_blocks("```\nopen") == ["open"]


def test_blank_lines_in_code_stay() -> None:
    assert split("```\na\n\n\nb\n```")[0].source == "a\n\n\nb"


@pytest.mark.parametrize(
    "text",
    ["", "\n\n\n", "```", "|", "| a |\n|--|", "#", "- ", "1.", ">", "> " * 60 + "deep", "- " * 40],
)
def test_odd_texts_are_drawn(text: str) -> None:
    for chunk in split(text):
        assert all(line.cell_length <= 80 for line in chunk_lines(chunk, 30, PALETTE))


@pytest.mark.parametrize("text", ["नमस्ते दुनिया ", "cafe\u0301 ", "ok ✔\ufe0f ", "東京", "x = (1); "])
def test_long_lines_of_code_are_shown_whole(text: str) -> None:
    chunk = Chunk("code", f"# {text * 30}", language="python")
    lines = chunk_lines(chunk, 40, PALETTE)[1:]
    assert "".join(str(line)[1:].rstrip() for line in lines).replace(" ", "") == (
        chunk.source.replace(" ", "")
    )
    assert {line.cell_length for line in lines} == {40}


@pytest.mark.parametrize("seconds", [0.0, 1e9])
def test_code_that_takes_long_is_shown_plain(
    seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(code, "LEXING_S", seconds)
    shown = code.highlight("def f():\n" + "    return 1\n" * 99, "python", PALETTE)
    assert shown.plain.count("return") == 99
    assert (len(shown.spans) < 9) == (not seconds)


def test_columns_share_the_width() -> None:
    assert share([3, 4], 20) == [3, 4]
    assert share([3, 40, 50], 33) == [3, 15, 15]
    assert sum(share([9] * 10, 25)) <= 25


def test_wide_characters_are_wrapped_by_cells() -> None:
    lines = text_lines("漢字" * 40, 30, PALETTE)
    assert all(line.cell_length <= 30 for line in lines)
    code = text_lines("```\n" + "漢字" * 40 + "\n```", 30, PALETTE)
    assert all(line.cell_length <= 30 for line in code)


def drawn_rows(text: str, width: int = 60) -> list[str]:
    return [line.plain.rstrip() for line in text_lines(text, width, PALETTE)]


def test_columns_of_a_table_stand_where_it_says() -> None:
    table = "| left | right | mid |\n|:---|---:|:---:|\n| a | 1 | b |\n| 日本 | 1,000 | c |\n"
    assert drawn_rows(table) == [
        "left │ right │ mid",
        "─────┼───────┼────",
        "a    │     1 │  b",
        "日本 │ 1,000 │  c",
    ]


def test_the_address_of_a_link_can_be_read() -> None:
    assert drawn_rows("See [the page](https://a.b/c).") == ["See the page (https://a.b/c)."]
    assert drawn_rows("See <https://a.b/c>, <x@a.b>.") == ["See https://a.b/c, x@a.b."]
    assert drawn_rows("![a cat](cat.png)") == ["a cat (cat.png)"]
    long = drawn_rows(f"![a](data:image/png;base64,{'A' * 5_000})", 400)
    assert len(long) == 1 and long[0].endswith("…)") and len(long[0]) < 220
