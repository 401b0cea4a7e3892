"""A token picked on a card by the kernels of captured steps, read back once.

For what no graph covers: a prompt's first token, and steps that run one op at a time. Owns one row
of parameters, sent in one copy, and the kernels' scratch memory.
"""

from __future__ import annotations

import torch

from quantchat.engine.sampler import SamplingRows
from quantchat.model.decoder import Decoder
from quantchat.ops.sampling_cuda import Feedback, TokenPicker
from quantchat.ops.triton_ops import TritonOps
from quantchat.requests import Sampling

_FIELD_BYTES = 16
"""Of each parameter, so that kernels find them aligned as in a captured step's rows."""
_FIELDS = 7
_RING_ROWS = 8
"""As wide as a captured step's: the kernels are the same ones."""


class DevicePicker:
    """Picks as `engine.sampler.pick` does, from the same numbers the same token."""

    def __init__(self, vocab: int, device: torch.device, *, dependent: bool) -> None:
        on_card = device.type == "cuda"

        def one(dtype: torch.dtype) -> torch.Tensor:
            return torch.zeros(1, dtype=dtype, device=device)

        self._vocab = vocab
        self._device = device
        # Pageable: see ops.batch.sent.
        self._given = torch.zeros(_FIELDS * _FIELD_BYTES, dtype=torch.uint8)
        self._held = torch.zeros(_FIELDS * _FIELD_BYTES, dtype=torch.uint8, device=device)
        self._given_row, self._given_index = _fields(self._given)
        self._row, self._index = _fields(self._held)
        self._ids, self._active = one(torch.int64), one(torch.int32)
        self._positions, self._seq_lens = one(torch.int32), one(torch.int32)
        self._unseen = torch.zeros(1, vocab, dtype=torch.bool, device=device)
        self._ring = torch.zeros(2, _RING_ROWS, dtype=torch.int64, pin_memory=on_card)
        self._host_ring = self._ring.numpy()
        self._kernels = TokenPicker(1, vocab, device, dependent=dependent)

    def pick(
        self,
        logits: torch.Tensor,
        sampling: Sampling,
        *,
        seed: int,
        index: int,
        seen: torch.Tensor | None,
    ) -> int:
        """The answer's token number `index` from logits [vocab].

        `seen`: bool [vocab] of tokens so far, where a repetition penalty counts; gets the token.
        """
        self._given_row.set_row(0, sampling, seed, self._vocab)
        self._given_index[0] = index
        self._held.copy_(self._given, non_blocking=True)
        row, logits = self._row, logits.view(1, self._vocab)
        feedback = Feedback(
            ids=self._ids,
            positions=self._positions,
            seq_lens=self._seq_lens,
            indices=self._index,
            active=self._active,
            ring=self._ring,
            seen=self._unseen if seen is None else seen.view(1, self._vocab),
        )
        penalty = None if seen is None else row.penalty
        if sampling.temperature <= 0:
            self._kernels.greedy(logits, feedback, penalty=penalty)
        else:
            self._kernels.drawn(
                logits,
                feedback,
                temperature=row.temperature,
                top_k=row.top_k,
                top_p=row.top_p,
                min_p=row.min_p,
                seeds=row.seeds,
                penalty=penalty,
            )
        if self._device.type == "cuda":
            torch.cuda.current_stream(self._device).synchronize()
        return int(self._host_ring[index % 2, 0])


def card_picker(decoder: Decoder) -> DevicePicker:
    """The picker of a decoder that runs our kernels."""
    ops = decoder.ops
    assert isinstance(ops, TritonOps), "the picker is kernels of ours"
    return DevicePicker(decoder.spec.vocab, ops.device, dependent=ops.dependent_launch)


def _fields(raw: torch.Tensor) -> tuple[SamplingRows, torch.Tensor]:
    """One row of parameters and the token's number, as they lie in `raw`."""

    def field(place: int, dtype: torch.dtype) -> torch.Tensor:
        start = place * _FIELD_BYTES
        return raw[start : start + dtype.itemsize].view(dtype)

    row = SamplingRows(
        temperature=field(0, torch.float32),
        top_k=field(1, torch.int64),
        top_p=field(2, torch.float32),
        min_p=field(3, torch.float32),
        penalty=field(4, torch.float32),
        seeds=field(5, torch.int64),
    )
    return row, field(6, torch.int64)
