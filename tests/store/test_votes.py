"""Votes: kept, added up whichever way round a pair stood, written as a table."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest

from quantchat.errors import StoreError
from quantchat.store.db import Database, open_database
from quantchat.store.votes import PROMPT_LIMIT, Contender, Tally, Votes, as_csv

WIDE = Contender(model="starter", scheme="fp16", kv="16bit")
NARROW = Contender(model="starter", scheme="int4", kv="16bit")
OTHER = Contender(model="starter", scheme="int4", kv="int8")


def test_a_pair_is_added_up_whichever_way_round_it_stood(database: Database) -> None:
    votes = Votes(database)
    assert votes.tally(WIDE, NARROW).votes == 0
    votes.add("one", WIDE, NARROW, "right")
    votes.add("two", NARROW, WIDE, "left")
    votes.add("three", NARROW, WIDE, "right")
    votes.add("four", WIDE, NARROW, "tie")
    votes.add("another pair", WIDE, OTHER, "left")
    assert votes.tally(WIDE, NARROW) == Tally(left=1, right=2, ties=1)
    assert votes.tally(NARROW, WIDE) == Tally(left=2, right=1, ties=1)
    assert votes.tally(WIDE, OTHER) == Tally(left=1, right=0, ties=0)


def test_a_model_against_itself_is_counted_once(database: Database) -> None:
    votes = Votes(database)
    votes.add("same", WIDE, WIDE, "left")
    assert votes.tally(WIDE, WIDE) == Tally(left=1, right=0, ties=0)


def test_votes_outlive_the_process(tmp_path: Path) -> None:
    first = open_database(tmp_path / "conversations.db")
    Votes(first).add("why?", WIDE, NARROW, "right")
    first.close()
    again = open_database(tmp_path / "conversations.db")
    (vote,) = Votes(again).all()
    assert (vote.prompt, vote.left, vote.right, vote.choice) == ("why?", WIDE, NARROW, "right")
    again.close()


def test_a_long_prompt_is_cut_and_a_foreign_word_refused(database: Database) -> None:
    votes = Votes(database)
    votes.add("x" * 10 * PROMPT_LIMIT, WIDE, NARROW, "tie")
    assert len(votes.all()[0].prompt) == PROMPT_LIMIT
    with pytest.raises(StoreError, match="CHECK"), database.write() as connection:
        connection.execute("UPDATE votes SET choice = 'both'")


def test_the_interval_is_wilsons() -> None:
    assert Tally(left=0, right=0, ties=7).interval() is None
    low, high = Tally(left=0, right=1, ties=0).interval() or (0.0, 0.0)
    assert low == pytest.approx(0.2065, abs=1e-3) and high == 1.0
    low, high = Tally(left=5, right=5, ties=3).interval() or (0.0, 0.0)
    assert (low, high) == (pytest.approx(0.2366, abs=1e-3), pytest.approx(0.7634, abs=1e-3))
    assert Tally(left=5, right=15, ties=3).right_share == 0.75


def test_the_table_reads_back_and_runs_no_formula(database: Database) -> None:
    votes = Votes(database)
    votes.add('=HYPERLINK("x")\nsecond, line', WIDE, NARROW, "right")
    table = list(csv.DictReader(io.StringIO(as_csv(votes.all()))))
    assert table[0]["prompt"] == '\'=HYPERLINK("x")\nsecond, line'
    assert table[0]["right_scheme"] == "int4" and table[0]["choice"] == "right"
    assert table[0]["time"].endswith("Z")
