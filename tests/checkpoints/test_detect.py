"""What a path holds, and the hint when it holds nothing we open."""

from __future__ import annotations

from pathlib import Path

import factory
import pytest
import raw_gguf

from quantchat.checkpoints.detect import open_checkpoint
from quantchat.checkpoints.gguf import GgufFile
from quantchat.checkpoints.safetensors import SafetensorsFolder
from quantchat.errors import CheckpointError


def refused(path: Path) -> CheckpointError:
    with pytest.raises(CheckpointError) as caught:
        open_checkpoint(path)
    assert "\n" not in str(caught.value) and caught.value.path == path
    return caught.value


def test_files_and_folders(tmp_path: Path) -> None:
    plain = tmp_path / "g" / "m.gguf"
    plain.parent.mkdir()
    plain.write_bytes(raw_gguf.file())
    assert isinstance(open_checkpoint(plain), GgufFile)
    assert isinstance(open_checkpoint(plain.parent), GgufFile)
    blob = tmp_path / "blob"
    blob.write_bytes(raw_gguf.file())
    assert isinstance(open_checkpoint(blob), GgufFile)
    folder = factory.write_hf(tmp_path / "hf", "qwen2", shards=2, tokenizer=False)
    assert isinstance(open_checkpoint(folder), SafetensorsFolder)


def test_two_files_are_named(tmp_path: Path) -> None:
    for name in ("a.gguf", "b.gguf"):
        (tmp_path / name).write_bytes(raw_gguf.file())
    assert "a.gguf, b.gguf" in refused(tmp_path).hint


def test_pickles_are_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "pytorch_model.bin").touch()
    assert "run code" in refused(tmp_path).message
    assert "safetensors" in refused(tmp_path / "pytorch_model.bin").hint


def test_nothing_to_open(tmp_path: Path) -> None:
    assert "no model" in refused(tmp_path).message
    assert "does not exist" in refused(tmp_path / "none").message
    (tmp_path / "m.safetensors").touch()
    assert "no config.json" in refused(tmp_path).message
    assert "folder" in refused(tmp_path / "m.safetensors").hint
    (tmp_path / "notes.txt").write_text("hello")
    assert "not a GGUF file" in refused(tmp_path / "notes.txt").message
