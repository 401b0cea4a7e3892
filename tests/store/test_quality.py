"""Measured quality on disk: replaced by newer rows, deaf to damage."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

import pytest

from quantchat.store import quality
from quantchat.store.quality import Quality, measured_quality, quality_file, remember


def row(**changes: Any) -> Quality:
    plain = Quality(
        identity="abc",
        model="starter",
        scheme="int4",
        group_size=64,
        kv="16bit",
        device="cpu",
        calibration="",
        reference="fp32",
        method="llama.cpp",
        text="prose.txt",
        text_hash="t1",
        tokens=255,
        bits_per_weight=5.5,
        weight_bytes=1000,
        kl_mean=0.05,
        kl_mean_se=0.001,
        same_top=0.9,
        same_top_se=0.01,
        ppl_ratio=1.04,
        measured="2026-01-01T00:00:00+00:00",
        version="0.1",
    )
    return dataclasses.replace(plain, **changes)


def test_the_measurement_of_most_tokens_is_shown_and_a_newer_one_takes_its_place() -> None:
    assert measured_quality("abc", "int4", "16bit") is None
    remember([row(), row(text_hash="t2", tokens=4096, kl_mean=0.06), row(kv="int8")])
    found = measured_quality("abc", "int4", "16bit")
    assert found is not None and found.kl_mean == 0.06
    remember([row(text_hash="t2", tokens=4096, kl_mean=0.07, measured="2026-02-01")])
    found = measured_quality("abc", "int4", "16bit")
    assert found is not None and found.kl_mean == 0.07
    assert len(json.loads(quality_file().read_text())["rows"]) == 3
    assert measured_quality("abc", "int8", "16bit") is None
    assert measured_quality("abd", "int4", "16bit") is None


def test_numbers_that_are_none_survive_and_a_mean_that_is_none_is_not_kept() -> None:
    remember([row(kl_mean_se=math.nan, ppl_ratio=math.inf), row(scheme="nf4", kl_mean=math.nan)])
    found = measured_quality("abc", "int4", "16bit")
    assert found is not None and math.isnan(found.kl_mean_se) and math.isnan(found.ppl_ratio)
    assert measured_quality("abc", "nf4", "16bit") is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{",
        f'{{"format": {quality.FORMAT}, "rows": 3}}',
        "[" * 100_000,
        f'{{"format": {quality.FORMAT}, "rows": [1, {{}}, {{"identity": 2}}]}}',
        '{"format": 99, "rows": []}',
    ],
)
def test_a_damaged_file_says_nothing_and_is_written_over(text: str) -> None:
    quality_file().write_text(text)
    assert measured_quality("abc", "int4", "16bit") is None
    remember([row()])
    assert measured_quality("abc", "int4", "16bit") == row()


def test_a_row_with_a_wrong_type_is_dropped_and_the_others_stay() -> None:
    good = dataclasses.asdict(row())
    bad = [good | {"tokens": True}, good | {"kl_mean": "0"}, good | {"model": "x" * 10_000}]
    quality_file().write_text(json.dumps({"format": quality.FORMAT, "rows": [*bad, good]}))
    assert measured_quality("abc", "int4", "16bit") == row()


def test_only_the_newest_rows_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quality.ROWS, "keep", 3)
    remember(row(scheme=f"s{i}") for i in range(5))
    assert [measured_quality("abc", f"s{i}", "16bit") is not None for i in range(5)] == [
        False,
        False,
        True,
        True,
        True,
    ]


def test_a_folder_that_cannot_be_written_stops_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise PermissionError(13, "no")

    monkeypatch.setattr("tempfile.mkstemp", refuse)
    remember([row()])
    assert measured_quality("abc", "int4", "16bit") is None
