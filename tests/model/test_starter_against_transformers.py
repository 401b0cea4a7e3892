"""The starter model against transformers on its own dequantised weights, in float32."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from decoders import float32_decoder, logits_in_chunks, make_pool

from quantchat.evals.divergence import compare, summarize
from quantchat.evals.logprobs import log_softmax
from quantchat.model.families import ModelSource, open_model
from quantchat.model.names import HUGGING_FACE, tensor_names
from quantchat.tokenizer import from_gguf

POSITIONS = 512
PROSE = Path(__file__).parent.parent / "data" / "prose.txt"


def transformers_model(source: ModelSource) -> Any:
    """A LlamaForCausalLM with the file's weights; q and k rows in transformers' own order."""
    import transformers

    spec = source.spec
    config = transformers.LlamaConfig(
        vocab_size=spec.vocab,
        hidden_size=spec.hidden,
        intermediate_size=spec.intermediate,
        num_hidden_layers=spec.layers,
        num_attention_heads=spec.heads,
        num_key_value_heads=spec.kv_heads,
        head_dim=spec.head_dim,
        max_position_embeddings=spec.context,
        rms_norm_eps=spec.norm_eps,
        rope_parameters={"rope_type": "default", "rope_theta": spec.rope.theta},
        tie_word_embeddings=True,
    )
    theirs = tensor_names(spec, HUGGING_FACE)
    weights = {}
    for ours, stored in source.names.items():
        values = source.checkpoint.dense(stored)
        if ours.endswith((".q", ".k")):
            pairs = values.view(-1, spec.head_dim // 2, 2, spec.hidden)
            values = pairs.swapaxes(1, 2).reshape(values.shape)
        weights[theirs[ours]] = values
    weights["lm_head.weight"] = weights[theirs["embed"]]
    model = transformers.LlamaForCausalLM(config).float().eval()
    model.load_state_dict(weights)
    return model


@pytest.mark.starter
@pytest.mark.slow
@torch.inference_mode()
def test_same_distribution_at_512_positions(starter_path: Path) -> None:
    source = open_model(starter_path)
    try:
        tokenizer = from_gguf(source.checkpoint)
        ids = tokenizer.encode(PROSE.read_text("utf-8"), add_bos=False)[: POSITIONS + 1]
        assert len(ids) == POSITIONS + 1
        model = transformers_model(source)
    finally:
        source.close()
    wanted = model(torch.tensor([ids[:-1]]), use_cache=False).logits[0]
    del model
    decoder = float32_decoder(starter_path, context_tokens=POSITIONS)
    pool = make_pool(decoder, pages=20, page_tokens=32)
    pages = (4, 2, 9, 13, 7, 1, 5, 3, 8, 6, 19, 11, 10, 18, 12, 17)
    ours = logits_in_chunks(decoder, pool, ids, pages, (200, 456, 480, *range(481, 513)))
    divergence = summarize(compare(log_softmax(wanted), log_softmax(ours), torch.tensor(ids[1:])))
    assert divergence.positions == POSITIONS
    assert divergence.kl_mean.value < 1e-6
    assert divergence.kl_max < 1e-6
    assert divergence.same_top.value == 1
