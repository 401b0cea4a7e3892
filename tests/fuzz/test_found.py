"""What the fuzzer found, each once."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fuzz_dense
import fuzz_seeds
import original_tokenizers
import pytest
import raw_gguf
from fuzz_measure import lay

from quantchat.checkpoints.gguf import GgufFile
from quantchat.checkpoints.room import FREE_BYTES
from quantchat.errors import CheckpointError, TokenizerError, UnsupportedModelError
from quantchat.model.families import open_model
from quantchat.tokenizer import from_folder
from quantchat.tokenizer.pipeline import check_pipeline

SIZE = 600_000


def peak_over(use: Callable[[], Any], size: int) -> int:
    """Bytes taken at most, beyond twice the size, until the error comes."""
    tracemalloc.start()
    try:
        with pytest.raises(CheckpointError):
            use()
        return tracemalloc.get_traced_memory()[1] - 2 * size
    finally:
        tracemalloc.stop()


def tokenizer(folder: Path, **changes: Any) -> Path:
    """A folder with a changed tokenizer.json."""
    table = fuzz_seeds.tokenizer_json("llama-bpe") | changes
    lay({"tokenizer.json": json.dumps(table).encode()}, folder)
    return folder


def sequence(key: str, steps: list[dict[str, Any]]) -> dict[str, Any]:
    return {"type": "Sequence", key: steps}


def test_messages_hold_no_control_characters_and_end() -> None:
    error = CheckpointError(Path("m\n.gguf"), "kind \x1b[31m\x00\u202e" + "x" * 9000, hint="a\tb")
    assert error.message.isprintable() and error.hint == "a\\tb"
    assert r"m\n.gguf: kind \x1b[31m\x00\u202exxx" in error.message and len(error.message) == 400


@pytest.mark.parametrize("shape", fuzz_dense.JSON)
def test_json_that_becomes_many_objects(shape: str, tmp_path: Path) -> None:
    header = fuzz_dense.JSON[shape](SIZE).encode()
    folder = tmp_path / "m"
    size = lay(
        {"config.json": b"{}", "model.safetensors": fuzz_seeds.with_header(header, b"")}, folder
    )
    assert peak_over(lambda: open_model(folder), size) < FREE_BYTES


ARRAYS = {
    "bytes": raw_gguf.array("k", 0, bytes(SIZE), count=SIZE),
    "empty texts": raw_gguf.array("k", 8, bytes(SIZE), count=SIZE // 8),
    "short texts": raw_gguf.array("k", 8, raw_gguf.text("abc") * (SIZE // 11), count=SIZE // 11),
    "floats": raw_gguf.array("k", 6, bytes(SIZE), count=SIZE // 4),
}


@pytest.mark.parametrize("name", ARRAYS)
def test_metadata_that_becomes_many_objects(name: str, tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(
        raw_gguf.file(keys=[ARRAYS[name]], tensors=[raw_gguf.tensor("t", [9], kind=77)])
    )
    assert peak_over(lambda: GgufFile(path), path.stat().st_size) < FREE_BYTES


def test_a_config_of_a_million_tensors(tmp_path: Path) -> None:
    config = fuzz_seeds.config_of("mixtral", num_hidden_layers=100, num_local_experts=300)
    sound = fuzz_seeds.family("mixtral")
    folder = tmp_path / "m"
    size = lay(sound | {"config.json": json.dumps(config).encode()}, folder)
    assert peak_over(lambda: open_model(folder), size) < FREE_BYTES


def test_a_token_far_beyond_all_others(tmp_path: Path) -> None:
    far = {"id": 1_900_000, "content": "<far>", "special": True, "single_word": False}
    far |= {"lstrip": False, "rstrip": False, "normalized": False}
    table = fuzz_seeds.tokenizer_json("llama-bpe")
    model = table["model"] | {"vocab": {**table["model"]["vocab"], "<far>": 1_900_000}}
    folder = tokenizer(tmp_path / "m", model=model, added_tokens=[*table["added_tokens"], far])
    with pytest.raises(TokenizerError, match="id 1900000"):
        from_folder(folder)


def test_panics_of_the_library_are_errors(tmp_path: Path) -> None:
    broken = {"type": "Precompiled"}
    with pytest.raises(TokenizerError, match="is not a tokenizer"):
        from_folder(tokenizer(tmp_path / "m", normalizer=broken))


BYTES = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
DOUBLE = {"type": "Replace", "pattern": {"String": "a"}, "content": "aa"}
SLOW = (r"(a+)+b", r"(?:\s*[a-z]*)*x", r"((\p{L}|\d)+)*$", r"(?>(?:a{2,})+)+", r"([^a]*,){2,}")


@pytest.mark.parametrize(
    "changes",
    [
        {"pre_tokenizer": sequence("pretokenizers", [BYTES] * 40)},
        {"normalizer": sequence("normalizers", [DOUBLE] * 30)},
        {"normalizer": sequence("normalizers", [sequence("normalizers", [DOUBLE] * 6)] * 6)},
        {"normalizer": {**DOUBLE, "content": "a" * 1000}},
        {"normalizer": {"type": "Prepend", "prepend": "a" * 1000}},
        *(
            {
                "pre_tokenizer": {
                    "type": "Split",
                    "pattern": {"Regex": pattern},
                    "behavior": "Isolated",
                    "invert": False,
                }
            }
            for pattern in (*SLOW, "a" * 5000)
        ),
    ],
)
def test_tokenizers_that_never_end(changes: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModelError, match=r"swell|forever"):
        from_folder(tokenizer(tmp_path / "m", **changes))


@pytest.mark.parametrize("pre", original_tokenizers.PUBLISHED)
def test_real_tokenizers_are_not_taken_for_such(pre: str) -> None:
    vocabulary = original_tokenizers.byte_level()
    check_pipeline(Path("m"), original_tokenizers.published(pre, vocabulary))


def test_a_conversion_with_an_id_beyond_all_others(tmp_path: Path) -> None:
    """transformers' conversion, written as JSON, would count up to the id."""
    table = fuzz_seeds.tokenizer_json("gpt-2")["model"]
    files = {
        "vocab.json": json.dumps(table["vocab"] | {"far": 2**31}).encode(),
        "merges.txt": b"#version: 0.2\n",
        "config.json": b'{"model_type": "gpt2"}',
        "tokenizer_config.json": b'{"tokenizer_class": "GPT2Tokenizer"}',
    }
    lay(files, tmp_path / "m")
    with pytest.raises(TokenizerError, match="id 2147483648"):
        from_folder(tmp_path / "m")
