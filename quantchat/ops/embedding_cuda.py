"""The start of a pass on a card: embedded rows, the first norm's inputs, slots, in one launch."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from quantchat.kernels.embed.embed import Places, Table, embed
from quantchat.kernels.linear.reference import PARTIAL_COLUMNS
from quantchat.ops.batch import Batch
from quantchat.ops.embedding import Embedding
from quantchat.quant.tensor import (
    DenseWeight,
    Fp8ChannelWeight,
    Int4GroupWeight,
    Int8ChannelWeight,
    StoredWeight,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Embedded:
    """A pass's first rows [T, C] in the compute dtype."""

    rows: torch.Tensor
    scaled: torch.Tensor | None
    """rows * gamma [T, C], where gamma was given."""
    partials: torch.Tensor | None
    """float32 [T, ceil(C / 16)]: sums of rows^2 over 16 columns each, where gamma was given."""


def _table(weight: StoredWeight) -> Table:
    if isinstance(weight, DenseWeight):
        return Table(form="dense", data=weight.data)
    if isinstance(weight, Int8ChannelWeight):
        return Table(form="int8", data=weight.codes, scale=weight.scale)
    if isinstance(weight, Fp8ChannelWeight):
        return Table(form="fp8", data=weight.codes, scale=weight.scale)
    assert isinstance(weight, Int4GroupWeight)
    return Table(
        form="int4",
        data=weight.packed,
        scale=weight.scale,
        offset=weight.offset,
        group=weight.group_size,
    )


def embed_batch(
    embedding: Embedding,
    batch: Batch,
    dtype: torch.dtype,
    *,
    gamma: torch.Tensor | None = None,
    dependent: bool = False,
) -> Embedded:
    """Embeds the batch's ids; writes its slots where it names `page_tokens`."""
    table = _table(embedding.weight)
    rows, columns, device = batch.ids.shape[0], table.columns, batch.ids.device
    out = torch.empty(rows, columns, dtype=dtype, device=device)
    scaled = partials = None
    if gamma is not None:
        scaled = torch.empty_like(out)
        parts = -(-columns // PARTIAL_COLUMNS)
        partials = torch.empty(rows, parts, dtype=torch.float32, device=device)
    places = None
    if batch.page_tokens:
        assert batch.block_table is not None
        places = Places(
            positions=batch.positions,
            table=batch.block_table,
            page_tokens=batch.page_tokens,
            slots=batch.slots,
        )
    embed(
        batch.ids,
        table,
        out=out,
        gamma=gamma,
        scaled=scaled,
        partials=partials,
        places=places,
        dependent=dependent,
    )
    return Embedded(rows=out, scaled=scaled, partials=partials)
