"""A prompt's attention: the flash kernel's rule against the mask, what is made once a pass."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from quantchat.kv_formats import KvFormat
from quantchat.ops import span_attention
from quantchat.ops.batch import Batch, Span
from quantchat.ops.kv_pool import KvPool
from quantchat.ops.span_attention import SpanAttention, takes_flash
from quantchat.spec import DecoderSpec, RopeSpec

HEADS, KV_HEADS, DIM, PAGE = 6, 2, 8, 4
CPU = torch.device("cpu")
SPEC = DecoderSpec(
    architecture="llama",
    layers=2,
    hidden=24,
    heads=HEADS,
    kv_heads=KV_HEADS,
    head_dim=DIM,
    intermediate=32,
    vocab=10,
    context=64,
    norm_eps=1e-5,
    rope=RopeSpec(theta=100.0, rotary_dim=DIM),
    activation="silu",
    attention_scale=0.3,
)
RUN, SCATTERED = (2, 3, 4, 5, 6), (7, 2, 9, 1, 5)


def as_flash(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    cum_seq_q: torch.Tensor | None,
    cum_seq_k: torch.Tensor | None,
    max_q: int,
    max_k: int,
    dropout_p: float,
    is_causal: bool,
    return_debug_mask: bool,
    *,
    scale: float | None = None,
    window_size_left: int | None = None,
    window_size_right: int | None = None,
    **others: None,
) -> tuple[torch.Tensor, ...]:
    """What the library's CUDA kernel documents: heads grouped, both rules from the lower right."""
    assert cum_seq_q is None and cum_seq_k is None and not dropout_p and not return_debug_mask
    assert is_causal and scale is not None and not any(others.values())
    (_, rows, heads, _), (_, keys, kv_heads, _) = query.shape, key.shape
    assert (rows, keys) == (max_q, max_k) and query.stride(-1) == key.stride(-1) == 1
    ahead = torch.arange(keys)[None] - torch.arange(rows)[:, None] - (keys - rows)
    seen = ahead <= (0 if window_size_right is None else window_size_right)
    if window_size_left is not None:
        seen &= ahead >= -window_size_left
    k, v = (x[0].repeat_interleave(heads // kv_heads, dim=1) for x in (key, value))
    scores = torch.einsum("qhd,khd->hqk", query[0], k) * scale
    shares = scores.masked_fill(~seen, -torch.inf).softmax(-1)
    nothing = torch.empty(0)
    return torch.einsum("hqk,khd->qhd", shares, v)[None], nothing, nothing, nothing, nothing


@pytest.fixture
def flash(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    library = torch.library.Library("aten", "IMPL")
    library.impl("_flash_attention_forward", as_flash, "CPU")
    monkeypatch.setattr(span_attention, "takes_flash", lambda *_: True)
    yield
    library._destroy()


def pool_of(precision: KvFormat) -> KvPool:
    made = KvPool(
        SPEC, pages=12, page_tokens=PAGE, precision=precision, dtype=torch.float32, device=CPU
    )
    for layer in made.layers:
        for tensor in (layer.k, layer.v, layer.k_params, layer.v_params):
            if tensor is None:
                continue
            if tensor.dtype == torch.uint8:
                tensor.random_(256)
            else:
                tensor.normal_(std=0.01 if tensor.dtype == torch.float16 else 1.0)
    return made


def batch_of(*spans: Span) -> Batch:
    rows = sum(span.count for span in spans)
    places = torch.arange(rows)
    return Batch(places, places.int(), places, False, spans)


@pytest.mark.usefixtures("flash")
@pytest.mark.parametrize("pages", [RUN, SCATTERED], ids=["one run", "scattered"])
@pytest.mark.parametrize("precision", ["16bit", "int8"])
@pytest.mark.parametrize("window", [0, 1, 3, 6, 40])
def test_the_flash_kernels_rule_is_the_masks(
    pages: tuple[int, ...], precision: KvFormat, window: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    pool = pool_of(precision)
    attend = SpanAttention(spec=SPEC, device=CPU, dtype=torch.float32)
    for count, length in ((1, 1), (1, 17), (3, 3), (5, 17), (16, 17), (17, 17)):
        batch = batch_of(Span(0, count, length, pages[: -(-length // PAGE)]))
        q = torch.randn(count, HEADS, DIM)
        case = (q, batch, batch.spans[0], pool, pool.layers[1], window)
        ours = attend(*case)
        with monkeypatch.context() as patch:
            patch.setattr(span_attention, "takes_flash", lambda *_: False)
            wanted = attend(*case)
        assert ours.shape == (count, HEADS * DIM)
        assert torch.allclose(ours, wanted, atol=1e-5), (count, length)


def test_masks_and_pages_are_made_once_a_pass() -> None:
    torch.manual_seed(0)
    pool = pool_of("16bit")
    attend = SpanAttention(spec=SPEC, device=CPU, dtype=torch.float32)
    spans = Span(0, 3, 9, SCATTERED[:3]), Span(3, 2, 6, SCATTERED[3:])
    batch = batch_of(*spans)
    q = torch.randn(5, HEADS, DIM)
    made = []
    for layer in pool.layers:
        for window in (0, 4):
            for span in spans:
                attend(q, batch, span, pool, layer, window)
        made.append({key: id(tensor) for key, tensor in batch.shared.items()})
    assert made[0] == made[1]
    assert sorted(made[0]) == [
        (what, start, window)
        for what, windows in (("mask", (0, 4)), ("pages", (0,)))
        for start in (0, 3)
        for window in windows
    ]


def test_a_span_knows_whether_its_pages_are_one_run() -> None:
    assert Span(0, 1, 9, (4, 5, 6)).run == 4
    assert Span(0, 1, 1, (9,)).run == 9
    assert Span(0, 1, 9, (4, 6, 5)).run is None
    assert Span(0, 1, 12, (4, 6, 5, 7)).run is None


def test_no_flash_kernel_without_a_card() -> None:
    assert not takes_flash(CPU, torch.float16, 64)
