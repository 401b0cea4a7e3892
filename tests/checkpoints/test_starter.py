"""The real starter model: what it holds, that decoding is right, and that reading is quick."""

from __future__ import annotations

import time
from pathlib import Path

import gguf
import pytest
import torch

from quantchat.checkpoints.gguf import GgufFile

pytestmark = pytest.mark.starter


def test_facts_and_tensors(starter_path: Path) -> None:
    started_s = time.thread_time()
    file = GgufFile(starter_path)
    # 0.04 s where it was measured; the gguf package takes 5.7 s.
    assert time.thread_time() - started_s < 0.5
    facts = file.metadata
    assert facts.text("general.architecture") == "llama"
    assert facts.integer("llama.block_count") == 30
    assert facts.text("tokenizer.ggml.pre") == "smollm"
    assert len(facts.texts("tokenizer.ggml.tokens")) == 49152
    assert len(facts.texts("tokenizer.ggml.merges")) == 48900
    assert file.tensors["token_embd.weight"].shape == (49152, 576)
    kinds = [entry.dtype for entry in file.tensors.values()]
    assert {kind: kinds.count(kind) for kind in kinds} == {"Q8_0": 1, "Q4_1": 210, "F32": 61}
    file.close()


@pytest.mark.parametrize(
    "name", ["blk.0.attn_q.weight", "blk.29.ffn_down.weight", "blk.7.ffn_norm.weight"]
)
def test_decoding_equals_gguf(starter_path: Path, name: str) -> None:
    with GgufFile(starter_path) as file:
        entry = file.tensors[name]
        kind = gguf.GGMLQuantizationType[entry.dtype]
        expected = gguf.quants.dequantize(file.raw(name).numpy(), kind)
        assert torch.equal(file.dense(name), torch.from_numpy(expected).reshape(entry.shape))
