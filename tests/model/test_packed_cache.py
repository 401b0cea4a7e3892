"""Packed weights on disk: the same back, whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from quantchat.model.packed_cache import KEEP_FILES, PackedCache
from quantchat.model.weights import Matrix, matrix_names
from quantchat.quant.rounding import int4_group, int8_channel
from quantchat.spec import DecoderSpec, RopeSpec

SPEC = DecoderSpec(
    architecture="llama",
    layers=2,
    hidden=64,
    heads=4,
    kv_heads=2,
    head_dim=16,
    intermediate=96,
    vocab=50,
    context=64,
    norm_eps=1e-5,
    rope=RopeSpec(theta=100.0, rotary_dim=16),
    activation="silu",
    attention_scale=0.25,
)
CPU = torch.device("cpu")


def matrices() -> list[tuple[str, Matrix]]:
    made: list[tuple[str, Matrix]] = []
    for i, (name, _, _) in enumerate(matrix_names(SPEC)):
        w = torch.randn(33 + i, 96)
        parts = (int4_group(w, 32),) if i % 2 else (int8_channel(w), int4_group(w, 32))
        made.append((name, Matrix(parts, torch.randn(33 + i) if i == 3 else None)))
    made.append(("head", Matrix((int8_channel(torch.randn(50, 64)),), None)))
    return made


def write(cache: PackedCache) -> list[tuple[str, Matrix]]:
    writer = cache.writer(1 << 20)
    assert writer is not None
    made = matrices()
    for name, matrix in made:
        writer.add(name, matrix)
    writer.commit()
    return made


def test_what_is_written_is_read_and_begins_at_cache_lines(tmp_path: Path) -> None:
    cache = PackedCache(tmp_path, "abc", "int4", 32)
    made = write(cache)
    reader = cache.open(CPU)
    assert reader is not None
    for (name, matrix), (wanted, original) in zip(
        reader.matrices(SPEC, lambda _: None), made, strict=True
    ):
        assert name == wanted and len(matrix.parts) == len(original.parts)
        assert (matrix.bias is None) == (original.bias is None)
        for a, b in zip(matrix.parts, original.parts, strict=True):
            for key, tensor in a.tensors().items():
                assert torch.equal(tensor, b.tensors()[key])
                assert tensor.data_ptr() % 64 == 0


@pytest.mark.parametrize("size", [0, 7, 100, (1 << 20) + 50])
def test_a_file_that_is_cut_off_is_removed(tmp_path: Path, size: int) -> None:
    cache = PackedCache(tmp_path, "abc", "int4", 32)
    write(cache)
    cache.path.write_bytes(cache.path.read_bytes()[:size])
    assert cache.open(CPU) is None
    assert not cache.path.exists()


def test_a_given_up_draft_leaves_nothing(tmp_path: Path) -> None:
    cache = PackedCache(tmp_path, "abc", "int4", 32)
    writer = cache.writer(1 << 20)
    assert writer is not None
    writer.add(*matrices()[0])
    writer.discard()
    assert list(tmp_path.iterdir()) == []
    assert cache.open(CPU) is None


def test_no_room_means_no_file(tmp_path: Path) -> None:
    assert PackedCache(tmp_path, "abc", "int4", 32).writer(1 << 60) is None


def test_keys_keep_models_schemes_and_groups_apart(tmp_path: Path) -> None:
    paths = {
        PackedCache(tmp_path, identity, scheme, group).path
        for identity in ("a", "b")
        for scheme in ("int4", "int8")
        for group in (32, 64)
    }
    assert len(paths) == 8


def test_the_oldest_go(tmp_path: Path) -> None:
    for i in range(KEEP_FILES + 3):
        write(PackedCache(tmp_path, f"model{i}", "int4", 32))
    assert len(list(tmp_path.iterdir())) == KEEP_FILES
