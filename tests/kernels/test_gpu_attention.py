"""Decode attention on a real card: long contexts, far pages, graphs, the same bits every time."""

from __future__ import annotations

import pytest
import torch
from nearness import relative
from quantchat.kernels.rope_append.formats import FORMATS, VECTORS, KvFormat, stored_width

from quantchat.bench.attention_gate import Heads, grown, make_step

pytestmark = pytest.mark.gpu

LLAMA = Heads(heads=32, kv_heads=8, head_dim=128)


def device() -> torch.device:
    return torch.device("cuda", torch.cuda.current_device())


@pytest.mark.parametrize("kv", FORMATS)
@pytest.mark.parametrize("window", [0, 1, 300])
@pytest.mark.parametrize("length", [1, 127, 128, 129, 2048, 2049, 2177, 9000])
def test_lengths(length: int, window: int, kv: KvFormat) -> None:
    from quantchat.kernels.attention.attend import attend

    shape = Heads(heads=32, kv_heads=8, head_dim=128, window=window)
    mine = make_step([length], shape, kv, torch.float16, device())
    theirs = mine.twin()
    out = attend(*mine.inputs, **mine.pages, **mine.options)
    assert relative(out, theirs.truth()) < 1.5e-3
    for stored, wanted in grown(mine, theirs):
        assert relative(stored, wanted) < 0.03


@pytest.mark.parametrize("kv", FORMATS)
@pytest.mark.parametrize("cap", [0.5, 50.0])
@pytest.mark.parametrize("length", [1, 129, 5000])
def test_soft_caps(length: int, cap: float, kv: KvFormat) -> None:
    from quantchat.kernels.attention.attend import attend

    shape = Heads(heads=8, kv_heads=4, head_dim=256, window=4096, cap=cap)
    mine = make_step([length], shape, kv, torch.bfloat16, device())
    theirs = mine.twin()
    out = attend(*mine.inputs, **mine.pages, **mine.options)
    assert relative(out, theirs.truth()) < 1.2e-2


@pytest.mark.parametrize("kv", FORMATS)
def test_the_same_bits_with_and_without_dependent_launch(kv: KvFormat) -> None:
    from quantchat.kernels.attention.attend import attend

    outs = []
    served = torch.cuda.get_device_capability()[0] >= 9
    for dependent in (False, served, served, False):
        torch.manual_seed(3)
        step = make_step([5000, 1, 700], LLAMA, kv, torch.float16, device())
        outs.append(attend(*step.inputs, **step.pages, **step.options, dependent=dependent))
    assert all(torch.equal(outs[0], out) for out in outs)


def test_a_captured_step_follows_the_lengths() -> None:
    """One graph serves every context: bounds are read on the device."""
    from quantchat.kernels.attention.attend import attend

    step = make_step([4097], LLAMA, "int8", torch.float16, device())
    qkv, positions, seq_lens, slots, table = step.inputs[:5]
    out = torch.empty(1, 32 * 128, dtype=torch.float16, device=device())
    attend(*step.inputs, **step.pages, **step.options, out=out)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        attend(*step.inputs, **step.pages, **step.options, out=out)
    for length in (4097, 1, 64, 128, 130, 1000, 4000):
        positions.fill_(length - 1)
        seq_lens.fill_(length)
        place = length - 1
        slots.copy_(table[:, place // 16].long() * 16 + place % 16)
        qkv.normal_()
        theirs = step.twin()
        graph.replay()
        assert relative(out, theirs.truth()) < 1.5e-3, length


@pytest.mark.parametrize("kv", ["16bit", "int4", "k8v4"])
def test_pages_beyond_two_gigabytes(kv: KvFormat) -> None:
    from quantchat.kernels.attention.attend import attend

    far = 2**31 // (16 * 8 * stored_width(128, VECTORS[kv][1])) + 1
    if torch.cuda.mem_get_info()[0] < 24 << 30:
        pytest.skip("too little memory")
    mine = make_step([300, 17], LLAMA, kv, torch.float16, device(), first_page=far)
    theirs = mine.twin()
    out = attend(*mine.inputs, **mine.pages, **mine.options)
    assert relative(out, theirs.truth()) < 1.5e-3
