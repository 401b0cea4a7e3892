"""On a card: what comes back from the disk takes the memory that it took when it was made."""

from __future__ import annotations

import gc
from pathlib import Path

import factory
import pytest
import torch

from quantchat import paths
from quantchat.engine.loading import SharedDecoders, load_model
from quantchat.requests import LoadRequest

pytestmark = pytest.mark.gpu
SHAPE = {
    "hidden_size": 256,
    "moe_intermediate_size": 256,
    "num_experts": 16,
    "num_hidden_layers": 4,
    "mlp_only_layers": [],
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 64,
}


@torch.inference_mode()
def test_experts_read_back_take_their_memory_once(tmp_path: Path) -> None:
    path = factory.write_hf(tmp_path / "m", "qwen3moe", **SHAPE)
    request = LoadRequest(model=str(path), device="cuda", scheme="int4", context_tokens=128)
    taken: list[int] = []
    weights = 0
    for cached in (False, False, True):
        if not cached:
            for kept in paths.packed_dir().iterdir():
                kept.unlink()
        gc.collect()
        torch.cuda.empty_cache()
        before = torch.cuda.memory_allocated()
        model = load_model(request, lambda *_: None, lambda: False, SharedDecoders.empty())
        assert ("packed weights from the cache" in model.info.reasons) == cached
        weights = model.decoder.weight_bytes
        gc.collect()
        taken.append(torch.cuda.memory_allocated() - before)
        del model
    assert weights > 6 << 20
    # The first load leaves what libraries keep.
    assert taken[2] <= taken[1] + weights // 4, taken
