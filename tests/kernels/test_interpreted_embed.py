"""The start of a step, interpreted: rows, the first norm's inputs and slots against torch."""

from __future__ import annotations

import pytest
import torch
from quantchat.kernels.embed.embed import Places, Table, embed
from quantchat.kernels.embed.reference import scaled as scaled_reference
from quantchat.kernels.embed.reference import slots as slots_reference

from quantchat.ops.batch import Batch
from quantchat.ops.embedding import Embedding
from quantchat.ops.embedding_cuda import embed_batch
from quantchat.quant.tensor import (
    DenseWeight,
    Fp8ChannelWeight,
    Int8ChannelWeight,
    StoredWeight,
    int4_group_weight,
)

VOCAB = 50
IDS = torch.tensor([0, 49, 7, 7, 31])


def stored(form: str, columns: int) -> StoredWeight:
    if form == "int8":
        codes = torch.randint(-128, 128, (VOCAB, columns), dtype=torch.int8)
        return Int8ChannelWeight(codes, torch.rand(VOCAB))
    if form == "fp8":
        codes = torch.randint(0, 127, (VOCAB, columns)) | (torch.rand(VOCAB, columns) < 0.5) * 128
        return Fp8ChannelWeight(codes.to(torch.uint8), torch.rand(VOCAB) * 0.1)
    if form == "int4":
        codes = torch.randint(0, 16, (VOCAB, columns), dtype=torch.uint8)
        groups = torch.rand(2, VOCAB, columns // 4)
        return int4_group_weight(codes, groups[0], -groups[1], 4)
    return DenseWeight(torch.randn(VOCAB, columns).to(getattr(torch, form)))


@pytest.mark.parametrize("columns", [576, 100, 1028])
@pytest.mark.parametrize("form", ["float32", "float16", "bfloat16", "int8", "fp8", "int4"])
def test_rows_and_the_norms_inputs(form: str, columns: int) -> None:
    torch.manual_seed(columns)
    embedding = Embedding(stored(form, columns))
    gamma = torch.randn(columns).half()
    batch = Batch(ids=IDS, positions=IDS.int(), slots=IDS, decode=False)
    made = embed_batch(embedding, batch, torch.float16, gamma=gamma)
    truth = embedding(IDS).half()
    assert torch.equal(made.rows, truth)
    assert made.scaled is not None and made.partials is not None
    truth_scaled, truth_partials = scaled_reference(truth, gamma)
    assert torch.equal(made.scaled, truth_scaled)
    torch.testing.assert_close(made.partials, truth_partials, rtol=1e-6, atol=1e-6)
    assert torch.equal(embed_batch(embedding, batch, torch.float16).rows, truth)


def test_every_output_is_written() -> None:
    table = Table(form="dense", data=torch.randn(VOCAB, 70).half())
    out, scaled = torch.full((2, len(IDS), 70), float("nan"), dtype=torch.float16)
    partials = torch.full((len(IDS), 5), float("nan"))
    gamma = torch.ones(70).half()
    embed(IDS, table, out=out, gamma=gamma, scaled=scaled, partials=partials)
    for part in (out, scaled, partials):
        assert not part.isnan().any()
    torch.testing.assert_close(partials.sum(1), out.float().square().sum(1))


@pytest.mark.parametrize("page_tokens", [1, 16, 24])
def test_slots(page_tokens: int) -> None:
    pages = 5
    table = torch.randint(1, 900, (6, pages), dtype=torch.int32)
    positions = torch.tensor([0, page_tokens, 5 * page_tokens - 1, 3, 0], dtype=torch.int32)
    positions[3] = min(3, 5 * page_tokens - 1)
    slots = torch.full((6,), -5)
    embed(
        IDS,
        Table(form="dense", data=torch.randn(VOCAB, 1100).half()),
        out=torch.empty(len(IDS), 1100, dtype=torch.float16),
        places=Places(positions=positions, table=table, page_tokens=page_tokens, slots=slots),
    )
    assert slots[:5].tolist() == slots_reference(positions, table[:5], page_tokens).tolist()
    assert slots[5] == -5


def test_a_position_past_the_table_is_padding() -> None:
    slots = torch.full((1,), -5)
    embed(
        IDS[:1],
        Table(form="dense", data=torch.randn(VOCAB, 16).half()),
        out=torch.empty(1, 16, dtype=torch.float16),
        places=Places(
            positions=torch.tensor([3 * 16 + 5], dtype=torch.int32),
            table=torch.full((1, 3), 9, dtype=torch.int32),
            page_tokens=16,
            slots=slots,
        ),
    )
    assert slots.tolist() == [5]
