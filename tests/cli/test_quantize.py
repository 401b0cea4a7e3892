"""`quantchat quantize` from words to a folder that answers by itself."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import factory
import pytest
import torch
from click.testing import CliRunner

from quantchat.cli.quantize import command
from quantchat.errors import Cancelled, NoRoomError, UsageError
from quantchat.evals import quantizing
from quantchat.evals.quantizing import Order, quantize
from quantchat.evals.subject import open_subject
from quantchat.store.quality import measured_quality


def run(model: Path, out: Path, *words: str) -> Any:
    torch.set_num_threads(1)
    options = ("--model", str(model), "--device", "cpu", *words, str(out))
    result = CliRunner().invoke(command, options, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result


@pytest.fixture(scope="module")
def gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("quantize") / "tiny.gguf"
    return factory.write_gguf(path, "llama", tensor_type="Q8_0", max_position_embeddings=512)


def test_a_gguf_file_becomes_a_folder_that_answers(tmp_path: Path, gguf: Path) -> None:
    model, out = tmp_path / "tiny.gguf", tmp_path / "made" / "tiny-int4"
    shutil.copy(gguf, model)
    words = ("--scheme", "w4a16", "--kv", "16bit,int8", "--eval-tokens", "64", "--json")
    record = json.loads(run(model, out, *words).stdout)
    assert record["folder"] == str(out) and record["shards"] == 1
    marker = json.loads((out / "quantchat.json").read_text())
    recipe = marker["recipe"]
    assert (recipe["scheme"], recipe["group_size"]) == ("int4", 32)
    assert recipe["source"]["model"] == "tiny.gguf" and recipe["calibration"] is None
    subject = open_subject(str(model))
    assert recipe["source"]["identity"] == subject.identity
    exported = open_subject(str(out))
    for kv, row in zip(("16bit", "int8"), marker["quality"], strict=True):
        assert row["kv"] == kv and row["kl_mean"] > 0 and row["tokens"] >= 64
        for identity in (subject.identity, exported.identity):
            found = measured_quality(identity, "int4", kv)
            assert found is not None and found.kl_mean == row["kl_mean"]
    assert record["quality"] == marker["quality"]
    subject.close()
    exported.close()
    model.unlink()
    done = subprocess.run(
        [
            *(sys.executable, "-P", "-m", "quantchat", "ask", "-m", str(out), "--json"),
            *("--max-tokens", "4", "--temperature", "0", "hi"),
        ],
        capture_output=True,
        text=True,
        timeout=200,
        env={**os.environ},
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert (answer["scheme"], answer["model"]) == ("int4", str(out))


def test_a_calibrated_scheme_says_what_it_looked_at(tmp_path: Path, gguf: Path) -> None:
    text = tmp_path / "mine.txt"
    text.write_text("The sky is blue because air scatters short waves of light. " * 400)
    out = tmp_path / "awq"
    words = ("--scheme", "awq", "--calibration", str(text), "--eval-tokens", "0")
    shown = run(gguf, out, *words).stdout
    assert f"{out}: " in shown and "quantchat ask -m" in shown and "measured" not in shown
    recipe = json.loads((out / "quantchat.json").read_text())["recipe"]
    assert recipe["calibration"]["text"] == "mine.txt" and recipe["calibration"]["key"]


def test_what_is_there_is_left_alone(tmp_path: Path, gguf: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine.txt").write_text("x")
    with pytest.raises(UsageError, match="is there already"):
        run(gguf, out, "--scheme", "int8")
    with pytest.raises(UsageError, match="unknown scheme 'int5'"):
        run(gguf, tmp_path / "other", "--scheme", "int5")
    with pytest.raises(UsageError, match="holds already"):
        run(gguf, tmp_path / "other", "--scheme", "stored")
    assert [path.name for path in tmp_path.iterdir() if path.name != "quantchat-home"] == ["out"]
    assert (out / "mine.txt").read_text() == "x"


def test_an_export_is_not_quantized_again(tmp_path: Path, gguf: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    run(gguf, out, "--scheme", "int8", "--eval-tokens", "0")
    with pytest.raises(UsageError, match="is an export already"):
        run(out, tmp_path / "again", "--scheme", "int4")


def test_no_room_for_the_original_leaves_the_export_unmeasured(
    tmp_path: Path, gguf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: Any, **words: Any) -> Any:
        raise NoRoomError("fp16 on a card needs 16 GiB")

    monkeypatch.setattr(quantizing, "write_chats", refuse)
    out = tmp_path / "out"
    shown = run(gguf, out, "--scheme", "int8").stdout
    assert "not run: the measurement: fp16 on a card needs 16 GiB" in shown
    assert json.loads((out / "quantchat.json").read_text())["quality"] == []
    exported = open_subject(str(out))
    assert exported.source.export is not None
    exported.close()


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGTERM")
def test_a_process_that_is_told_to_end_leaves_nothing(
    tmp_path: Path, gguf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def told(*args: Any, **words: Any) -> Any:
        os.kill(os.getpid(), signal.SIGTERM)
        raise AssertionError("it goes on")

    monkeypatch.setattr(quantizing, "write_chats", told)
    before = signal.getsignal(signal.SIGTERM)
    (tmp_path / "in").mkdir()
    options = ("--model", str(gguf), "--device", "cpu", "--scheme", "int8")
    done = CliRunner().invoke(command, (*options, str(tmp_path / "in" / "out")))
    assert done.exit_code == 128 + signal.SIGTERM
    assert not list((tmp_path / "in").iterdir())
    assert signal.getsignal(signal.SIGTERM) == before


@pytest.mark.parametrize("moment", ["quantize", "measure"])
def test_stopping_leaves_nothing(
    tmp_path: Path, gguf: Path, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []

    def stop() -> bool:
        return any(moment in label for label in seen)

    if moment == "measure":

        def stopped(*args: Any, **words: Any) -> Any:
            raise Cancelled("the evaluation was stopped")

        monkeypatch.setattr(quantizing, "write_chats", stopped)
    subject = open_subject(str(gguf))
    try:
        with pytest.raises(Cancelled):
            quantize(
                subject,
                Order(scheme="int4", kvs=("16bit",), device="cpu", eval_tokens=16),
                tmp_path / "here" / "out",
                on_work=lambda label, done, total: seen.append(label),
                cancelled=stop,
            )
    finally:
        subject.close()
    assert list((tmp_path / "here").iterdir()) == []
