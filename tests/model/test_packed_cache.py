"""Packed weights on disk: the same back, whole or not at all."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from quantchat.model import packed_cache, packed_file
from quantchat.model.packed_cache import DRAFT_LIFE_S, PackedCache
from quantchat.model.packed_parts import STORED, Index, stored_form, stored_weight
from quantchat.model.upload import Range, upload
from quantchat.ops.linear import LinearForm
from quantchat.quant.rounding import fp8_channel, int4_group, int8_channel
from quantchat.quant.tensor import DenseWeight

CPU = torch.device("cpu")
LAYOUT = "stored-bfloat16"


def forms() -> dict[str, list[LinearForm]]:
    """Linears of odd sizes in every format, one of two parts, one with an op's own form."""
    made: dict[str, list[LinearForm]] = {}
    for i in range(4):
        w = torch.randn(33 + i, 96)
        weights = (int4_group(w, 32),) if i % 2 else (int8_channel(w), fp8_channel(w))
        bias = torch.randn(33 + i) if i == 3 else None
        made[f"layers.{i}.qkv"] = [stored_form(weight, bias) for weight in weights]
    words = torch.randint(-(2**31), 2**31, (7, 12), dtype=torch.int64).to(torch.int32)
    made["layers.0.o"] = [
        LinearForm(
            form="own-1",
            shape=(7, 96),
            group_size=32,
            tensors={
                "words": words,
                "bias": torch.randn(7, dtype=torch.bfloat16),
                "input_scale": torch.tensor(0.37),
            },
        )
    ]
    made["head"] = [stored_form(int8_channel(torch.randn(50, 64)), None)]
    return made


def write(cache: PackedCache, layout: str = LAYOUT) -> dict[str, list[LinearForm]]:
    made = forms()
    writer = cache.writer(layout, 1 << 20, linears=len(made))
    assert writer is not None
    for name, parts in made.items():
        writer.add_linear(name, parts)
    head = made["head"][0]
    writer.add_embedding(head, head)
    writer.add_vector("final_norm", torch.ones(64))
    writer.commit()
    return made


def bytes_of(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.flatten().view(torch.uint8)


def cache_in(folder: Path, identity: str = "abc") -> PackedCache:
    return PackedCache(folder, identity, "int4", 32)


def test_what_is_written_is_read_and_begins_at_cache_lines(tmp_path: Path) -> None:
    cache = cache_in(tmp_path)
    made = write(cache)
    file = cache.open(LAYOUT)
    assert file is not None
    tensors = file.read(CPU, on_bytes=lambda _: None, cancelled=lambda: False)
    assert set(file.index.linears) == set(made)
    for name, parts in made.items():
        for entry, original in zip(file.index.linears[name], parts, strict=True):
            form = entry.load(tensors)
            assert (form.form, form.shape, form.group_size) == (
                original.form,
                original.shape,
                original.group_size,
            )
            assert set(form.tensors) == set(original.tensors)
            for key, tensor in form.tensors.items():
                wanted = original.tensors[key]
                assert tensor.dtype == wanted.dtype and tensor.shape == wanted.shape
                assert torch.equal(bytes_of(tensor), bytes_of(wanted))
                assert tensor.data_ptr() % 64 == 0
    assert torch.equal(tensors[file.index.vectors["final_norm"]], torch.ones(64))
    file.close()


def test_a_tied_table_is_written_once(tmp_path: Path) -> None:
    cache = cache_in(tmp_path)
    write(cache)
    file = cache.open(LAYOUT)
    assert file is not None and file.index.embedding is not None
    assert file.index.embedding.tensors == file.index.linears["head"][0].tensors
    file.close()


def test_the_header_has_room_for_as_many_linears_as_there_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Models of many experts have tens of thousands, in more than one such block.
    monkeypatch.setattr(packed_cache, "HEADER_BYTES", 1 << 10)
    cache = cache_in(tmp_path)
    made = write(cache)
    file = cache.open(LAYOUT)
    assert file is not None and set(file.index.linears) == set(made)
    assert int.from_bytes(cache.path(LAYOUT).read_bytes()[:8], "little") % 1024 == 1024 - 8
    file.close()


def test_what_moves_on_a_card_has_no_others_in_its_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def to_memory(ranges: list[Range], _: torch.device, **calls: Any) -> list[torch.Tensor]:
        return upload(ranges, CPU, **calls)

    monkeypatch.setattr(packed_file, "upload", to_memory)
    cache = cache_in(tmp_path)
    made = write(cache)
    file = cache.open(LAYOUT)
    assert file is not None
    told: list[int] = []
    apart = {"layers.1.qkv": "one", "layers.2.qkv": "one", "layers.3.qkv": "other"}
    tensors = file.read(
        torch.device("cuda"), on_bytes=told.append, cancelled=lambda: False, apart=apart
    )
    assert told == sorted(told) and told[-1] == file.nbytes
    memory: dict[str, set[int]] = {}
    for name, parts in made.items():
        for entry, original in zip(file.index.linears[name], parts, strict=True):
            for key, tensor in entry.load(tensors).tensors.items():
                assert torch.equal(bytes_of(tensor), bytes_of(original.tensors[key]))
                place = tensor.untyped_storage().data_ptr()
                memory.setdefault(apart.get(name, ""), set()).add(place)
    assert len(memory["one"]) == len(memory["other"]) == 1
    assert len(set.union(*memory.values())) == sum(map(len, memory.values()))
    whole = file.read(torch.device("cuda"), on_bytes=told.append, cancelled=lambda: False)
    assert len({tensor.untyped_storage().data_ptr() for tensor in whole.values()}) == 1
    file.close()


@pytest.mark.parametrize("size", [0, 7, 100, (1 << 20) + 50])
def test_a_file_that_is_cut_off_is_removed(tmp_path: Path, size: int) -> None:
    cache = cache_in(tmp_path)
    write(cache)
    path = cache.path(LAYOUT)
    path.write_bytes(path.read_bytes()[:size])
    assert cache.open(LAYOUT) is None
    assert not path.exists()


def test_a_given_up_draft_leaves_nothing(tmp_path: Path) -> None:
    cache = cache_in(tmp_path)
    writer = cache.writer(LAYOUT, 1 << 20)
    assert writer is not None
    writer.add_linear("head", forms()["head"])
    writer.discard()
    assert list(tmp_path.iterdir()) == []
    assert cache.open(LAYOUT) is None


def test_a_full_disk_ends_the_writing_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = cache_in(tmp_path)
    writer = cache.writer(LAYOUT, 1 << 20)
    assert writer is not None

    class Full:
        def write(self, data: object) -> int:
            raise OSError(28, "No space left on device")

        def close(self) -> None:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(writer, "_file", Full())
    writer.add_linear("head", forms()["head"])
    writer.add_vector("final_norm", torch.ones(64))
    writer.commit()
    assert list(tmp_path.iterdir()) == []


def test_no_room_means_no_file(tmp_path: Path) -> None:
    assert cache_in(tmp_path).writer(LAYOUT, 1 << 60) is None


def test_a_folder_that_cannot_be_written_means_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cache_in(tmp_path / "gone").writer(LAYOUT, 1) is None

    def refused(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refused)
    assert cache_in(tmp_path).writer(LAYOUT, 1) is None


def test_keys_keep_models_schemes_groups_and_layouts_apart(tmp_path: Path) -> None:
    paths = {
        PackedCache(tmp_path, identity, scheme, group).path(layout)
        for identity in ("a", "b")
        for scheme in ("int4", "int8")
        for group in (32, 64)
        for layout in (LAYOUT, "card-sm90-float16")
    }
    assert len(paths) == 16


def test_the_oldest_files_and_dead_drafts_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packed_cache, "KEEP_FILES", 12)
    dead = tmp_path / ".abc.safetensors.0123"
    dead.write_bytes(b"x")
    os.utime(dead, (0, dead.stat().st_mtime - 2 * DRAFT_LIFE_S))
    young = tmp_path / ".abc.safetensors.4567"
    young.write_bytes(b"x")
    for i in range(15):
        write(cache_in(tmp_path, f"model{i}"))
        for path in tmp_path.glob(f"model{i}-*"):
            os.utime(path, (1000 + i, 1000 + i))
    assert not dead.exists() and young.exists()
    kept = {path.name.split("-")[0] for path in tmp_path.glob("*.safetensors")}
    assert kept == {f"model{i}" for i in range(3, 15)}
    # Few large ones: the newest stay, whatever they take.
    monkeypatch.setattr(packed_cache, "KEEP_BYTES", 1)
    write(cache_in(tmp_path, "model15"))
    kept = {path.name.split("-")[0] for path in tmp_path.glob("*.safetensors")}
    assert kept == {f"model{i}" for i in range(8, 16)}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"linears": {"head": []}, "vectors": {}}',
        '{"linears": {"head": [{"form": "x", "shape": [1], "group_size": 0}]}, "vectors": {}}',
        '{"linears": {"head": [{"form": "x", "shape": [1, -1], "group_size": 0, "tensors": {}}]}}',
        '{"linears": {"head": [{"form": "x", "shape": [1, true], "group_size": 0, "tensors": {}}]}}',
        '{"linears": {"head": [{"form": "x", "shape": [1, 1], "group_size": 0, "tensors": [1]}]}}',
        '{"linears": {}, "vectors": {"final_norm": 3}}',
        json.dumps({"linears": {"a": [None]}, "vectors": {}}),
    ],
)
def test_a_damaged_index_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        Index.from_text(text)


def test_stored_formats_come_back_and_wrong_shapes_do_not() -> None:
    w = torch.randn(5, 64)
    for weight in (DenseWeight(w), int8_channel(w), fp8_channel(w), int4_group(w, 32)):
        form = stored_form(weight, torch.ones(5))
        again, bias = stored_weight(form)
        assert type(again) is type(weight) and bias is not None
        assert torch.equal(again.dequantize(torch.float32), weight.dequantize(torch.float32))
        for other in (
            LinearForm(form=form.form, shape=(5, 32), group_size=32, tensors=form.tensors),
            LinearForm(form=STORED + "other", shape=(5, 64), group_size=0, tensors=form.tensors),
            LinearForm(form=form.form, shape=(5, 64), group_size=form.group_size, tensors={}),
        ):
            with pytest.raises(ValueError):
                stored_weight(other)
