"""A thread's buffers: their order, their lock, and what is left when it goes; the card is made up."""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from quantchat.errors import CheckpointError
from quantchat.model import card_calls as card_calls_module
from quantchat.model import staging as module
from quantchat.model.staging import BUFFERS, Staging, filled

CPU = torch.device("cpu")
PIECE = 1000


class _Event:
    """Happens when it is waited for; each record of it has a number."""

    def __init__(self, card: _Card) -> None:
        self._card = card
        self.cuda_event = len(card.events)
        card.events.append(self)
        self.record(card)

    def record(self, stream: object) -> None:
        self._card.records += 1
        self.number = self._card.records

    def synchronize(self) -> None:
        self._card.log.append(f"await {self.number}")


class _Calls:
    """The driver's calls, over memory of the host."""

    def __init__(self, card: _Card) -> None:
        self._card = card
        self.refuses = False
        self.copies = 0

    def copy(self, target: int, source: int, nbytes: int, stream: int, event: int) -> bool:
        if self.refuses:
            return False
        ctypes.memmove(target, source, nbytes)
        self._card.events[event].record(stream)
        self.copies += 1
        return True

    def happened(self, event: int) -> bool:
        return self._card.events[event].number <= BUFFERS


class _Card:
    """Streams whose copies are over at once, and a driver that counts what is locked."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, refuses: bool = False) -> None:
        self.log: list[str] = []
        self.locked: dict[int, int] = {}
        self.refuses = refuses
        self.cuda_stream = 0
        self.events: list[_Event] = []
        self.records = 0
        self.calls = _Calls(self)
        monkeypatch.setattr(module, "card_calls", lambda: self.calls)
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
        return _Event(self)

    def wait_event(self, event: object) -> None:
        self.log.append("after")

    def synchronize(self) -> None:
        self.log.append("all")


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> Iterator[_Card]:
    made = _Card(monkeypatch)
    yield made
    assert not made.locked, "memory stayed locked"


@pytest.mark.parametrize("by", ["driver", "torch", "torch where the driver refuses"])
def test_a_buffer_is_written_to_once_its_copy_is_over(
    by: str, card: _Card, monkeypatch: pytest.MonkeyPatch
) -> None:
    card.calls.refuses = by.endswith("refuses")
    if by == "torch":
        monkeypatch.setattr(module, "card_calls", lambda: None)
    data = torch.randint(0, 256, (5 * PIECE - 7,), dtype=torch.uint8)
    got = torch.zeros_like(data)
    with Staging(CPU, PIECE) as staging:
        assert list(card.locked.values()) == [BUFFERS * PIECE]
        for first in range(0, len(data), PIECE):
            piece = data[first : first + PIECE]
            staging.free(len(piece))[:] = piece.numpy().tobytes()
            staging.send(got, first)
    assert torch.equal(got, data)
    assert card.calls.copies == (5 if by == "driver" else 0)
    assert card.log[-4:] == ["await 3", "await 4", "await 5", "all"]


def test_a_lock_that_is_refused_is_done_without(monkeypatch: pytest.MonkeyPatch) -> None:
    card = _Card(monkeypatch, refuses=True)
    target = torch.zeros(4, dtype=torch.uint8)
    with Staging(CPU, PIECE) as staging:
        staging.free(3)[:] = b"abc"
        staging.send(target, 1)
    assert bytes(target.tolist()) == b"\0abc" and not card.locked and not card.calls.copies


def test_calls_of_a_library_that_is_not_there_are_done_without(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(card_calls_module, "LIBRARY", "libnothing.so.1")
    assert card_calls_module.card_calls.__wrapped__() is None


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
