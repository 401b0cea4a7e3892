"""`quantchat ask` as a shell sees it: streams, JSON, exit codes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import factory
import pytest


def ask(home: Path, *words: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own."""
    return subprocess.run(
        [sys.executable, "-P", "-m", "quantchat", "ask", *words],
        input=stdin if stdin is not None else "",
        capture_output=True,
        text=True,
        timeout=200,
        env={**os.environ, "QUANTCHAT_HOME": str(home)},
    )


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return factory.write_hf(tmp_path_factory.mktemp("tiny"), "llama", max_position_embeddings=256)


def test_json_is_the_only_line_and_holds_what_was_promised(tmp_path: Path, tiny: Path) -> None:
    words = ("--model", str(tiny), "--scheme", "int4", "--max-tokens", "5", "--seed", "3", "--json")
    done = ask(tmp_path, *words, stdin="Name three colours.")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 1
    answer = json.loads(lines[0])
    for key in ("text", "finish_reason", "model", "scheme", "kv", "device", "metrics"):
        assert key in answer
    for key in (
        "ttft_s",
        "prefill_tok_per_s",
        "decode_tok_per_s",
        "itl_p50_s",
        "itl_p95_s",
        "prompt_tokens",
        "completion_tokens",
        "weight_bytes",
        "kv_bytes",
        "peak_bytes",
    ):
        assert answer["metrics"][key] >= 0
    assert answer["scheme"] == "int4" and answer["kv"] == "16bit"
    assert answer["metrics"]["weight_bytes"] > 0 and answer["metrics"]["ttft_s"] > 0
    again = json.loads(ask(tmp_path, *words, stdin="Name three colours.").stdout)
    assert again["text"] == answer["text"]


def test_text_is_streamed_whole(tmp_path: Path, tiny: Path) -> None:
    words = ("--model", str(tiny), "--max-tokens", "6", "--temperature", "1.5", "--seed", "5")
    plain = ask(tmp_path, *words, "hello")
    told = json.loads(ask(tmp_path, *words, "hello", "--json").stdout)
    assert plain.returncode == 0
    assert plain.stdout == told["text"] + "\n"


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ((), 2, "no prompt"),
        (("--scheme", "int3", "hi"), 2, "int3"),
        (("--kv", "int2", "hi"), 2, "int2"),
        (("--calibration", "no/such.txt", "hi"), 2, "such.txt"),
        (("--temperature", "-1", "hi"), 2, "temperature"),
        (("--model", "no-such-model", "hi"), 1, "no-such-model"),
    ],
)
def test_failures_are_one_line_and_a_hint(
    tmp_path: Path, words: tuple[str, ...], code: int, said: str
) -> None:
    done = ask(tmp_path, *words)
    assert done.returncode == code, done.stderr
    assert said in done.stderr and "Traceback" not in done.stderr
    assert done.stdout == ""
