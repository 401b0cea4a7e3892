"""What a sound GGUF file gives, against the hands of the gguf package."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import factory
import numpy as np
import pytest
import raw_gguf
import tiny_tokenizer
import torch
from ggml_quantize import PACKERS

from quantchat.checkpoints.detect import open_checkpoint
from quantchat.checkpoints.gguf import GgufFile
from quantchat.errors import CheckpointError


@pytest.mark.parametrize("family", factory.GGUF_FAMILIES)
def test_every_tensor_is_the_models(tmp_path: Path, family: str) -> None:
    path = factory.write_gguf(tmp_path / "m.gguf", family, seed=3)
    model = factory.build_model(family, seed=3)
    expected = model.state_dict()
    with GgufFile(path) as file:
        assert file.container == "gguf" and file.version == 3
        assert torch.equal(file.dense("token_embd.weight"), expected["model.embed_tokens.weight"])
        assert ("output.weight" in file.tensors) != model.config.tie_word_embeddings
        down = file.tensors["blk.1.ffn_down.weight"]
        assert down.shape == (64, 96) and down.dtype == "F32" and down.nbytes == 64 * 96 * 4
        query = file.dense("blk.0.attn_q.weight")
        wanted = expected["model.layers.0.self_attn.q_proj.weight"]
        if family.startswith("qwen"):
            assert torch.equal(query, wanted)
        else:
            back = query.reshape(4, 8, 2, 64).transpose(1, 2).reshape(64, 64)
            assert torch.equal(back, wanted) and not torch.equal(query, wanted)


@pytest.mark.parametrize("name", ["F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", *PACKERS])
def test_every_type_comes_back_close(tmp_path: Path, name: str) -> None:
    width = 256 if name.endswith(("_K", "_XS")) else 96
    path = factory.write_gguf(
        tmp_path / "m.gguf", "llama", tensor_type=name, intermediate_size=width
    )
    wanted = factory.build_model("llama", intermediate_size=width).state_dict()
    with GgufFile(path) as file:
        entry = file.tensors["blk.0.ffn_down.weight"]
        assert entry.dtype == name
        got = file.dense(entry.name)
        expected = wanted["model.layers.0.mlp.down_proj.weight"]
        error = ((got - expected).square().mean() / expected.square().mean()).sqrt()
        limit = {"F16": 1e-3, "BF16": 4e-3, "Q8_0": 0.01, "Q2_K": 0.45, "Q3_K": 0.25}
        assert 0 < error < limit.get(name, 0.12)
        assert file.raw(entry.name).numel() == entry.nbytes
        assert file.dense(entry.name, torch.bfloat16).dtype == torch.bfloat16


def test_metadata_by_type(tmp_path: Path) -> None:
    with GgufFile(factory.write_gguf(tmp_path / "m.gguf", "llama3")) as file:
        facts = file.metadata
        assert facts.text("general.architecture") == "llama"
        assert facts.integer("llama.block_count") == 2
        assert facts.number("llama.rope.freq_base") == 500000.0
        assert facts.flag("tokenizer.ggml.add_bos_token") is False
        tokens = facts.texts("tokenizer.ggml.tokens")
        assert len(tokens) == 352 and tokens[0] == tiny_tokenizer.BOS
        assert len(facts.integers("tokenizer.ggml.token_type")) == 352
        assert facts.text("tokenizer.chat_template") == tiny_tokenizer.CHAT_TEMPLATE
        assert torch.equal(
            file.dense("rope_freqs.weight"),
            torch.from_numpy(factory.llama3_factors(factory.build_model("llama3").config)),
        )


def test_every_value_type_and_version_2(tmp_path: Path) -> None:
    numbers = {0: ("B", 200), 1: ("b", -3), 2: ("H", 60000), 3: ("h", -300), 4: ("I", 1 << 31)}
    numbers |= {
        5: ("i", -5),
        6: ("f", 0.5),
        10: ("Q", 1 << 63),
        11: ("q", -(1 << 62)),
        12: ("d", 0.1),
    }
    keys = [
        raw_gguf.key(f"k{kind}", kind, struct.pack("<" + code, value))
        for kind, (code, value) in numbers.items()
    ]
    keys += [
        raw_gguf.array(f"a{kind}", kind, struct.pack("<2" + code, value, value), count=2)
        for kind, (code, value) in numbers.items()
    ]
    keys += [
        raw_gguf.key("yes", 7, b"\1"),
        raw_gguf.array("flags", 7, b"\1\0", count=2),
        raw_gguf.string("text", "naïve 東京"),
        raw_gguf.string("empty", ""),
        raw_gguf.array(
            "texts", 8, raw_gguf.text("a") + raw_gguf.text("") + raw_gguf.text("é"), count=3
        ),
        raw_gguf.array("none", 8, b"", count=0),
    ]
    path = tmp_path / "m.gguf"
    path.write_bytes(raw_gguf.file(keys=keys, version=2))
    with GgufFile(path) as file:
        for kind, (_, value) in numbers.items():
            assert file.metadata[f"k{kind}"] == value
            assert list(file.metadata[f"a{kind}"]) == [value, value]
        assert file.metadata["yes"] is True and list(file.metadata["flags"]) == [1, 0]
        assert file.metadata["text"] == "naïve 東京" and file.metadata["empty"] == ""
        assert file.metadata["texts"] == ["a", "", "é"] and file.metadata["none"] == []
        assert file.version == 2 and not file.tensors


@pytest.mark.parametrize("alignment", [1, 8, 64, 4096])
def test_alignment_moves_the_data(tmp_path: Path, alignment: int) -> None:
    values = np.arange(3, dtype=np.float32)
    path = tmp_path / "m.gguf"
    path.write_bytes(
        raw_gguf.file(
            keys=[raw_gguf.u32("general.alignment", alignment)],
            tensors=[raw_gguf.tensor("abc", [3])],
            data=values.tobytes(),
            alignment=alignment,
        )
    )
    with GgufFile(path) as file:
        assert file.tensors["abc"].offset % alignment == 0
        assert torch.equal(file.dense("abc"), torch.from_numpy(values))


def test_raw_is_a_view_that_outlives_close_and_the_file(tmp_path: Path) -> None:
    path = factory.write_gguf(tmp_path / "m.gguf", "llama")
    file = GgufFile(path)
    first, again = file.raw("token_embd.weight"), file.raw("token_embd.weight")
    assert first.data_ptr() == again.data_ptr() and first.dtype == torch.uint8
    copy = first.clone()
    dense = file.dense("output_norm.weight")
    dense.add_(1)
    assert not torch.equal(dense, file.dense("output_norm.weight"))
    path.unlink()
    file.close()
    file.close()
    assert torch.equal(first, copy)


def test_identity_follows_the_file(tmp_path: Path) -> None:
    def identity(path: Path) -> str:
        with GgufFile(path) as file:
            return file.identity()

    path = factory.write_gguf(tmp_path / "m.gguf", "llama")
    os.utime(path, ns=(10**18, 10**18))
    before = identity(path)
    assert identity(path) == before and len(before) == 20
    os.utime(path, ns=(10**18, 10**18 + 1))
    assert identity(path) != before
    os.utime(path, ns=(10**18, 10**18))
    data = path.read_bytes()
    factory.patch(path, data.index(b"tiny"), b"tinx")
    os.utime(path, ns=(10**18, 10**18))
    assert identity(path) != before


def test_a_split_model_is_the_whole_one(tmp_path: Path) -> None:
    """Parts as the gguf package writes them; named by any part or by the folder."""
    whole = factory.write_gguf(tmp_path / "whole.gguf", "qwen3", tensor_type="Q4_1")
    folder = tmp_path / "parts"
    folder.mkdir()
    first = factory.write_gguf(
        folder / "m.gguf", "qwen3", tensor_type="Q4_1", tokenizer=False, part_tensors=9
    )
    assert first.name.startswith("m-00001-of-0000") and len(list(folder.iterdir())) > 2
    identities = set()
    for named in (first, max(folder.iterdir()), folder):
        with open_checkpoint(named) as parts, GgufFile(whole) as wanted:
            assert isinstance(parts, GgufFile)
            assert parts.path == first and set(parts.tensors) == set(wanted.tensors)
            assert parts.metadata.text("general.architecture") == "qwen3"
            for name in wanted.tensors:
                assert torch.equal(parts.raw(name), wanted.raw(name)), name
            identities.add(parts.identity())
    assert len(identities) == 1
    last = max(folder.iterdir())
    os.utime(last, ns=(10**18, 10**18))
    with GgufFile(first) as parts:
        assert parts.identity() not in identities


def part(number: int, count: int, *tensors: str, told: int = 2) -> bytes:
    keys = [
        raw_gguf.key("split.no", 2, struct.pack("<H", number)),
        raw_gguf.key("split.count", 2, struct.pack("<H", count)),
        raw_gguf.key("split.tensors.count", 5, struct.pack("<i", told)),
    ]
    described = [raw_gguf.tensor(name, [8], offset=32 * i) for i, name in enumerate(tensors)]
    return raw_gguf.file(keys=keys, tensors=described, data=bytes(32 * len(tensors)))


@pytest.mark.parametrize(
    ("parts", "problem"),
    [
        ({1: part(0, 2, "a")}, "m-00002-of-00002.gguf is not beside it"),
        ({1: part(0, 2, "a"), 2: part(0, 2, "b")}, "says that it is part 1 of 2"),
        ({1: part(0, 2, "a"), 2: part(1, 3, "b")}, "says that it is part 2 of 3"),
        ({1: part(0, 2, "a"), 2: part(1, 2, "a")}, "is in m-00001-of-00002.gguf too"),
        ({1: part(0, 2, "a"), 2: part(1, 2)}, "says 2 tensors, its parts hold 1"),
        ({1: part(0, 3, "a"), 2: part(1, 3, "b")}, "is one of 3 parts .* name does not say"),
    ],
)
def test_parts_that_are_no_model(parts: dict[int, bytes], problem: str, tmp_path: Path) -> None:
    for number, data in parts.items():
        (tmp_path / f"m-{number:05d}-of-00002.gguf").write_bytes(data)
    with pytest.raises(CheckpointError, match=problem):
        GgufFile(tmp_path / "m-00001-of-00002.gguf")


def test_a_part_under_another_name_says_so(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(part(0, 2, "a"))
    with pytest.raises(CheckpointError, match="one of 2 parts of a model, which its name"):
        GgufFile(path)
