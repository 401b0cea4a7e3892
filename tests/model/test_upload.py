"""A file's bytes arrive whole whatever the sizes, and damage is named."""

from __future__ import annotations

from pathlib import Path

import factory
import pytest
import torch

from quantchat.errors import Cancelled, CheckpointError
from quantchat.model import upload as module
from quantchat.model.families import open_model
from quantchat.model.upload import Uploader, upload

CPU = torch.device("cpu")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "bytes"
    path.write_bytes(torch.randint(0, 256, (10_007,), dtype=torch.uint8).numpy().tobytes())
    return path


@pytest.mark.parametrize(
    ("offset", "count", "piece"),
    [(0, 10_007, 1000), (7, 10_000, 999), (100, 1, 16), (5000, 5007, 1 << 20), (1, 4096, 64)],
)
def test_all_bytes_arrive(
    file: Path, offset: int, count: int, piece: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PIECE_BYTES", piece)
    told: list[int] = []
    got = upload(file, offset, count, CPU, on_bytes=told.append, cancelled=lambda: False)
    assert got.numpy().tobytes() == file.read_bytes()[offset : offset + count]
    assert told == sorted(told) and told[-1] == count


def test_a_file_that_ends_early_is_named(file: Path) -> None:
    with pytest.raises(CheckpointError, match="bytes: ends at byte 10007"):
        upload(file, 0, 10_008, CPU, on_bytes=lambda _: None, cancelled=lambda: False)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="gone: cannot be opened"):
        upload(tmp_path / "gone", 0, 8, CPU, on_bytes=lambda _: None, cancelled=lambda: False)


def test_cancelling_ends_it(file: Path) -> None:
    with pytest.raises(Cancelled):
        upload(file, 0, 10_007, CPU, on_bytes=lambda _: None, cancelled=lambda: True)


def test_buffers_serve_ranges_of_all_sizes(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PIECE_BYTES", 512)
    with Uploader(CPU) as uploader:
        for offset, count in [(0, 1), (3, 511), (3, 512), (0, 10_007), (10_006, 1), (5, 5000)]:
            got = uploader.fetch(file, offset, count)
            assert got.numpy().tobytes() == file.read_bytes()[offset : offset + count]


@pytest.mark.parametrize("kind", ["hf", "gguf"])
def test_tensors_fetched_are_those_of_the_mapping(kind: str, tmp_path: Path) -> None:
    if kind == "hf":
        path = factory.write_hf(tmp_path / "m", "llama", tokenizer=False, dtype="bfloat16")
    else:
        path = factory.write_gguf(tmp_path / "m.gguf", "llama", tensor_type="Q4_1", tokenizer=False)
    source = open_model(path)
    with Uploader(CPU) as uploader:
        for name in source.names.values():
            plain = source.checkpoint.dense(name)
            fetched = source.checkpoint.dense(
                name, fetch=lambda e: uploader.fetch(e.file, e.offset, e.nbytes)
            )
            assert torch.equal(plain, fetched), name
    source.close()
