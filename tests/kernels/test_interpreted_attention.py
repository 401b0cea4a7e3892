"""Decode attention and the append of prompts, interpreted, against their references."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from nearness import close
from quantchat.kernels.attention.attend import attend
from quantchat.kernels.attention.splits import Splits
from quantchat.kernels.attention.workspace import Workspace
from quantchat.kernels.rope_append import append
from quantchat.kernels.rope_append import reference as append_reference
from quantchat.kernels.rope_append.formats import FORMATS, KvFormat
from quantchat.kernels.rope_append.turn import turn

from quantchat.bench.attention_gate import (
    Heads,
    Step,
    grown,
    has_format,
    make_step,
    poisoned_pages,
)

CPU = torch.device("cpu")
DTYPES = (torch.float16, torch.bfloat16)
# The interpreter cuts where a card rounds to bf16, at every rounding of the op.
TOLERANCE = {torch.float16: 1e-3, torch.bfloat16: 2e-2}
STEPS = {"16bit": 1, "fp8": 3, "int8": 1, "k8v4": 4, "int4r": 4, "int4": 4}
"""Cut bf16 values land on other codes; a step of int4 is coarse."""

ODD = Heads(heads=3, kv_heads=1, head_dim=16, page_tokens=4, norm=True)
PADDED = Heads(heads=4, kv_heads=2, head_dim=80, page_tokens=4, window=5, cap=1.5, rotary_half=20)
WIDE = Heads(heads=1, kv_heads=1, head_dim=96, page_tokens=4)
GROUPED = Heads(heads=38, kv_heads=2, head_dim=32, page_tokens=4, norm=True, window=23)
"""Groups of 19 heads: parts of ten and of nine."""

APPENDED = [(shape, kv) for shape in (ODD, PADDED, WIDE) for kv in FORMATS if has_format(shape, kv)]
CUT = ((ODD, 3, 4), (PADDED, 3, 2), (WIDE, 1, 8))
ATTENDED = [(*cut, kv) for cut in CUT for kv in FORMATS if has_format(cut[0], kv)]
ATTENDED += [(GROUPED, 2, 16, kv) for kv in ("16bit", "int8", "k8v4")]


def check(step: Step, splits: Splits, workspace: Workspace | None = None) -> torch.Tensor:
    """Runs kernel and reference on pages of their own and compares all that they leave."""
    theirs = step.twin()
    truth = theirs.truth()
    out = torch.full_like(truth, float("nan"))
    attend(*step.inputs, **step.pages, **step.options, out=out, splits=splits, workspace=workspace)
    kv, dtype = step.options["kv"], out.dtype
    tolerance = TOLERANCE[dtype] * (STEPS[kv] if dtype is torch.bfloat16 else 1)
    close(out, truth, tolerance)
    for mine, other in grown(step, theirs):
        close(mine, other, tolerance)
    return out


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("shape", "count", "tile_tokens", "kv"), ATTENDED)
def test_attend(
    shape: Heads, count: int, tile_tokens: int, kv: KvFormat, dtype: torch.dtype
) -> None:
    step = make_step([0, 1, 2, 15, 33], shape, kv, dtype, CPU)
    splits = Splits(count=count, tile_tokens=tile_tokens, warps=1)
    out = check(step, splits)
    assert not out[0].any(), "a sequence of length 0 yields zeros"


@pytest.mark.parametrize("length", [1, 15, 16, 17, 32, 33, 48, 49, 64, 65, 130, 300])
@pytest.mark.parametrize("window", [0, 1, 16, 40])
def test_every_boundary_of_tiles_and_splits(length: int, window: int) -> None:
    shape = Heads(heads=2, kv_heads=1, head_dim=16, page_tokens=16, window=window)
    step = make_step([length], shape, "int8", torch.float16, CPU)
    check(step, Splits(count=3, tile_tokens=16, warps=1))


def test_a_workspace_serves_again_and_again() -> None:
    splits = Splits(count=4, tile_tokens=8, warps=1)
    workspace = Workspace.create(3, 4, 2, 32, splits, CPU)
    for lengths in ([30, 9, 1], [31, 0, 2], [64, 63, 62]):
        shape = Heads(heads=4, kv_heads=2, head_dim=32, page_tokens=4)
        check(make_step(lengths, shape, "16bit", torch.float16, CPU), splits, workspace)
        assert not workspace.arrived.any(), "arrivals are 0 between launches"


def test_a_row_without_a_slot_stores_nothing() -> None:
    shape = Heads(heads=2, kv_heads=1, head_dim=16, page_tokens=4)
    step = make_step([7, 6], shape, "int8", torch.float16, CPU)
    step.inputs[3][0] = -1
    before = step.twin()
    attend(*step.inputs, **step.pages, **step.options)
    changed = step.pages["k_cache"] != before.pages["k_cache"]
    assert changed.flatten(0, 1).any(-1).nonzero()[:, 0].tolist() == [int(step.inputs[3][1])]


def test_the_newest_token_is_seen_as_stored() -> None:
    """A token's own values must not be better in the step that stores them than in later ones."""
    shape = Heads(heads=1, kv_heads=1, head_dim=16, page_tokens=4)
    step = make_step([1], shape, "int4", torch.float16, CPU)
    out = attend(*step.inputs, **step.pages, **step.options)
    (_, _), (stored, _) = grown(step, step)
    torch.testing.assert_close(out[0].float(), stored[0, 0], atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("shape", "kv"), APPENDED)
def test_rope_append(shape: Heads, kv: KvFormat, dtype: torch.dtype) -> None:
    slots = torch.tensor([3, -1, 0, 19, 7, 8])
    width = (shape.heads + 2 * shape.kv_heads) * shape.head_dim
    qkv = torch.randn(len(slots), width).to(dtype)
    qkv[2, -shape.head_dim :] = 0.5
    positions = torch.randint(0, 50, (len(slots),), dtype=torch.int32)
    angles = torch.rand(50, shape.rotary_half or shape.head_dim // 2) * 6
    options: dict[str, object] = {"heads": shape.heads, "kv": kv}
    if shape.norm:
        weights = torch.randn(2, shape.head_dim).to(dtype)
        options |= {"q_weight": weights[0], "k_weight": weights[1], "eps": 1e-6}
    mine = Step(
        inputs=(qkv, positions, qkv, slots),
        pages=poisoned_pages(5, shape, kv, dtype, CPU),
        options=options,
    )
    theirs = mine.twin()
    common = (qkv, positions, angles.cos(), angles.sin(), slots)
    out = torch.full((len(slots), shape.heads, shape.head_dim), float("nan"), dtype=dtype)
    append.rope_append(*common, **mine.pages, **options, out=out)
    truth = append_reference.rope_append(*common, **theirs.pages, **options)
    tolerance = TOLERANCE[dtype] * (STEPS[kv] if dtype is torch.bfloat16 else 1)
    close(out, truth, tolerance)
    for result, wanted in grown(mine, theirs):
        close(result, wanted, tolerance)
    if kv not in ("16bit", "fp8"):
        flat = mine.pages["v_params"].flatten(0, 1)[0, -1]
        assert flat.tolist() == [0.0, 0.5], "a flat vector has scale 0"
        assert not mine.pages["v_cache"].flatten(0, 1)[0, -1].any()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "shape", [ODD, GROUPED, Heads(heads=2, kv_heads=1, head_dim=128, rotary_half=32)]
)
def test_rows_turned_before_attention(shape: Heads, dtype: torch.dtype) -> None:
    width = (shape.heads + 2 * shape.kv_heads) * shape.head_dim
    qkv = torch.randn(3, width).to(dtype)
    positions = torch.tensor([0, 7, 49], dtype=torch.int32)
    angles = torch.rand(50, shape.rotary_half or shape.head_dim // 2) * 6
    options: dict[str, object] = {"heads": shape.heads, "kv_heads": shape.kv_heads}
    if shape.norm:
        weights = torch.randn(2, shape.head_dim).to(dtype)
        options |= {"q_weight": weights[0], "k_weight": weights[1], "eps": 1e-6}
    before = qkv.clone()
    out = turn(qkv, positions, angles.cos(), angles.sin(), **options)
    common = (positions, angles.cos(), angles.sin())
    q, k, v = append_reference.turn(qkv, *common, kv="int4r", **options)
    heads = out.view(3, -1, shape.head_dim)
    close(heads[:, : -shape.kv_heads], torch.cat((q, k), 1), TOLERANCE[dtype])
    assert torch.equal(heads[:, -shape.kv_heads :], v) and torch.equal(qkv, before)


@pytest.mark.parametrize("kv", FORMATS)
def test_the_card_s_ops_attend_as_plain_torch_does(kv: KvFormat) -> None:
    from quantchat.ops.batch import Batch, Span
    from quantchat.ops.kv_pool import KvPool
    from quantchat.ops.rope import RopeTable
    from quantchat.ops.torch_ops import TorchOps
    from quantchat.ops.triton_ops import TritonOps
    from quantchat.shapes import SHAPES

    spec = dataclasses.replace(
        SHAPES["smollm2-135m"], layers=1, heads=4, kv_heads=2, head_dim=16, hidden=64
    )
    angles = torch.rand(32, 8) * 6
    rope = RopeTable(angles.cos(), angles.sin())
    norms = torch.rand(2, 16).half()
    answers = []
    for make in (TorchOps, TritonOps):
        torch.manual_seed(1)
        wish = {} if make is TorchOps else {"dependent_launch": False}
        ops = make(spec, device=CPU, dtype=torch.float16, **wish)
        pool = KvPool(spec, pages=6, page_tokens=4, precision=kv, dtype=torch.float16, device=CPU)
        pages = (4, 2, 5)
        rows = []
        for start, end in ((0, 7), (7, 8), (8, 9)):
            place = torch.arange(start, end)
            one = end - start == 1
            batch = Batch(
                ids=torch.zeros(end - start, dtype=torch.int64),
                positions=place.int(),
                slots=torch.tensor([pages[p // 4] * 4 + p % 4 for p in place.tolist()]),
                decode=one,
                spans=(Span(0, end - start, end, pages[: -(-end // 4)]),),
                block_table=torch.tensor([pages], dtype=torch.int32) if one else None,
                seq_lens=torch.tensor([end], dtype=torch.int32) if one else None,
            )
            qkv = torch.randn(end - start, 8 * 16).half()
            rows.append(ops.attend(qkv, batch, pool, pool.layers[0], rope, norms[0], norms[1], 5))
        answers.append(torch.cat(rows))
    close(answers[1], answers[0], 2e-3)
