"""Hugging Face folders: what sound ones give, and what damaged ones say."""

from __future__ import annotations

import json
import os
import shutil
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import factory
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from quantchat.checkpoints.safetensors import SafetensorsFolder
from quantchat.checkpoints.safetensors_header import DTYPES
from quantchat.errors import CheckpointError, UnsupportedModelError

INDEX = "model.safetensors.index.json"


def write(folder: Path, header: Any, data: bytes = b"", *, claimed: int | None = None) -> Path:
    """A folder with an empty config and one safetensors file of a given header."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    length = len(text) if claimed is None else claimed
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", length) + text + data)
    return folder


def entry(dtype: Any = "F32", shape: Any = (2,), offsets: Any = (0, 8)) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


def failure(folder: Path) -> CheckpointError:
    """The error of opening a folder; it is one line."""
    with pytest.raises(CheckpointError) as caught:
        SafetensorsFolder(folder)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 600
    return caught.value


@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize("family", factory.FAMILIES)
def test_every_tensor_is_the_models(tmp_path: Path, family: str, shards: int) -> None:
    folder = factory.write_hf(tmp_path / "m", family, seed=5, shards=shards)
    model = factory.build_model(family, seed=5)
    expected = model.state_dict()
    with SafetensorsFolder(folder) as opened:
        assert opened.container == "safetensors" and opened.metadata["format"] == "pt"
        assert len({found.file for found in opened.tensors.values()}) == shards
        for name in opened.tensors:
            assert torch.equal(opened.dense(name), expected[name])
            assert opened.raw(name).numel() == opened.tensors[name].nbytes
        absent = set(expected) - set(opened.tensors)
        assert absent == ({"lm_head.weight"} if model.config.tie_word_embeddings else set())
        assert opened.config.integer("hidden_size") == 64
        assert opened.config.text("model_type") == model.config.model_type


def test_every_dtype(tmp_path: Path) -> None:
    names = {short: getattr(torch, name) for short, (name, _) in DTYPES.items()}
    tensors = {
        short: torch.randint(0, 2, (3, 5), dtype=torch.uint8).to(dtype)
        for short, dtype in names.items()
    }
    (tmp_path / "config.json").write_text("{}")
    save_file(tensors, tmp_path / "model.safetensors")
    with SafetensorsFolder(tmp_path) as folder:
        for short, tensor in tensors.items():
            assert folder.tensors[short].dtype == short
            assert torch.equal(folder.dense(short), tensor.float())


def test_dense_is_the_callers_own(tmp_path: Path) -> None:
    folder = SafetensorsFolder(factory.write_hf(tmp_path / "m", "llama"))
    first = folder.dense("model.norm.weight")
    first.add_(1)
    assert not torch.equal(first, folder.dense("model.norm.weight"))
    assert folder.dense("model.norm.weight", torch.bfloat16).dtype == torch.bfloat16
    raw = folder.raw("model.norm.weight")
    assert raw.data_ptr() == folder.raw("model.norm.weight").data_ptr()
    copy = raw.clone()
    shutil.rmtree(folder.path)
    folder.close()
    assert torch.equal(raw, copy)


def test_data_at_odd_addresses_scalars_and_empty_tensors(tmp_path: Path) -> None:
    header = {
        "a": entry("U8", [1], [0, 1]),
        "b": entry("F32", [2], [1, 9]),
        "c": entry("F32", [], [9, 13]),
        "d": entry("F32", [3, 0, 2], [13, 13]),
        "__metadata__": {"note": "ü"},
    }
    data = b"\7" + struct.pack("<3f", 1, 2, 3)
    text = json.dumps(header).encode()
    for pad in range(4):
        with SafetensorsFolder(write(tmp_path / "m", text + b" " * pad, data)) as folder:
            assert folder.dense("b").tolist() == [1, 2]
            assert folder.dense("c").shape == () and folder.dense("c").item() == 3
            assert folder.dense("d").shape == (3, 0, 2)
            assert folder.metadata == {"note": "ü"}


def test_one_file_of_another_name(tmp_path: Path) -> None:
    folder = factory.write_hf(tmp_path / "m", "llama")
    (folder / "model.safetensors").rename(folder / "weights.safetensors")
    with SafetensorsFolder(folder) as opened:
        assert "lm_head.weight" in opened.tensors
    shutil.copy(folder / "weights.safetensors", folder / "other.safetensors")
    assert "no model.safetensors.index.json" in failure(folder).message


def test_identity_follows_files_and_config(tmp_path: Path) -> None:
    folder = factory.write_hf(tmp_path / "m", "llama", shards=2)

    def identity() -> str:
        for path in folder.iterdir():
            os.utime(path, ns=(10**18, 10**18))
        with SafetensorsFolder(folder) as opened:
            return opened.identity()

    before = identity()
    assert before == identity()
    config = folder / "config.json"
    config.write_text(config.read_text().replace("10000.0", "10001.0"))
    assert identity() != before


DAMAGED: dict[str, tuple[Any, bytes, str]] = {
    "not JSON": (b'{"t": ', b"", "not valid JSON"),
    "not UTF-8": (b'{"\xff": 1}', b"", "not valid JSON"),
    "not an object": ([1, 2], b"", "not a JSON object"),
    "nested too deeply": (b"[" * 8_000, b"", "nested too deeply"),
    "a number of many digits": (b'{"t": ' + b"9" * 10_000 + b"}", b"", "not valid JSON"),
    "key twice": (b'{"t": 1, "t": 2}', b"", "'t' comes twice"),
    "not a table": ({"t": 3}, b"", "'t'"),
    "metadata of numbers": ({"__metadata__": {"a": 1}}, b"", "__metadata__"),
    "no dtype": ({"t": {"shape": [], "data_offsets": [0, 4]}}, bytes(4), "no dtype"),
    "dtype a list": ({"t": entry(["F32"])}, bytes(8), "no dtype"),
    "unknown dtype": ({"t": entry("F4")}, bytes(8), "'F4'"),
    "shape missing": ({"t": {"dtype": "F32", "data_offsets": [0, 4]}}, bytes(4), "shape"),
    "shape of bools": ({"t": entry(shape=[True, 2])}, bytes(8), "shape"),
    "shape of floats": ({"t": entry(shape=[2.0])}, bytes(8), "shape"),
    "negative shape": ({"t": entry(shape=[-2])}, bytes(8), "shape"),
    "absurd shape": ({"t": entry(shape=[1 << 60])}, bytes(8), "absurd"),
    "absurd empty shape": ({"t": entry(shape=[1 << 60, 0], offsets=[0, 0])}, b"", "absurd"),
    "many dimensions": ({"t": entry(shape=[1] * 99)}, bytes(8), "shape"),
    "three offsets": ({"t": entry(offsets=[0, 4, 8])}, bytes(8), "data_offsets"),
    "offsets of bools": ({"t": entry(offsets=[False, 8])}, bytes(8), "data_offsets"),
    "offsets backwards": ({"t": entry(offsets=[8, 0])}, bytes(8), "data_offsets"),
    "absurd offsets": ({"t": entry(offsets=[1 << 80, (1 << 80) + 8])}, bytes(8), "data_offsets"),
    "offsets of another length": ({"t": entry(offsets=[0, 4])}, bytes(8), "takes 8 bytes"),
    "data cut off": ({"t": entry()}, bytes(7), "reaches"),
    "overlap": ({"t": entry(), "u": entry(offsets=[4, 12])}, bytes(12), "shares bytes"),
    "absurd name": ({"t" * 9999: entry()}, bytes(8), "absurdly long"),
}


@pytest.mark.parametrize("case", sorted(DAMAGED))
def test_one_line_that_names_the_place(tmp_path: Path, case: str) -> None:
    header, data, words = DAMAGED[case]
    folder = write(tmp_path / "m", header, data)
    tracemalloc.start()
    try:
        error = failure(folder)
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()
    assert words in str(error) and "model.safetensors" in str(error)
    assert isinstance(error, UnsupportedModelError) == (case == "unknown dtype")


@pytest.mark.parametrize("claimed", [3, 1 << 31, 1 << 60, (1 << 64) - 1])
def test_header_length_that_lies(tmp_path: Path, claimed: int) -> None:
    failure(write(tmp_path / "m", {"t": entry()}, bytes(8), claimed=claimed))


def test_header_larger_than_sense(tmp_path: Path) -> None:
    folder = write(tmp_path / "m", b"", claimed=40 << 20)
    os.truncate(folder / "model.safetensors", 41 << 20)
    assert "larger than" in failure(folder).message


def test_cut_off_anywhere(tmp_path: Path) -> None:
    folder = factory.write_hf(tmp_path / "m", "llama")
    path = folder / "model.safetensors"
    data = path.read_bytes()
    for size in [*range(0, 64, 5), *range(64, len(data), 7001), len(data) - 1]:
        path.write_bytes(data[:size])
        assert "model.safetensors" in failure(folder).message


def edit_index(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    path = folder / INDEX
    table = json.loads(path.read_text())
    change(table)
    path.write_text(json.dumps(table))


@pytest.mark.parametrize(
    "shard",
    [
        "../m/x.safetensors",
        "/etc/x.safetensors",
        "a\\x.safetensors",
        "x.bin",
        "..",
        "",
        "\0.safetensors",
    ],
)
def test_shards_stay_in_their_folder(tmp_path: Path, shard: str) -> None:
    folder = factory.write_hf(tmp_path / "m", "llama", shards=2)
    (folder / "x.bin").touch()
    edit_index(folder, lambda table: table["weight_map"].update({"model.norm.weight": shard}))
    assert "not a plain" in failure(folder).message


def test_missing_shard_and_missing_tensor(tmp_path: Path) -> None:
    folder = factory.write_hf(tmp_path / "m", "llama", shards=2)
    shard = "model-00002-of-00002.safetensors"
    edit_index(folder, lambda table: table["weight_map"].update({"extra": shard}))
    error = failure(folder)
    assert error.tensor == "extra" and shard in error.message
    (folder / shard).unlink()
    error = failure(folder)
    assert shard in error.message and "incomplete" in error.hint


@pytest.mark.parametrize(
    ("index", "words"),
    [
        ({}, "weight_map is missing"),
        ({"weight_map": {}}, "empty"),
        ({"weight_map": [1]}, "a table"),
        ({"weight_map": {"a\nb": 7}}, "text expected"),
    ],
)
def test_index_of_the_wrong_form(tmp_path: Path, index: Any, words: str) -> None:
    folder = factory.write_hf(tmp_path / "m", "llama", shards=2)
    (folder / INDEX).write_text(json.dumps(index))
    error = failure(folder)
    assert words in error.message and INDEX in error.message


@pytest.mark.parametrize("text", ["", "{", "[]", '{"a": 1, "a": 2}'])
def test_config_of_the_wrong_form(tmp_path: Path, text: str) -> None:
    folder = write(tmp_path / "m", {})
    (folder / "config.json").write_text(text, encoding="utf-8")
    assert "config.json" in failure(folder).message


def test_config_missing(tmp_path: Path) -> None:
    assert "config.json: is missing" in failure(tmp_path).message


def test_config_larger_than_sense(tmp_path: Path) -> None:
    folder = write(tmp_path / "m", {})
    os.truncate(folder / "config.json", (16 << 20) + 1)
    assert "larger than 16 MiB" in failure(folder).message


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_random_damage_never_escapes(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.getbasetemp() / "damaged"
    header = {"t": entry("F16", [2, 2]), "u": entry("U8", [3], [8, 11]), "__metadata__": {"a": "b"}}
    write(folder, header, bytes(11))
    path = folder / "model.safetensors"
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        offset = data.draw(st.integers(0, len(content) - 1))
        junk = data.draw(
            st.one_of(
                st.binary(min_size=1, max_size=6), st.sampled_from([b"9" * 9, b"-1", b"[", b"{}"])
            )
        )
        content[offset : offset + len(junk)] = junk
    path.write_bytes(content)
    try:
        opened = SafetensorsFolder(folder)
    except CheckpointError as error:
        assert "\n" not in str(error)
        return
    for name, found in opened.tensors.items():
        assert opened.dense(name).shape == found.shape
    opened.close()
