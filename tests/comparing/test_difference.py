"""Where answers part and how far models agree, on figures small enough to work out by hand."""

from __future__ import annotations

import dataclasses
import math

import pytest
from comparisons import answer, guided_round, score

from quantchat.comparing.difference import (
    agreement,
    divergence,
    first_divergence,
    most_divergent,
    next_parting,
    scored_pieces,
)
from quantchat.comparing.record import Answer


@pytest.mark.parametrize(
    ("left", "right", "at"),
    [
        ([], [], None),
        ([1, 2, 3], [1, 2, 3], None),
        ([1, 2], [1, 2, 3], None),
        ([1, 2, 3], [1, 5, 3], 1),
        ([4], [5], 0),
    ],
)
def test_first_divergence(left: list[int], right: list[int], at: int | None) -> None:
    assert first_divergence(left, right) == at
    assert first_divergence(right, left) == at


def test_an_answer_that_stopped_parts_from_one_that_went_on() -> None:
    short, long = answer(" a b"), answer(" a b c")
    found = divergence(short, long)
    assert found is not None
    assert (found.index, found.left_piece, found.right_piece) == (2, "", " c")
    back = divergence(long, short)
    assert back is not None and (back.left_piece, back.right_piece) == (" c", "")


def test_an_answer_that_was_cut_off_does_not_part() -> None:
    assert divergence(answer(" a b", finish="length"), answer(" a b c")) is None
    assert divergence(answer(" a b", finish="cancelled"), answer(" a b c")) is None
    assert divergence(answer(" a b"), answer(" a b")) is None


def test_agreement_is_the_mean_of_what_is_known() -> None:
    scores = [
        score(" a", p=0.5, base_p=0.75, kl=0.25, same_top=True),
        score(" b", p=0.25, base_p=0.125, kl=0.75, same_top=False),
        score(" c", p=0.5, base_p=None, kl=None, same_top=None),
    ]
    found = agreement(scores)
    assert found is not None
    assert (found.tokens, found.same_top_share) == (2, 0.5)
    assert (found.kl_mean, found.kl_max) == (0.5, 0.75)
    assert found.delta_p_mean == pytest.approx((-0.25 + 0.125) / 2)
    assert agreement(scores[2:]) is None
    assert agreement([]) is None


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_kl_that_is_no_number_is_not_passed_over(place: int) -> None:
    kls = [0.1, 0.2, 0.3]
    kls[place] = math.nan
    found = agreement([score("x", p=1, base_p=1, kl=kl, same_top=True) for kl in kls])
    assert found is not None and math.isnan(found.kl_max) and math.isnan(found.kl_mean)


def test_the_most_divergent_come_first() -> None:
    scores = [score(str(at), kl=kl) for at, kl in enumerate([0.1, 0.9, None, 0.9, 0.3])]
    assert [at for at, _ in most_divergent(scores, 3)] == [1, 3, 4]
    assert most_divergent(scores, 0) == []


def test_a_character_of_several_tokens_stays_whole_among_its_scores() -> None:
    written = Answer(
        text="a🙂!",
        token_ids=(1, 2, 3, 4),
        pieces=("a", "", "🙂", "!"),
        finish_reason="stop",
        metrics=None,
    )
    scores = tuple(
        score(text, kl=kl) for text, kl in (("a", 0.0), ("\ufffd", 0.5), ("\ufffd", 0.1))
    )
    round_ = dataclasses.replace(guided_round("a", (0.0,)), left=written, scores=scores)
    found = scored_pieces(round_)
    assert "".join(piece for piece, _ in found) == "a🙂!"
    assert [None if each is None else each.kl for _, each in found] == [0.0, 0.5, 0.1, None]


def test_the_cursor_goes_to_the_next_token_with_other_likeliest_ones() -> None:
    scores = [score(str(at), same_top=same) for at, same in enumerate([True, False, None, False])]
    assert next_parting(scores, -1) == 1
    assert next_parting(scores, 1) == 3
    assert next_parting(scores, 3) is None
