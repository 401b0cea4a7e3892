"""Exports: JSON that reads back, Markdown and SVG that no text can break, files never overwritten."""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from comparisons import comparison, free_round, guided_round, score

from quantchat.comparing.export import prepare, stem_of, write_export
from quantchat.comparing.json_export import as_object, from_json, to_json
from quantchat.comparing.markdown import to_markdown
from quantchat.comparing.record import Comparison
from quantchat.comparing.svg import ROWS_MAX, to_svg
from quantchat.comparing.text_rows import wrapped
from quantchat.errors import UsageError
from quantchat.requests import Message

HOSTILE = (
    "```\n# no heading\n| a | b |\n</text><script>x</script> \x00\x1b[31m \ud800 & ￾ 日本語\t."
)


@pytest.fixture
def whole() -> Comparison:
    """Every mode, with all that can be None, and numbers that JSON lacks."""
    guided = guided_round("Short waves scatter more.", (0.01, 0.7, 2.5, 0.0))
    odd = score(" odd", p=math.inf, kl=-math.inf)
    unknown = score(" alone", base_p=None, kl=None, same_top=None)
    failed = dataclasses.replace(
        free_round("a b", "a c"),
        right=dataclasses.replace(
            free_round("a b", "a c").left, finish_reason="failed", metrics=None
        ),
        prefix_ids=(4, 5),
    )
    return comparison(
        free_round("The sky is blue.", "The sky is red."),
        dataclasses.replace(guided, scores=(*guided.scores, odd, unknown)),
        dataclasses.replace(free_round("a b", "a c"), mode="blind", choice="right"),
        failed,
    )


def test_json_reads_back_as_the_same_record(whole: Comparison) -> None:
    assert from_json(to_json(whole)) == whole
    assert from_json(to_json(whole, indent=None)) == whole
    assert "\n" not in to_json(whole, indent=None)
    hostile = comparison(free_round(HOSTILE, HOSTILE, prompt=HOSTILE))
    written = to_json(hostile).encode("utf-8", "backslashreplace").decode()
    assert from_json(written) == hostile


def test_a_kl_that_is_no_number_survives() -> None:
    round_ = dataclasses.replace(guided_round("a", (0.1,)), scores=(score("a", kl=math.nan),))
    found = from_json(to_json(comparison(round_))).rounds[0].scores[0].kl
    assert found is not None and math.isnan(found)


def test_json_tells_the_figures(whole: Comparison) -> None:
    found = json.loads(to_json(whole))
    assert (found["schema"], found["schema_version"]) == ("quantchat.comparison", 1)
    assert found["made"].endswith("+00:00")
    free, guided, _, failed = (each["figures"] for each in found["rounds"])
    assert free["same_tokens"] == 3
    assert free["divergence"] == {"index": 3, "left_piece": " blue.", "right_piece": " red."}
    assert free["decode_ratio"] == pytest.approx(16 / 4.7)
    assert guided["agreement"]["tokens"] == 5 and guided["agreement"]["same_top_share"] == 0.6
    assert guided["divergence"] is None and failed["decode_ratio"] is None
    left, right = whole.left, whole.right
    assert found["figures"]["saved_bytes"] == left.weight_bytes - right.weight_bytes


def edited(change: Callable[[dict[str, Any]], object]) -> str:
    found = as_object(comparison(free_round("a b", "a c")))
    change(found)
    return json.dumps(found)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[]", "not a comparison"),
        ('{"schema": "other"}', "not a comparison"),
        (edited(lambda found: found.update(schema_version=2)), "version 2"),
        (edited(lambda found: found.pop("left")), "left is missing"),
        (edited(lambda found: found["left"].update(weight_bytes="1")), "left.weight_bytes"),
        (edited(lambda found: found["left"].update(weight_bytes=True)), "left.weight_bytes"),
        (edited(lambda found: found["right"].update(bits_per_weight=10**400)), "bits_per_weight"),
        (edited(lambda found: found["rounds"][0].update(mode="other")), "rounds[0].mode"),
        (edited(lambda found: found["rounds"][0].update(left=None)), "rounds[0].left"),
        (
            edited(lambda found: found["rounds"][0]["left"].update(token_ids=[1, None])),
            "rounds[0].left.token_ids[1]",
        ),
        (edited(lambda found: found.update(versions=[["torch"]])), "versions[0]"),
        (edited(lambda found: found.update(rounds={})), "rounds: a list"),
    ],
)
def test_a_file_that_is_off_is_refused_with_the_place(text: str, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        from_json(text)
    assert said in caught.value.message


def test_keys_of_later_times_are_passed_over() -> None:
    found = from_json(edited(lambda found: found.update(later=1)))
    assert found == comparison(free_round("a b", "a c"))


def test_markdown_says_what_ran_and_where_answers_part(whole: Comparison) -> None:
    text = to_markdown(whole)
    for words in (
        "| scheme | fp16: fp16, group 64 | int4: int4, group 64 |",
        "| bits per weight | 16.00 | 4.70 |",
        f"({whole.left.weight_bytes:,} bytes)",
        "Versions: quantchat 0.5.0, torch 2.13.0.",
        "Sampling: greedy, seed 7.",
        "The sky is⟪ blue.⟫",
        "The sky is⟪ red.⟫",
        "Blind votes: 0 for fp16, 1 for int4, 0 for neither.",
        "Voted better without knowing which is which: the right, int4.",
        "Both answers go on from 2 given tokens.",
        "KL mean",
        '| 3: `" scatter"` | 2.50 |',
    ):
        assert words in text, words
    assert "Both did not fit" not in text
    assert "they took turns" in to_markdown(dataclasses.replace(whole, took_turns=True))


def test_the_command_that_repeats_it_draws_by_the_same_numbers() -> None:
    round_ = free_round("a", "b")
    exact = dataclasses.replace(round_.sampling, temperature=0.7000001, top_p=0.9999999)
    told = dataclasses.replace(
        round_, messages=(Message("user", "Why?"),), sampling=exact, prefix_ids=()
    )
    text = to_markdown(comparison(told))
    assert "--temperature 0.7000001 " in text and "--top-p 0.9999999 " in text


def test_a_path_below_home_is_shown_without_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    record = comparison(free_round("a", "b"))
    left = dataclasses.replace(record.left, path=str(tmp_path / "models" / "a.gguf"))
    text = to_markdown(dataclasses.replace(record, left=left))
    assert f"| path | `~{os.sep}models{os.sep}a.gguf` | `/models/starter.gguf` |" in text
    assert str(tmp_path) not in text


def test_no_text_ends_its_block() -> None:
    text = to_markdown(comparison(free_round(HOSTILE, HOSTILE, prompt=HOSTILE)))
    inside = False
    for line in text.split("\n"):
        if line.startswith("````"):
            inside = not inside
        elif not inside:
            assert "no heading" not in line
            assert "<script>" not in line
    assert not inside
    assert "\x1b" not in text and "\x00" not in text and "\\x1b[31m" in text


def test_svg_is_sound_and_marks_where_answers_part(whole: Comparison) -> None:
    drawn = to_svg(whole)
    root = ElementTree.fromstring(drawn)
    texts = [each.text or "" for each in root.iter("{http://www.w3.org/2000/svg}text")]
    joined = "\n".join(texts).replace("\N{NO-BREAK SPACE}", " ")
    for words in ("fp16", "int4", " red.", "KL in nats:", "16.00 bits/weight", "seed 11"):
        assert words in joined, words
    hostile = to_svg(comparison(free_round(HOSTILE, HOSTILE, prompt=HOSTILE)))
    ElementTree.fromstring(hostile.encode())
    assert "<script>" not in hostile


def test_svg_of_a_long_comparison_is_bounded() -> None:
    long = "word " * 4_000
    drawn = to_svg(comparison(*[free_round(long, long, prompt=long)] * 30))
    assert len(drawn) < 400_000
    assert "The\N{NO-BREAK SPACE}last\N{NO-BREAK SPACE}6" in drawn
    assert "more\N{NO-BREAK SPACE}lines" in drawn and ROWS_MAX == 40


@pytest.mark.parametrize("width", [2, 7, 20, 200])
def test_rows_hold_all_that_was_said_within_the_width(width: int) -> None:
    pieces = [
        ("The", 1),
        (" sky", 1),
        (" is blue", 2),
        ("日本語の空", 3),
        ("x" * 30, 4),
        ("\n\nend", 5),
    ]
    rows = wrapped(pieces, width)
    said = "".join(run.text for row in rows for run in row)
    assert said.replace(" ", "") == "".join(text for text, _ in pieces).replace(" ", "").replace(
        "\n", ""
    )
    for row in rows:
        at = 0
        for run in row:
            assert run.cell == at
            at += run.cells
        assert at <= width
    tags = [run.tag for row in rows for run in row]
    assert tags == sorted(tags)


def test_files_share_a_name_and_never_replace_another(tmp_path: Path, whole: Comparison) -> None:
    folder = tmp_path / "new" / "exports"
    first = write_export(whole, folder, kinds=["markdown", "json", "svg"])
    stem = stem_of(whole)
    assert stem == "compare-20261118-110640-fp16-int4"
    assert [path.name for path in first] == [f"{stem}.md", f"{stem}.json", f"{stem}.svg"]
    before = [path.read_bytes() for path in first]
    (again,) = write_export(comparison(free_round("x", "y")), folder, kinds=["json", "json"])
    assert again.name == f"{stem}-2.json"
    third = write_export(whole, folder, kinds=["markdown", "json"])
    assert [path.name for path in third] == [f"{stem}-3.md", f"{stem}-3.json"]
    assert [path.read_bytes() for path in first] == before
    assert from_json(first[1].read_text()) == whole
    assert len(list(folder.iterdir())) == 6, "no temporary file stays"


def test_a_file_system_without_links_will_do(
    tmp_path: Path, whole: Comparison, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*words: object) -> None:
        raise PermissionError("no links here")

    monkeypatch.setattr(os, "link", refuse)
    (path,) = write_export(whole, tmp_path, kinds=["json"])
    (other,) = write_export(whole, tmp_path, kinds=["json"])
    assert path != other and from_json(path.read_text()) == from_json(other.read_text()) == whole
    assert len(list(tmp_path.iterdir())) == 2


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path, whole: Comparison) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(UsageError) as caught:
        write_export(whole, tmp_path / "file", kinds=["json"])
    assert "cannot be written" in caught.value.message
    with pytest.raises(UsageError, match="cannot be written"):
        prepare(tmp_path / "file" / "below")
    prepare(tmp_path / "new")
    assert (tmp_path / "new").is_dir()


def test_names_tell_the_sides_apart() -> None:
    same = comparison(right_scheme="fp16")
    narrow = dataclasses.replace(same, right=dataclasses.replace(same.right, kv="int8"))
    assert stem_of(narrow).endswith("-fp16-16bit-kv-fp16-int8-kv")
    two = comparison(right_model="/models/Qwen 2.5/../../x.gguf")
    assert stem_of(two).endswith("-starter-fp16-x-int4")
    assert "/" not in stem_of(two)
