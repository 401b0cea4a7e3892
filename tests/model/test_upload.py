"""A file's bytes arrive whole whatever the sizes, and damage is named."""

from __future__ import annotations

import threading
from pathlib import Path

import factory
import pytest
import torch

from quantchat.errors import Cancelled, CheckpointError
from quantchat.model import upload as module
from quantchat.model.families import open_model
from quantchat.model.loader import load_decoder
from quantchat.model.upload import Range, Uploader, upload
from quantchat.model.weights import WeightRecipe
from quantchat.ops.torch_ops import TorchOps
from quantchat.quant.registry import SCHEMES

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
    got, rest = upload(
        [Range(file, offset, count), Range(file, 3, 5)],
        CPU,
        on_bytes=told.append,
        cancelled=lambda: False,
    )
    assert got.numpy().tobytes() == file.read_bytes()[offset : offset + count]
    assert rest.numpy().tobytes() == file.read_bytes()[3:8]
    assert told == sorted(told) and count in told and told[-1] == count + 5


def whole(path: Path, count: int, *, cancelled: bool = False) -> None:
    upload([Range(path, 0, count)], CPU, on_bytes=lambda _: None, cancelled=lambda: cancelled)


def test_a_file_that_ends_early_is_named(file: Path) -> None:
    with pytest.raises(CheckpointError, match="bytes: ends at byte 10007"):
        whole(file, 10_008)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="gone: cannot be opened"):
        whole(tmp_path / "gone", 8)


def test_cancelling_ends_it(file: Path) -> None:
    with pytest.raises(Cancelled):
        whole(file, 10_007, cancelled=True)


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


def test_ranges_that_are_expected_come_whole_in_any_order(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Asked for in turn, twice, before their turn, and without being expected."""
    monkeypatch.setattr(module, "PIECE_BYTES", 300)
    monkeypatch.setattr(module, "AHEAD_BYTES", 2500)
    data = file.read_bytes()
    expected = [Range(file, at, count) for at, count in [(0, 1000), (0, 1000), (7, 0), (9, 4000)]]
    expected += [Range(file, at, 700) for at in range(0, 9000, 700)]
    with Uploader(CPU) as uploader:
        uploader.expect(expected)
        order = [expected[i] for i in (0, 1, 2, 3, 9, 4, 5, 15)]
        order += [Range(file, 3, 55), expected[6], expected[16], expected[16]]
        for path, offset, count in order:
            got = uploader.fetch(path, offset, count)
            assert got.numpy().tobytes() == data[offset : offset + count]


def test_no_more_is_under_way_than_there_is_room_for(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "AHEAD_BYTES", 2500)
    with Uploader(CPU) as uploader:
        uploader.expect(Range(file, at, 1000) for at in range(9))
        assert uploader._ahead_bytes == 2000
        uploader.fetch(file, 0, 1000)
        assert uploader._ahead_bytes == 2000
        uploader.fetch(file, 500, 10_000 - 500)
        assert uploader._ahead_bytes == 2000


def test_a_range_larger_than_the_room_goes_alone(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "AHEAD_BYTES", 100)
    with Uploader(CPU) as uploader:
        uploader.expect([Range(file, 0, 5000), Range(file, 1, 5000)])
        assert uploader._ahead_bytes == 5000
        assert uploader.fetch(file, 0, 5000).numel() == 5000


def test_no_memory_for_what_is_only_expected_is_no_failure(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = torch.empty

    def empty(*shape: int, **options: object) -> torch.Tensor:
        if shape == (4000,):
            raise torch.OutOfMemoryError("full")
        return real(*shape, **options)

    with Uploader(CPU) as uploader:
        monkeypatch.setattr(module.torch, "empty", empty)
        uploader.expect([Range(file, 0, 10), Range(file, 0, 4000), Range(file, 5, 10)])
        assert uploader.fetch(file, 0, 10).numel() == 10
        assert uploader.fetch(file, 5, 10).numpy().tobytes() == file.read_bytes()[5:15]
        with pytest.raises(torch.OutOfMemoryError):
            uploader.fetch(file, 0, 4000)


def test_what_fails_ahead_is_said_and_leaves_nothing_behind(file: Path, tmp_path: Path) -> None:
    with Uploader(CPU) as uploader:
        uploader.expect([Range(tmp_path / "gone", 0, 8)])
        with pytest.raises(CheckpointError, match="gone: cannot be opened"):
            uploader.fetch(tmp_path / "gone", 0, 8)
    assert not any(thread.name == "upload" for thread in threading.enumerate())


@pytest.mark.parametrize("scheme", ["fp16", "int8", "int4", "stored"])
@pytest.mark.parametrize("kind", ["llama", "internlm2", "phi3", "Q4_1"])
def test_a_load_reads_what_it_was_expected_to(
    scheme: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every range was on its way before it was asked for, and none was for nothing."""
    if kind == "Q4_1":
        path = factory.write_gguf(tmp_path / "m.gguf", "llama", tensor_type=kind, tokenizer=False)
    else:
        path = factory.write_hf(tmp_path / "m", kind, tokenizer=False)
    begun: list[bool] = []
    left: list[int] = []
    began, leave = Uploader._begun, Uploader.__exit__

    def watch(self: Uploader, wanted: Range) -> object:
        work = began(self, wanted)
        begun.append(work is not None)
        return work

    def end(self: Uploader, *raised: object) -> None:
        left.append(self._ahead_bytes + len(self._expected))
        leave(self, *raised)

    monkeypatch.setattr(Uploader, "_begun", watch)
    monkeypatch.setattr(Uploader, "__exit__", end)
    source = open_model(path)
    group = 32 if scheme == "int4" else 0
    recipe = WeightRecipe(scheme=SCHEMES[scheme], group_size=group, dtype=torch.float32, device=CPU)
    load_decoder(
        source,
        TorchOps(source.spec, device=CPU, dtype=torch.float32),
        recipe,
        context_tokens=16,
        cache=None,
        on_progress=lambda phase, done, total: None,
        cancelled=lambda: False,
    )
    source.close()
    unexpected = begun.count(False)
    # The table beside a head of its own is read last, when there is room for it.
    assert len(begun) > 10 and unexpected == (0 if source.spec.tied_head else 1)
    assert left == [0]
