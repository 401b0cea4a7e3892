"""What is read while torch is imported: the files that the load will read, and no other."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import factory
import pytest
from machines import machine

from quantchat import paths
from quantchat.engine.loading import SharedDecoders, load_model
from quantchat.engine.read_ahead import files_of, read_ahead
from quantchat.requests import LoadRequest


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return factory.write_hf(tmp_path_factory.mktemp("tiny"), "llama", shards=2)


def test_the_models_own_files_where_nothing_is_packed(tiny: Path) -> None:
    shards = sorted(tiny.glob("*.safetensors"))
    assert len(shards) == 2
    for scheme in ("fp16", "int4"):
        assert files_of(LoadRequest(model=str(tiny), scheme=scheme), machine()) == shards


def test_the_packed_file_that_the_load_reads(tiny: Path) -> None:
    wish = LoadRequest(model=str(tiny), scheme="int4", device="cpu")
    load_model(wish, lambda *_: None, lambda: False, SharedDecoders.empty())
    (packed,) = paths.packed_dir().glob("*.safetensors")
    assert files_of(wish, machine()) == [packed]
    assert read_ahead(wish, lambda: False) == packed.stat().st_size
    assert read_ahead(wish, lambda: True) == 0
    other = LoadRequest(model=str(tiny), scheme="int8", device="cpu")
    assert packed not in files_of(other, machine())
    # A card's file has another layout.
    on_card = LoadRequest(model=str(tiny), scheme="int4", device="cuda")
    assert packed not in files_of(on_card, machine("H100"))


def test_trouble_is_left_to_the_load(tmp_path: Path) -> None:
    assert read_ahead(LoadRequest(model=str(tmp_path / "gone")), lambda: False) == 0
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF")
    assert read_ahead(LoadRequest(model=str(broken)), lambda: False) == 0


def test_it_needs_no_torch() -> None:
    code = "import sys, quantchat.engine.read_ahead; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
