"""Tokens as rows: wrapped the same however they came, nothing lost, each cell with its token."""

from __future__ import annotations

import random

import pytest
from rich.cells import cell_len

from quantchat.tui.markup.palette import palette_from
from quantchat.tui.widgets.token_flow import TokenFlow, shown
from quantchat.tui.widgets.token_inks import inks_from

PIECES = ["a", "bb", " ccc", "  ", "\n", "\n\n", "日本", " 語", "e\u0301", "👩", "", "\t", "\u202e"]
PIECES += ["verylongwordthatbreaks", " x", ".", "✔\ufe0f"]


def rows(flow: TokenFlow) -> list[str]:
    return [flow.text[begin:end] for begin, end in zip(flow.begins, flow.ends, strict=True)]


@pytest.mark.parametrize("seed", range(8))
def test_any_tokens_in_any_portions(seed: int) -> None:
    dice = random.Random(seed)
    for _ in range(60):
        pieces = [dice.choice(PIECES) for _ in range(dice.randint(0, 60))]
        width = dice.randint(8, 30)
        whole, grown, at = TokenFlow(width, pieces), TokenFlow(width), 0
        while at < len(pieces):
            count = dice.randint(1, 7)
            before = rows(grown)
            first = grown.append(pieces[at : at + count])
            at += count
            assert rows(grown)[:first] == before[:first]
        assert rows(whole) == rows(grown) and whole.begins == grown.begins
        assert whole.text == "".join(map(shown, pieces))
        ends = ["\n" if whole.breaker(row) is not None else "" for row in range(whole.rows)]
        assert "".join(map("".join, zip(rows(whole), ends, strict=True))) == whole.text
        for row, text in enumerate(rows(whole)):
            assert cell_len(text.rstrip(" ")) <= width
            assert "".join(part for _, part in whole.parts(row)) == text


@pytest.mark.parametrize("seed", range(4))
def test_plain_letters_are_wrapped_as_others_of_one_cell(seed: int) -> None:
    dice = random.Random(seed)
    for _ in range(60):
        text = "".join(dice.choice("aaaa b   \n") for _ in range(dice.randint(0, 120)))
        width = dice.randint(8, 30)
        other = TokenFlow(width, [text.replace("a", "\u00e9").replace("b", "\u00e8")])
        plain = TokenFlow(width, [text])
        assert (plain.begins, plain.ends) == (other.begins, other.ends)


def test_words_are_kept_whole_and_spaces_stay_at_the_edge() -> None:
    flow = TokenFlow(10, ["The", " quick", " brown", " fox"])
    assert rows(flow) == ["The quick ", "brown fox"]
    assert rows(TokenFlow(8, ["12345678", "   ", "9"])) == ["12345678   ", "9"]
    assert rows(TokenFlow(8, ["日本語日本語"])) == ["日本語日", "本語"]
    assert rows(TokenFlow(8, ["a\n\nb\n"])) == ["a", "", "b", ""]


def test_a_cell_leads_to_its_token() -> None:
    flow = TokenFlow(12, ["日", "本", "", " go", "\n", "next"])
    assert [flow.token_at(0, cell) for cell in range(9)] == [0, 0, 1, 1, 3, 3, 3, 4, None]
    assert flow.token_at(1, 0) == 5 and flow.token_at(1, 4) is None
    assert flow.token_at(7, 0) is None
    assert flow.rows_of(4, 6) == range(0, 2) and flow.row_of(5) == 1


def test_what_moves_the_cursor_is_not_drawn() -> None:
    assert shown("a\tb\r\n\x1b[2J\u202e") == "a    b\n·[2J·"


def test_headings_and_code_are_told_from_text_while_they_stream() -> None:
    text = "# One\ntext #2\n```py\n# no heading\n\n```\n## Two ~~~\n~~~\nopen"
    kinds = ["heading", "text", "code", "code", "code", "code", "heading", "code", "code"]
    whole = TokenFlow(30, [text])
    assert [whole.kind(row) for row in range(whole.rows)] == kinds
    grown = TokenFlow(30)
    for character in text:
        grown.append([character])
    assert grown.fences == whole.fences
    assert [grown.kind(row) for row in range(grown.rows)] == kinds


def test_tokens_are_told_apart_with_sixteen_colours_too() -> None:
    full = {"text-error": "#f07178", "text-success": "#a6da95", "text-warning": "#eed49f"}
    few = {"background": "ansi_black", "text-error": "ansi_red", "text-success": "ansi_green"}
    for variables in (full, few | {"text-warning": "ansi_yellow", "text-primary": "ansi_blue"}):
        palette = palette_from({"text-primary": "#8aadf4"} | variables)
        for coarse in (False, True):
            inks = inks_from(palette, coarse=coarse)
            kinds = [inks.of_kl(kl) for kl in (0.0, 0.03, 0.2, 0.5, 3.0)]
            assert kinds[0] is None and len(set(kinds)) == 5
            changes = [inks.of_change(each) for each in (-0.6, -0.3, -0.1, 0.0, 0.1, 0.3, 0.6)]
            assert changes[3] is None and len(set(changes)) == 7
