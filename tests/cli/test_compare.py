"""`quantchat compare`: its words, what it prints, and one run of a real model."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import factory
import pytest
from click.testing import CliRunner
from comparisons import comparison, free_round, guided_round
from rich.console import Console

from quantchat.cli.compare import command, export_kinds, load_requests
from quantchat.cli.compare_view import show
from quantchat.comparing.json_export import from_json
from quantchat.comparing.markdown import to_markdown
from quantchat.comparing.record import Comparison, Round
from quantchat.errors import UsageError
from quantchat.settings.model import Settings


def compare(home: Path, *words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own."""
    return subprocess.run(
        [sys.executable, "-P", "-m", "quantchat", "compare", *words],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=200,
        env={**os.environ, "QUANTCHAT_HOME": str(home)},
    )


def test_one_object_and_the_files_of_a_real_comparison(tmp_path: Path) -> None:
    tiny = factory.write_hf(tmp_path / "tiny", "llama", max_position_embeddings=256)
    out = tmp_path / "out"
    words = ("--model", str(tiny), "--schemes", "fp16,int4", "--kv", "16bit,int8", "--seed", "3")
    more = ("--max-tokens", "6", "--out", str(out), "--export", "json,md", "--json")
    done = compare(tmp_path, *words, *more, stdin="Name three colours.")
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    found = from_json(line)
    assert (found.left.scheme, found.right.scheme) == ("fp16", "int4")
    assert (found.left.kv, found.right.kv) == ("16bit", "int8")
    assert found.left.weight_bytes > found.right.weight_bytes > 0
    (round_,) = found.rounds
    assert round_.right is not None and round_.sampling.seed == 3
    assert 0 < len(round_.left.token_ids) <= 6
    assert round_.messages[-1].content == "Name three colours."
    assert json.loads(line)["figures"]["saved_bytes"] > 0
    markdown, written = sorted(out.iterdir(), key=lambda path: path.suffix, reverse=True)
    assert (markdown.suffix, written.suffix) == (".md", ".json")
    assert from_json(written.read_text()) == found
    assert f"wrote {written}" in done.stderr and "right, int4: writing" in done.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "there is no prompt"),
        (["-p", "hi", "--schemes", "fp16,int3"], "int3"),
        (["-p", "hi", "--schemes", "fp16,int4,int8"], "--schemes"),
        (["-p", "hi", "--schemes", "fp16,"], "--schemes"),
        (["-p", "hi", "--schemes", "int4"], "the same"),
        (["-p", "hi", "--kv", "int2"], "int2"),
        (["-p", "hi", "--export", "pdf"], "pdf"),
        (["-p", "hi", "--calibration", "no/such.txt"], "such.txt"),
    ],
)
def test_words_that_are_off_are_said_before_anything_loads(words: list[str], said: str) -> None:
    done = CliRunner().invoke(command, words, standalone_mode=False)
    assert isinstance(done.exception, UsageError)
    assert said in done.exception.message


def test_a_model_that_is_not_there_is_one_line_and_a_hint(tmp_path: Path) -> None:
    done = compare(tmp_path, "-p", "hi", "--model", "no-such-model")
    assert done.returncode == 1 and done.stdout == ""
    assert "quantchat: left, fp16: " in done.stderr and "no-such-model" in done.stderr
    assert "hint: " in done.stderr and "Traceback" not in done.stderr


def test_one_name_stands_for_both_and_settings_for_what_is_not_said() -> None:
    settings = Settings(model="a", compare_right_model="b", compare_left_kv="int8", device="cpu")
    left, right = load_requests(settings, None, None, None)
    assert (left.model, left.scheme, left.kv, left.device) == ("a", "fp16", "int8", "cpu")
    assert (right.model, right.scheme, right.kv) == ("b", "int4", "auto")
    left, right = load_requests(settings, "x,y", "int8", "16bit")
    assert (left.model, right.model) == ("x", "y")
    assert left.scheme == right.scheme == "int8" and left.kv == right.kv == "16bit"
    left, right = load_requests(settings, "x", "auto,w4a16", "16bit")
    assert (left.scheme, right.scheme) == ("auto", "int4"), "names that mean the same are one"


def test_a_folder_alone_means_every_kind() -> None:
    assert export_kinds(None, wanted=True) == ("markdown", "json", "svg")
    assert export_kinds(None, wanted=False) == ()
    assert export_kinds("svg,md,markdown", wanted=False) == ("svg", "markdown")


def shown(record: Comparison, columns: int) -> str:
    console = Console(file=io.StringIO(), width=columns, color_system=None)
    show(record, console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize("columns", [60, 80, 140])
def test_the_table_says_what_ran_and_where_answers_part(columns: int) -> None:
    record = comparison(free_round("The [bold]sky[/] is blue.", "The [bold]sky[/] is \x1b[31mred."))
    text = shown(record, columns)
    assert "[bold]sky[/]" in text and "\x1b" not in text and "\\x1b" in text
    for words in ("4.70 bits", "136 tok/s", "times as fast", "3.40 times smaller"):
        assert words in text, words
    assert "took turns" not in text
    assert "they took turns" in " ".join(
        shown(dataclasses.replace(record, took_turns=True), columns).split()
    )
    assert all(len(line) <= columns for line in text.splitlines())


def test_guided_the_most_divergent_tokens_are_listed() -> None:
    text = shown(comparison(guided_round("Short waves scatter more.", (0.01, 0.7, 2.5, 0.0))), 140)
    for words in ("KL in nats:", '3: " scatter"', "2.50", "likeliest of int4", "KL mean"):
        assert words in text, words


@pytest.mark.parametrize(
    "round_",
    [free_round("a", "b", prompt='it\'s "a"\n\nlong $one'), guided_round("a b", (0.1, 0.2))],
)
def test_the_line_that_repeats_it_is_understood(round_: Round) -> None:
    text = to_markdown(comparison(round_))
    block = text.split("To repeat it:\n\n")[1].split("\n", 1)[1].rsplit("\n```", 1)[0]
    name, verb, *words = shlex.split(block)
    assert (name, verb) == ("quantchat", "compare")
    with command.make_context("compare", words) as context:
        said = context.params
    left, right = load_requests(Settings(), said["models"], said["schemes"], said["kv"])
    assert (left.scheme, right.scheme, left.model) == ("fp16", "int4", "starter")
    assert said["prompt"] == round_.messages[-1].content
    assert (said["mode"], said["seed"]) == (round_.mode, round_.sampling.seed)
    assert said["temperature"] == round_.sampling.temperature
