"""Views of all layers at once are those of each layer, made once a pass."""

import dataclasses

import pytest
import torch
from bench_subjects import TINY

from quantchat.ops import run_views
from quantchat.ops.batch import Batch, Span
from quantchat.ops.kv_pool import KvPool

PAGE = 4
SPEC = dataclasses.replace(TINY, layers=3)


def pool_of() -> KvPool:
    pool = KvPool(
        SPEC,
        pages=7,
        page_tokens=PAGE,
        precision="16bit",
        dtype=torch.float32,
        device=torch.device("cpu"),
    )
    for layer in pool.layers:
        layer.k.normal_()
        layer.v.normal_()
    return pool


def batch_of(span: Span) -> Batch:
    places = torch.arange(span.count)
    return Batch(places, places.int(), places, span.count == 1, (span,))


@pytest.mark.parametrize(("first", "length"), [(0, 1), (0, 4), (0, 9), (3, 9), (8, 9), (5, 16)])
def test_cached_tokens_of_each_layer(first: int, length: int) -> None:
    pool, span = pool_of(), Span(0, 1, length, (2, 3, 4, 5))
    batch = batch_of(span)
    for layer in pool.layers:
        keys, values = run_views.cached(pool, batch, span, first)[layer.index]
        for view, stored in ((keys, layer.k), (values, layer.v)):
            rows = stored[2:6].flatten(0, 1)[first:length]
            assert view.shape == (SPEC.kv_heads, 1, length - first, SPEC.head_dim)
            assert torch.equal(view[:, 0].transpose(0, 1), rows)
    made = run_views.cached(pool, batch, span, first)
    assert made is run_views.cached(pool, batch, span, first)
    assert made is not run_views.cached(pool, batch_of(span), span, first)


@pytest.mark.parametrize(("count", "length"), [(1, 1), (1, 5), (3, 3), (3, 8), (16, 16)])
def test_what_is_put_at_fresh_places_is_in_the_pages(count: int, length: int) -> None:
    pool, span = pool_of(), Span(0, count, length, (2, 3, 4, 5))
    before = [(layer.k.clone(), layer.v.clone()) for layer in pool.layers]
    batch = batch_of(span)
    at = slice(2 * PAGE + length - count, 2 * PAGE + length)
    for layer, (k, v) in zip(pool.layers, before, strict=True):
        k_place, v_place = run_views.fresh(pool, batch, span)[layer.index]
        assert k_place.shape == v_place.shape == (count, SPEC.kv_heads, SPEC.head_dim)
        k_place.fill_(layer.index + 1)
        v_place.fill_(-layer.index - 1)
        k.flatten(0, 1)[at], v.flatten(0, 1)[at] = layer.index + 1, -layer.index - 1
    for layer, (k, v) in zip(pool.layers, before, strict=True):
        assert torch.equal(layer.k, k) and torch.equal(layer.v, v)
