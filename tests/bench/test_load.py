"""Loads that are watched: what was read, from where, with what memory; and what is told of them."""

import json
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
import torch
from bench_subjects import TINY
from click.testing import CliRunner

from quantchat import paths
from quantchat.bench import load, one_load, random_folder, random_model
from quantchat.bench.one_load import HostMemory, watched
from quantchat.cli.bench import command
from quantchat.errors import QuantchatError
from quantchat.model.families import open_model
from quantchat.requests import LoadRequest
from quantchat.shapes import SHAPES

MIB = 2**20


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(random_model, "SHAPES", MappingProxyType({**SHAPES, "tiny": TINY}))
    monkeypatch.setattr(random_folder, "SHARD_BYTES", TINY.parameters)
    monkeypatch.setattr(one_load, "CACHE_BYTES", 64 * MIB)
    return random_folder.filled_folder("tiny")


def test_the_folder_is_in_files_as_a_models_are(tiny: Path) -> None:
    shards = sorted(tiny.glob("*.safetensors"))
    assert len(shards) > 1 and shards[0].name.startswith("model-00001-of-")
    source = open_model(tiny)
    try:
        assert source.spec == TINY
        values = source.checkpoint.dense(source.names["embed"])
        assert values.std() == pytest.approx(0.02, rel=0.05) and bool(values.isfinite().all())
        before = source.checkpoint.identity()
    finally:
        source.close()
    assert random_folder.filled_folder("tiny") == tiny
    source = open_model(tiny)
    source.close()
    assert source.checkpoint.identity() == before


def test_a_load_tells_what_it_read_and_from_where(tiny: Path) -> None:
    request = LoadRequest(model=str(tiny), scheme="int4", device="cpu")
    first = json.loads(json.dumps(watched(request, fresh=False)))
    assert not first["from_packed"] and first["read_bytes"] >= 2 * TINY.parameters
    (packed,) = paths.packed_dir().glob("*.safetensors")
    second = watched(request, fresh=False)
    assert second["from_packed"] and second["read_bytes"] == packed.stat().st_size
    assert second["shard_bytes"] == packed.stat().st_size
    assert {"read", "warm"} <= {phase for phase, _ in second["phases"]}
    again = watched(request, fresh=True)
    assert not again["from_packed"] and packed.is_file()
    for one in (first, second, again):
        assert 0 < one["weights_s"] <= one["total_s"]
        assert one["cache_bytes_per_s"] > 0 and one["link_bytes_per_s"] is None
        assert one["peak_bytes"] >= max(one["before_bytes"], one["after_bytes"])


def test_memory_that_is_no_files_is_seen() -> None:
    with HostMemory() as memory:
        block = torch.ones(64 * MIB, dtype=torch.uint8)
        memory._over.wait(0.2)
        del block
    assert memory.peak_bytes - memory.before_bytes >= 60 * MIB


def one(seconds: float, **changes: Any) -> dict[str, Any]:
    return {
        "scheme": "16-bit",
        "device": "cuda",
        "device_name": "a card",
        "weight_bytes": 2**30,
        "from_packed": False,
        "reasons": [],
        "read_bytes": 20 * 10**9,
        "shard_bytes": 2**30,
        "cache_bytes_per_s": 40e9,
        "link_bytes_per_s": 20e9,
        "weights_s": seconds,
        "total_s": seconds + 1,
        "phases": [["read", seconds], ["warm", 0.5]],
        "before_bytes": 100 * MIB,
        "peak_bytes": 400 * MIB,
        "after_bytes": 150 * MIB,
        **changes,
    }


def test_the_command_holds_speed_against_the_slower(monkeypatch: pytest.MonkeyPatch) -> None:
    took = iter([9.0, 1.0, 2.0, 4.0])
    asked: list[bool] = []

    def take(request: dict[str, str], *, fresh: bool) -> dict[str, Any]:
        asked.append(fresh)
        return one(next(took))

    monkeypatch.setattr(load, "_load", take)
    words = ["load", "-m", "x", "--runs", "3", "--fresh"]
    done = CliRunner().invoke(command, words, catch_exceptions=False)
    record = json.loads(done.stdout.strip().splitlines()[-1])
    assert asked == [True] * 4
    assert record["benchmark"] == "load" and record["weights_s"]["median"] == 2.0
    assert record["bytes_per_s"] == 10e9 and record["share"] == 0.5
    assert record["passing_bytes"] == 250 * MIB and record["kept_bytes"] == 50 * MIB
    assert "10.0 GB/s, 50 % of the slower" in done.stdout
    assert "0.76 GiB below the largest file of 1.00 GiB" in done.stdout


def test_on_the_cpu_files_alone_are_the_limit() -> None:
    report = load.report_of("x", [one(1.0, link_bytes_per_s=None, device="cpu")])
    assert report.share == 0.5 and report.link_bytes_per_s is None


def test_a_load_that_fails_says_why(tmp_path: Path) -> None:
    request = {"model": str(tmp_path / "none.gguf"), "scheme": "int4", "device": "cpu"}
    with pytest.raises(QuantchatError, match="none"):
        load._load(request, fresh=False)
