"""GGUF models in several parts, by name, path, folder and in the Hugging Face cache."""

from __future__ import annotations

from pathlib import Path

import pytest

from quantchat.errors import ModelNotFoundError
from quantchat.hub.hf_cache import scan
from quantchat.hub.local import resolve
from quantchat.hub.names import parse_hub_name
from quantchat.hub.splits import first_part, split_parts, without_later_parts

NAMES = [f"m-Q4-0000{n}-of-00003.gguf" for n in (1, 2, 3)]


def test_names_of_parts() -> None:
    assert split_parts(NAMES[1]) == tuple(NAMES)
    assert first_part(f"q4/{NAMES[2]}") == f"q4/{NAMES[0]}"
    for name in ("m.gguf", "m-00004-of-00003.gguf", "m-00001-of-00001.gguf", "m-1-of-2.gguf"):
        assert split_parts(name) == () and first_part(name) == name
    assert split_parts("m-00001-of-99999.gguf") == ()
    assert without_later_parts([*NAMES, "b.gguf"]) == ["b.gguf", NAMES[0]]
    assert without_later_parts(NAMES[:2]) == []
    named = parse_hub_name(f"own/split:{NAMES[1]}")
    assert named is not None and named.file == NAMES[0]


def test_any_part_and_the_folder_mean_the_model(tmp_path: Path) -> None:
    for number, name in enumerate(NAMES):
        (tmp_path / name).write_bytes(b"GGUF" + b"x" * number)
    for text in (str(tmp_path), str(tmp_path / NAMES[1])):
        model = resolve(text)
        assert (model.path, model.size_bytes) == (tmp_path / NAMES[0], 15)
    (tmp_path / NAMES[2]).unlink()
    with pytest.raises(ModelNotFoundError, match=f"3 parts of a model, and {NAMES[2]} is not"):
        resolve(str(tmp_path / NAMES[0]))


def test_cache_shows_a_split_model_once(tmp_path: Path) -> None:
    snapshot = tmp_path / "hf-cache" / "models--own--split" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    for name in NAMES:
        (snapshot / name).write_bytes(b"GGUF")
    assert [(model.file, model.size_bytes) for model in scan()] == [(NAMES[0], 12)]
    (snapshot / NAMES[1]).unlink()
    assert scan() == []


def test_what_lies_beside_a_model_is_no_model() -> None:
    beside = ["mmproj-F16.gguf", "sub/imatrix_own.gguf", "M-7B.imatrix.gguf", "M-7B-imatrix.gguf"]
    models = ["M-7B-Q4_K_M-imatrix.gguf", "M.gguf", "M.imatrix.Q4_K_M.gguf"]
    assert without_later_parts([*beside, *models]) == sorted(models)
