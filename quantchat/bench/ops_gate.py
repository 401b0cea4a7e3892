"""The gate's cases of operations as the decoder calls them: linears of every stored format, sampling.

Owns random weights on awkward shapes and the rows at which one kernel hands over to another. The
truth of a linear is its stored weight made dense in float32.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import torch

from quantchat.bench.kernel_gate import TOLERANCE, Case
from quantchat.engine.sampler import SamplingRows, penalize, pick_rows
from quantchat.hardware.op_table import FEW_ROWS, MANY_ROWS, WIDE_ROWS
from quantchat.ops.torch_ops import TorchOps
from quantchat.quant.codebook_rounding import nf4, nf4_dq
from quantchat.quant.lut import LutBits, LutWeight, SparseRows
from quantchat.quant.pack import pack_nibbles, pack_triples
from quantchat.quant.progressive_rounding import progressive
from quantchat.quant.rounding import fp8_channel, int8_channel
from quantchat.quant.tensor import DenseWeight, Int4GroupWeight, StoredWeight
from quantchat.requests import Sampling

LINEARS = ((6144, 4096, 128), (577, 576, 64), (1152, 896, 64), (64, 1536, 32), (4096, 14336, 128))
"""Outputs, columns and int4 group of the shapes."""
TABLE_LINEARS = ((577, 576, 64), (4096, 14336, 128))
"""The same of codes that are looked up or expanded, whose epilogues are int4's."""
TABLE_FORMS = ("nf4", "nf4-dq", "lut4", "lut3", "progressive4")
SPARSE_SHARE = 0.005
LIMITS = {*FEW_ROWS.values(), *MANY_ROWS.values(), *WIDE_ROWS.values()}
ROWS = tuple(sorted({1, 2, 3, 16, 33, 300} | {n + more for n in LIMITS for more in (0, 1)}))
"""Both sides of every limit among them."""
VOCABS = (32000, 49152, 128256, 151936, 1001)
SETTINGS = (
    Sampling(temperature=0),
    Sampling(temperature=0.7, top_p=0.95),
    Sampling(temperature=1.0, top_k=40),
    Sampling(temperature=1.5, min_p=0.05, repetition_penalty=1.2),
    Sampling(temperature=0.3, top_k=1, top_p=1.0),
    Sampling(temperature=1.0, top_p=1.0),
)


def linear_cases(ops: TorchOps) -> Iterator[Case]:
    """Every stored format on every shape at every number of rows, with a bias and without.

    `ops` multiply in 16 bits: what 8-bit activations are rounded to is a scheme's and no error.
    """
    assert ops.activations == "16bit"
    forms = ("int4", "int4-ordered", "int8", "fp8", "dense")
    chosen = [*itertools.product(LINEARS, forms, (False, True))]
    chosen += [
        (shape, form, i % 2 == 1) for i, shape in enumerate(TABLE_LINEARS) for form in TABLE_FORMS
    ]
    for (outputs, columns, group), form, biased in chosen:
        name = f"{form} {outputs}x{columns}{' + bias' if biased else ''}"
        yield Case(
            name=f"linear {name}",
            run=partial(_linear, ops, form, outputs, columns, group, biased),
            tolerance=TOLERANCE[ops.dtype],
            part=form,
        )


def _linear(
    ops: TorchOps, form: str, outputs: int, columns: int, group: int, biased: bool
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    device = ops.device
    weight = _weight(form, outputs, columns, group, device)
    bias = torch.randn(outputs, device=device).to(ops.dtype) if biased else None
    op = ops.linear(weight, bias)
    dense = weight.dequantize(torch.float32)
    pairs = []
    for rows in ROWS:
        x = torch.randn(rows, columns, device=device).to(ops.dtype)
        truth = x.double() @ dense.double().t()
        pairs.append((op(x), truth if bias is None else truth + bias.double()))
    return pairs


def _weight(
    form: str, outputs: int, columns: int, group: int, device: torch.device
) -> StoredWeight:
    if form == "int4-ordered":
        weight = _weight("int4", outputs, columns, group, device)
        assert isinstance(weight, Int4GroupWeight)
        return replace(weight, order=torch.randperm(columns, device=device).to(torch.int32))
    if form == "int4":
        codes = torch.randint(0, 16, (outputs, columns), dtype=torch.uint8, device=device)
        scale = torch.rand(outputs, columns // group, device=device) * 0.01 + 0.001
        zero = torch.rand(outputs, columns // group, device=device) * 15
        offset = (-scale * zero).half()
        return Int4GroupWeight(pack_nibbles(codes), scale.half(), offset, group)
    if form in ("lut4", "lut3"):
        return _lut(4 if form == "lut4" else 3, outputs, columns, device)
    values = torch.randn(outputs, columns, device=device) * 0.02
    if form == "progressive4":
        return progressive(values, group)
    if form in ("nf4", "nf4-dq"):
        return nf4(values) if form == "nf4" else nf4_dq(values)
    if form == "int8":
        return int8_channel(values)
    return fp8_channel(values) if form == "fp8" else DenseWeight(values.bfloat16().float())


def _lut(bits: LutBits, outputs: int, columns: int, device: torch.device) -> LutWeight:
    """Tables of 4 bits come with sparse entries."""
    entries = 1 << bits
    codes = torch.randint(0, entries, (outputs, columns), dtype=torch.uint8, device=device)
    table = (torch.randn(outputs, entries, device=device) * 0.02).sort(dim=1).values.half()
    if bits == 3:
        return LutWeight(pack_triples(codes), table, bits)
    chosen = torch.rand(outputs, columns, device=device) < SPARSE_SHARE
    ends = chosen.sum(dim=1).cumsum(0)
    sparse = SparseRows(
        torch.cat((ends.new_zeros(1), ends)).to(torch.int32),
        chosen.nonzero()[:, 1].to(torch.int32),
        (torch.randn(int(ends[-1]), device=device) * 0.1).half(),
    )
    return LutWeight(pack_nibbles(codes), table, bits, sparse)


def sampling_cases(device: torch.device, dtype: torch.dtype) -> Iterator[Case]:
    """The kernels' tokens against torch's, a row for each of SETTINGS, all greedy and mixed."""
    for vocab in VOCABS:
        for greedy in (True, False):
            yield Case(
                name=f"sample {vocab} {'greedy' if greedy else 'drawn'}",
                run=partial(_sample, vocab, greedy, device, dtype),
                tolerance=0.0,
            )


def _sample(
    vocab: int, greedy: bool, device: torch.device, dtype: torch.dtype
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    from quantchat.ops.sampling_cuda import Feedback, TokenPicker

    count = len(SETTINGS)
    rows = SamplingRows.empty(count, vocab, device)
    for row, sampling in enumerate(SETTINGS):
        rows.set_row(row, sampling, seed=row, vocab=vocab)
    logits = (torch.randn(count, vocab, device=device) * 3).to(dtype)
    seen = torch.rand(count, vocab, device=device) < 0.1
    numbers = torch.arange(count, device=device)
    feedback = Feedback(
        ids=torch.full_like(numbers, -7),
        positions=numbers.int(),
        seq_lens=numbers.int() + 1,
        indices=numbers + 5,
        active=torch.ones_like(numbers, dtype=torch.int32),
        ring=torch.zeros((2, count), dtype=torch.int64).pin_memory(),
        seen=seen,
    )
    lowered = penalize(logits.float(), seen, rows.penalty[:, None])
    truth = pick_rows(lowered, rows, numbers + 5, greedy=greedy)
    picker = TokenPicker(count, vocab, device, dependent=False)
    if greedy:
        picker.greedy(logits, feedback, penalty=rows.penalty)
    else:
        picker.drawn(
            logits,
            feedback,
            temperature=rows.temperature,
            top_k=rows.top_k,
            top_p=rows.top_p,
            min_p=rows.min_p,
            seeds=rows.seeds,
            penalty=rows.penalty,
        )
    return [(feedback.ids, truth), (feedback.positions, numbers + 1)]
