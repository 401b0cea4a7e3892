"""Pieces of remote files: as few bytes as it takes, and words for servers that do otherwise."""

from __future__ import annotations

import struct
import threading
from pathlib import Path

import pytest
import raw_gguf
from fake_servers import FakeServer

from quantchat.checkpoints.gguf import GgufFile
from quantchat.errors import Cancelled, CheckpointError
from quantchat.hub import remote_header
from quantchat.hub.http import SourceError
from quantchat.hub.hub_api import Hub
from quantchat.hub.remote_header import Beginning, RemoteRepo
from quantchat.model.remote_source import RemoteFiles

WORD = b"\x2a\x00\x00\x00\x00\x00\x00\x00" + b"w" * 42
VALUES = 6 << 20


def big_gguf(words: int = 100_000) -> bytes:
    """5 MB of vocabulary before a tensor of 24 MiB."""
    tokens = raw_gguf.array("tokenizer.ggml.tokens", 8, WORD * words, count=words)
    return raw_gguf.file(
        keys=[raw_gguf.string("general.architecture", "llama"), tokens],
        tensors=[raw_gguf.tensor("t", [VALUES])],
        data=bytes(4 * VALUES),
    )


def opened(hub: FakeServer, name: str, body: bytes, *, claims: int | None = None) -> RemoteRepo:
    """A repository with one file, listed with the size that it claims."""
    hub.repos["own/x"] = {name: body}
    if claims is not None:
        hub.facts["own/x"] = {"siblings": [{"rfilename": name, "size": claims}]}
    cancel = threading.Event()
    return RemoteRepo(Hub(cancel, patient=False).listing("own/x"), cancel)


def test_a_header_of_megabytes_is_read_and_no_weight(hub: FakeServer) -> None:
    repo = opened(hub, "big.gguf", big_gguf())
    files = RemoteFiles(repo)
    file = GgufFile(files.root / "big.gguf", files)
    assert len(file.metadata["tokenizer.ggml.tokens"]) == 100_000
    assert file.tensors["t"].nbytes == 4 * VALUES
    with files.open(files.root / "big.gguf").buffer() as held:
        assert len(WORD) * 100_000 < len(held) < len(big_gguf())
    asked = [headers["range"] for path, headers in hub.requests if "resolve" in path]
    assert asked == [f"bytes=0-{len(big_gguf()) - 1}"] * 2


@pytest.mark.parametrize("ranges", [True, False])
def test_a_small_piece_comes_with_ranges_and_without(hub: FakeServer, ranges: bool) -> None:
    hub.faults.ignore_range = not ranges
    body = bytes(range(256)) * 5000
    repo = opened(hub, "w.safetensors", body)
    assert repo.piece("w.safetensors", 300_000, 1000) == body[300_000:301_000]


def test_a_server_without_ranges_is_not_listened_to_for_ever(
    hub: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote_header, "BEGINNING_BYTES", 100_000)
    hub.faults.ignore_range = True
    repo = opened(hub, "w.safetensors", bytes(300_000))
    with pytest.raises(SourceError, match="as a whole only"):
        repo.piece("w.safetensors", 200_000, 10)
    with Beginning(repo, "w.safetensors") as beginning:
        beginning.grow(100_000)
        assert len(beginning.data) == 100_000
        with pytest.raises(SourceError, match="longer than is sensible"):
            beginning.grow(100_001)


def test_a_file_that_ends_before_its_listed_size_is_said(hub: FakeServer) -> None:
    whole = big_gguf(10_000)
    hub.faults.ignore_range = True
    repo = opened(hub, "cut.gguf", whole[:200_000], claims=len(whole))
    files = RemoteFiles(repo)
    with pytest.raises(SourceError, match=r"ended after 200000 bytes"):
        GgufFile(files.root / "cut.gguf", files)


def test_a_file_of_another_size_than_listed_is_said(hub: FakeServer) -> None:
    repo = opened(hub, "w.safetensors", bytes(50_000), claims=40_000)
    with pytest.raises(SourceError, match=r"has 50000 bytes, .* lists it with 40000"):
        repo.piece("w.safetensors", 10, 10)


@pytest.mark.parametrize("keep", [3, 30, 5000, 400_000])
def test_a_header_that_is_cut_off_in_the_file_itself_is_damage(hub: FakeServer, keep: int) -> None:
    files = RemoteFiles(opened(hub, "cut.gguf", big_gguf(10_000)[:keep]))
    with pytest.raises(CheckpointError):
        GgufFile(files.root / "cut.gguf", files)


@pytest.mark.parametrize("length", [1 << 62, 33 << 20, 500_000])
def test_a_safetensors_header_that_lies_about_its_length(hub: FakeServer, length: int) -> None:
    from quantchat.checkpoints.safetensors_header import read_header

    files = RemoteFiles(opened(hub, "w.safetensors", struct.pack("<Q", length) + b"{}" * 100))
    with pytest.raises(CheckpointError):
        read_header(files.open(files.root / "w.safetensors"))


def test_a_silent_hub_can_be_given_up(hub: FakeServer) -> None:
    repo = opened(hub, "big.gguf", big_gguf(1000))
    hub.faults.silent = True
    threading.Timer(0.2, repo.hub.cancel.set).start()
    with pytest.raises(Cancelled):
        RemoteFiles(repo).open(Path("own/x/big.gguf"))
