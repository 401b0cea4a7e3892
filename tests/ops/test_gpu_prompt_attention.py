"""Prompts' attention on a real card: the flash kernel's rule and windows, rounded pages read."""

from __future__ import annotations

import pytest

pytest.importorskip("triton")

import torch

from quantchat.kv_formats import KvFormat
from quantchat.ops import span_attention
from quantchat.ops.batch import Batch, Span
from quantchat.ops.kv_codec import quantize_kv
from quantchat.ops.kv_pool import KvPool
from quantchat.ops.span_attention import SpanAttention, takes_flash
from quantchat.ops.span_attention_cuda import CardSpanAttention
from quantchat.spec import DecoderSpec, RopeSpec

pytestmark = pytest.mark.gpu

PAGE = 16


@pytest.fixture(autouse=True)
def needs_flash() -> None:
    if torch.cuda.get_device_capability() < (8, 0):
        pytest.skip("needs SM 80 or newer")


def spec_of(heads: int, kv_heads: int, head_dim: int) -> DecoderSpec:
    return DecoderSpec(
        architecture="llama",
        layers=1,
        hidden=heads * head_dim,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        intermediate=32,
        vocab=10,
        context=4096,
        norm_eps=1e-5,
        rope=RopeSpec(theta=100.0, rotary_dim=head_dim),
        activation="silu",
        attention_scale=head_dim**-0.5,
    )


def truth(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, window: int) -> torch.Tensor:
    """Softmax by hand in float64: q [T, Hq, D], k and v [S, Hk, D] -> [T, Hq * D]."""
    (count, heads, head_dim), (length, kv_heads, _) = q.shape, k.shape
    k, v = (x.double().repeat_interleave(heads // kv_heads, dim=1) for x in (k, v))
    scores = torch.einsum("qhd,khd->hqk", q.double(), k) * head_dim**-0.5
    row = torch.arange(length - count, length, device=q.device)[:, None]
    column = torch.arange(length, device=q.device)[None]
    seen = (column <= row) & ((column > row - window) if window else True)
    shares = scores.masked_fill(~seen, -torch.inf).softmax(-1)
    return torch.einsum("hqk,khd->qhd", shares, v).flatten(1)


MOST = {torch.float16: 2e-3, torch.bfloat16: 1e-2, torch.float32: 1e-3}
"""Relative error of any row; the library may multiply float32 in TF32."""


@pytest.mark.parametrize("way", ["flash", "mask"])
@pytest.mark.parametrize("dtype", MOST, ids=str)
@pytest.mark.parametrize(
    ("heads", "kv_heads", "head_dim"),
    [(32, 8, 128), (9, 3, 64), (8, 4, 256), (32, 32, 80), (71, 1, 64), (12, 12, 96)],
)
@pytest.mark.parametrize("window", [0, 5, 300])
@torch.inference_mode()
def test_every_row_is_softmax_by_hand(
    heads: int,
    kv_heads: int,
    head_dim: int,
    window: int,
    dtype: torch.dtype,
    way: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    device = torch.device("cuda", torch.cuda.current_device())
    assert takes_flash(device, dtype, head_dim) == (dtype != torch.float32)
    if way == "mask":
        monkeypatch.setattr(span_attention, "takes_flash", lambda *_: False)
    elif dtype == torch.float32:
        pytest.skip("no flash kernel of 32 bits")
    torch.manual_seed(head_dim)
    spec = spec_of(heads, kv_heads, head_dim)
    pool = KvPool(spec, pages=80, page_tokens=PAGE, precision="16bit", dtype=dtype, device=device)
    layer = pool.layers[0]
    layer.k.normal_()
    layer.v.normal_()
    attend = SpanAttention(spec=spec, device=device, dtype=dtype)
    run = tuple(range(3, 75))
    scattered = tuple(torch.randperm(80).tolist()[:72])
    lengths = ((1, 1), (1, 400), (7, 7), (7, 1001), (64, 80), (300, 300), (33, 700), (257, 1130))
    for i, (count, length) in enumerate(lengths):
        pages = (run, scattered)[i % 2]
        span = Span(0, count, length, pages[: -(-length // PAGE)])
        rows = torch.arange(count, device=device)
        batch = Batch(rows, rows.int(), rows, count == 1, (span,))
        q = torch.randn(count, heads, head_dim, device=device, dtype=dtype)
        got = attend(q, batch, span, pool, layer, window).double()
        at = torch.tensor(span.pages, device=device)
        k, v = (cache[at].flatten(0, 1)[:length] for cache in (layer.k, layer.v))
        wanted = truth(q, k, v, window)
        error = (got - wanted).norm(dim=1) / wanted.norm(dim=1)
        assert not torch.isnan(got).any()
        assert float(error.max()) < MOST[dtype], (count, length, int(error.argmax()))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("precision", ["fp8", "int8", "k8v4", "int4r", "int4"])
@pytest.mark.parametrize("head_dim", [64, 80, 128])
@torch.inference_mode()
def test_rounded_pages_are_read_as_torch_reads_them(
    head_dim: int, precision: KvFormat, dtype: torch.dtype
) -> None:
    device = torch.device("cuda", torch.cuda.current_device())
    torch.manual_seed(head_dim)
    spec = spec_of(8, 4, head_dim)
    pool = KvPool(spec, pages=40, page_tokens=PAGE, precision=precision, dtype=dtype, device=device)
    layer = pool.layers[0]
    for cache, params, form in (
        (layer.k, layer.k_params, pool.k_format),
        (layer.v, layer.v_params, pool.v_format),
    ):
        assert params is not None
        codes, beside = quantize_kv(torch.randn(40, PAGE, 4, head_dim, device=device), form)
        cache.copy_(codes)
        params.copy_(beside)
    fused = CardSpanAttention(spec=spec, device=device, dtype=dtype)
    plain = SpanAttention(spec=spec, device=device, dtype=dtype)
    for pages in (tuple(range(3, 36)), tuple(torch.randperm(40).tolist()[:33])):
        for first, length in ((0, 1), (0, 512), (37, 528), (16, 100)):
            span = Span(0, 1, length, pages[: -(-length // PAGE)])
            rows = torch.zeros(1, dtype=torch.int64, device=device)
            batch = Batch(rows, rows.int(), rows, True, (span,))
            ours = fused.read(layer, batch, span, first, pool)
            for got, wanted in zip(ours, plain.read(layer, batch, span, first, pool), strict=True):
                assert torch.equal(got, wanted), (first, length)
