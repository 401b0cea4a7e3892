"""Medians and spread, and the bytes behind a floor."""

import sys

import pytest
import torch

from quantchat.bench.accounting import floor_s, step_bytes
from quantchat.bench.stats import percentile, summarize


def test_percentiles_lie_between_neighbours() -> None:
    assert percentile([4.0, 1.0, 3.0, 2.0], 0.5) == 2.5
    assert percentile([1.0, 2.0, 3.0], 0.0) == 1.0
    assert percentile([1.0, 2.0, 3.0], 1.0) == 3.0
    assert percentile([7.0], 0.95) == 7.0


def test_summary_is_not_moved_by_one_bad_run() -> None:
    summary = summarize([10.0, 11.0, 12.0, 13.0, 900.0])
    assert summary.median == 12.0
    assert summary.samples == 5
    assert (summary.lowest, summary.highest) == (10.0, 900.0)
    assert summary.p20 == pytest.approx(10.8)
    assert summary.p80 == pytest.approx(190.4)


def test_a_step_reads_weights_once_and_the_context_so_far() -> None:
    # Steps after a 10-token prompt see 11, 12 and 13 tokens.
    moved = [1000 + 7 * context for context in (11, 12, 13)]
    mean = step_bytes(1000, 7, 10, first_step=1, decode_steps=3, rows=1)
    assert mean == pytest.approx(sum(moved) / 3)
    # The last two of them, five rows at once: one pass over the weights, five over the cache.
    later = step_bytes(1000, 7, 10, first_step=2, decode_steps=2, rows=5)
    assert later == pytest.approx(1000 + 5 * 7 * 12.5)


def test_the_floor_is_bytes_over_bandwidth() -> None:
    assert floor_s(2e9, 20.0) == pytest.approx(0.1)


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("scheme", ["fp16", "int8", "int4"])
def test_read_bytes_follow_the_formula(scheme: str, tied: bool) -> None:
    import dataclasses

    from bench_subjects import TINY, open_tiny

    from quantchat.hardware.linears import group_size_of
    from quantchat.hardware.memory import decode_read_bytes
    from quantchat.quant.registry import SCHEMES

    spec = dataclasses.replace(TINY, tied_head=tied)
    engine = open_tiny(spec, scheme)
    record = SCHEMES[scheme]
    formula = decode_read_bytes(spec, record, group_size_of(spec, record))
    packed = engine.plan.compute_dtype == "bfloat16"
    assert packed
    # The CPU's int8 op takes scales in 2 bytes where the stored format has 4.
    rows = sum(op.out_features for layer in engine.model.decoder.layers for op in layer.linears)
    eight_bit_rows = {"fp16": 0, "int8": rows + spec.vocab, "int4": spec.vocab}[scheme]
    assert engine.model.decoder.read_bytes == formula - 2 * eight_bit_rows
    assert engine.model.decoder.ops.dtype == torch.bfloat16


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux forgets a peak")
def test_the_peak_is_of_the_time_since_it_was_forgotten() -> None:
    from quantchat.bench.memory import forget_peak, peak_bytes

    mib = 2**20
    bytearray(b"x" * (200 * mib))
    before = peak_bytes("cpu")
    forget_peak("cpu")
    after = peak_bytes("cpu")
    assert before - after > 100 * mib
    bytearray(b"x" * (80 * mib))
    assert peak_bytes("cpu") - after > 50 * mib


def test_the_last_line_is_json_whatever_the_numbers() -> None:
    import json

    from quantchat.cli.bench_words import one_line

    record = {"a": [1.5, float("nan")], "b": {"c": float("inf")}, "d": (1, "x", True, None)}
    assert json.loads(one_line(record)) == {
        "a": [1.5, None],
        "b": {"c": None},
        "d": [1, "x", True, None],
    }
