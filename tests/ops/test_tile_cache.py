"""The file of tuned tiles: there and back, and everything that may be wrong with it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("triton")

from quantchat.kernels.linear.tiles import (
    LinearShape,
    Tile,
    candidates,
    forget_installed,
    install,
    on_trial,
    origin,
    shipped,
    tile_for,
)

from quantchat.ops.tile_cache import (
    MAX_BYTES,
    MAX_ENTRIES,
    CardKey,
    read_tiles,
    store_tiles,
)

KEY = CardKey(card="NVIDIA GeForce RTX 4090", sm=89, triton="3.6.0")
SHAPE = LinearShape(
    code="int8", group_size=0, outputs=6144, columns=4096, gated=False, one_row=True
)
SHIPPED = LinearShape(
    code="int4", group_size=128, outputs=4096, columns=4096, gated=False, one_row=True
)


@pytest.fixture(autouse=True)
def nothing_installed() -> Iterator[None]:
    forget_installed()
    yield
    forget_installed()


def other_tile(shape: LinearShape, sm: int) -> Tile:
    return next(tile for tile in candidates(shape, sm) if tile != tile_for(shape, sm))


def test_there_and_back(tmp_path: Path) -> None:
    several = replace(SHAPE, one_row=False, gated=True)
    first = {SHAPE: candidates(SHAPE, 89)[1]}
    second = {several: candidates(several, 89)[2], SHAPE: candidates(SHAPE, 89)[0]}
    assert read_tiles(KEY, tmp_path) == {}
    store_tiles(KEY, tmp_path, first)
    assert read_tiles(KEY, tmp_path) == first
    store_tiles(KEY, tmp_path, second)
    assert read_tiles(KEY, tmp_path) == second
    assert [path.name for path in tmp_path.iterdir()] == [
        "nvidia-geforce-rtx-4090-sm89-triton-3.6.0-form1.json"
    ]


@pytest.mark.parametrize(
    "change", [{"card": "NVIDIA L4"}, {"sm": 86}, {"triton": "3.9.0"}, {"form": 99}]
)
def test_other_cards_and_versions_see_nothing(tmp_path: Path, change: dict[str, Any]) -> None:
    store_tiles(KEY, tmp_path, {SHAPE: candidates(SHAPE, 89)[1]})
    other = replace(KEY, **change)
    assert read_tiles(other, tmp_path) == {}
    os.rename(tmp_path / KEY.file_name, tmp_path / other.file_name)
    assert read_tiles(other, tmp_path) == {}


def test_names_of_cards_are_no_paths(tmp_path: Path) -> None:
    key = replace(KEY, card="../../etc/x\0" + "long " * 99)
    assert "/" not in key.file_name and "\0" not in key.file_name and len(key.file_name) < 200
    store_tiles(key, tmp_path, {SHAPE: candidates(SHAPE, 89)[1]})
    assert len(read_tiles(key, tmp_path)) == 1


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff\xfe",
        b"[]",
        b"[" * 100_000,
        b'{"key": {}, "tiles": 7}',
        b'"' + b"x" * MAX_BYTES + b'"',
    ],
    ids=["empty", "bytes", "list", "deep", "other key", "long"],
)
def test_damaged_files_count_as_empty_and_are_written_anew(tmp_path: Path, data: bytes) -> None:
    (tmp_path / KEY.file_name).write_bytes(data)
    assert read_tiles(KEY, tmp_path) == {}
    fresh = {SHAPE: candidates(SHAPE, 89)[1]}
    store_tiles(KEY, tmp_path, fresh)
    assert read_tiles(KEY, tmp_path) == fresh


@pytest.mark.parametrize(
    ("part", "change"),
    [
        ("shape", {"code": "int3"}),
        ("shape", {"code": ["int8"]}),
        ("shape", {"group_size": 7}),
        ("shape", {"outputs": 0}),
        ("shape", {"columns": -4096}),
        ("shape", {"columns": 2**70}),
        ("shape", {"gated": 1}),
        ("shape", {"one_row": None}),
        ("tile", {"warps": 3}),
        ("tile", {"warps": True}),
        ("tile", {"stages": 64}),
        ("tile", {"blocks": "4"}),
        ("tile", {"programs": 7}),
    ],
)
def test_entries_that_nobody_would_try_are_left_out(
    tmp_path: Path, part: str, change: dict[str, object]
) -> None:
    good = {"shape": asdict(SHAPE), "tile": asdict(candidates(SHAPE, 89)[1])}
    bad = {**good, part: {**good[part], **change}}
    entries = [bad, "x", None, {}, {"shape": good["shape"]}]
    path = tmp_path / KEY.file_name
    path.write_text(json.dumps({"key": asdict(KEY), "tiles": entries}))
    assert read_tiles(KEY, tmp_path) == {}
    path.write_text(json.dumps({"key": asdict(KEY), "tiles": [*entries, good]}))
    assert read_tiles(KEY, tmp_path) == {SHAPE: candidates(SHAPE, 89)[1]}


def test_the_file_does_not_grow_without_end(tmp_path: Path) -> None:
    many = {replace(SHAPE, outputs=16 * n): candidates(SHAPE, 89)[0] for n in range(1, 2100)}
    store_tiles(KEY, tmp_path, many)
    kept = read_tiles(KEY, tmp_path)
    assert len(kept) == MAX_ENTRIES
    assert replace(SHAPE, outputs=16 * 2099) in kept and replace(SHAPE, outputs=16) not in kept


def test_a_folder_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    store_tiles(KEY, tmp_path / "missing", {SHAPE: candidates(SHAPE, 89)[1]})
    (tmp_path / KEY.file_name).mkdir()
    store_tiles(KEY, tmp_path, {SHAPE: candidates(SHAPE, 89)[1]})
    assert read_tiles(KEY, tmp_path) == {}
    assert [path.name for path in tmp_path.iterdir()] == [KEY.file_name]


def test_measured_goes_before_shipped_and_shipped_before_the_rule() -> None:
    assert (origin(SHIPPED, 90), origin(SHIPPED, 89)) == ("shipped", "rule")
    assert tile_for(SHIPPED, 90) == shipped(SHIPPED, 90)
    assert tile_for(SHIPPED, 89) == candidates(SHIPPED, 89)[0]
    measured = other_tile(SHIPPED, 90)
    install(90, {SHIPPED: measured})
    assert (tile_for(SHIPPED, 90), origin(SHIPPED, 90)) == (measured, "measured")
    assert origin(SHIPPED, 89) == "rule"


def test_a_trial_is_over_when_it_is_left() -> None:
    before, tried = tile_for(SHAPE, 89), other_tile(SHAPE, 89)
    with pytest.raises(ValueError, match="stop"), on_trial({SHAPE: tried}):
        assert tile_for(SHAPE, 89) == tried
        raise ValueError("stop")
    assert tile_for(SHAPE, 89) == before
