"""A thread's buffers: their order, their lock, and what is left when it goes; the card is made up."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from quantchat.errors import CheckpointError
from quantchat.model import staging as module
from quantchat.model.staging import BUFFERS, Staging, filled

CPU = torch.device("cpu")
PIECE = 1000


class _Event:
    def __init__(self, number: int, log: list[str]) -> None:
        self._number, self._log = number, log

    def synchronize(self) -> None:
        self._log.append(f"await {self._number}")


class _Card:
    """Streams whose copies are over at once, and a driver that counts what is locked."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, refuses: bool = False) -> None:
        self.log: list[str] = []
        self.locked: dict[int, int] = {}
        self.refuses = refuses
        self._events = 0
        cuda = module.torch.cuda
        monkeypatch.setattr(cuda, "device", lambda device: contextlib.nullcontext())
        monkeypatch.setattr(cuda, "Stream", lambda device: self)
        monkeypatch.setattr(cuda, "set_stream", lambda stream: None)
        runtime = SimpleNamespace(cudaHostRegister=self._lock, cudaHostUnregister=self._unlock)
        monkeypatch.setattr(cuda, "cudart", lambda: runtime)

    def _lock(self, address: int, nbytes: int, flags: int) -> int:
        if self.refuses:
            return 2
        self.locked[address] = nbytes
        return 0

    def _unlock(self, address: int) -> None:
        del self.locked[address]

    def record_event(self) -> _Event:
        self._events += 1
        return _Event(self._events, self.log)

    def wait_event(self, event: object) -> None:
        self.log.append("after")

    def synchronize(self) -> None:
        self.log.append("all")


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> Iterator[_Card]:
    made = _Card(monkeypatch)
    yield made
    assert not made.locked, "memory stayed locked"


def test_a_buffer_is_written_to_once_its_copy_is_over(card: _Card) -> None:
    data = torch.randint(0, 256, (5 * PIECE - 7,), dtype=torch.uint8)
    got = torch.zeros_like(data)
    with Staging(CPU, PIECE) as staging:
        assert list(card.locked.values()) == [BUFFERS * PIECE]
        for first in range(0, len(data), PIECE):
            piece = data[first : first + PIECE]
            staging.free(len(piece))[:] = piece.numpy().tobytes()
            staging.send(got[first : first + PIECE])
    assert torch.equal(got, data)
    assert card.log == ["await 1", "await 2", "await 3", "all"]


def test_a_lock_that_is_refused_is_done_without(monkeypatch: pytest.MonkeyPatch) -> None:
    card = _Card(monkeypatch, refuses=True)
    target = torch.zeros(3, dtype=torch.uint8)
    with Staging(CPU, PIECE) as staging:
        staging.free(3)[:] = b"abc"
        staging.send(target)
    assert bytes(target.tolist()) == b"abc" and not card.locked


def test_memory_is_unlocked_whatever_happens(
    card: _Card, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def lost() -> None:
        raise RuntimeError("the card is gone")

    monkeypatch.setattr(card, "synchronize", lost)
    with pytest.raises(RuntimeError, match="gone"), Staging(CPU, PIECE):
        assert card.locked


def test_a_file_is_read_from_any_byte_on(tmp_path: Path) -> None:
    path = tmp_path / "bytes"
    path.write_bytes(bytes(range(200)))
    room = bytearray(50)
    with path.open("rb", buffering=0) as file:
        filled(path, file, memoryview(room), 140)
        assert room == bytes(range(140, 190))
        with pytest.raises(CheckpointError, match="bytes: ends at byte 200"):
            filled(path, file, memoryview(room), 190)
