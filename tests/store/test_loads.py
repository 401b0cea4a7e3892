"""Measured loads on disk: the newest of each way, missing figures as what they are."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

from quantchat.store.loads import ROWS, MeasuredLoad, measured_load, remember_load


def row(**changes: Any) -> MeasuredLoad:
    plain = MeasuredLoad(
        identity="abc",
        scheme="int4",
        kv="16bit",
        device="Test card",
        context_tokens=8192,
        weight_bytes=1000,
        kv_bytes=500,
        kv_bytes_per_token=2,
        workspace_bytes=math.nan,
        peak_bytes=math.nan,
        tok_per_s=math.nan,
        speed_tokens=0,
        measured="2026-01-01T00:00:00+00:00",
        version="0.1",
    )
    return dataclasses.replace(plain, **changes)


def test_a_load_takes_the_place_of_the_one_before_and_of_no_other() -> None:
    assert measured_load("abc", "int4", "16bit", "Test card") is None
    remember_load(row())
    remember_load(row(kv="int8", weight_bytes=3))
    remember_load(row(weight_bytes=2000, tok_per_s=42.0, speed_tokens=300))
    found = measured_load("abc", "int4", "16bit", "Test card")
    assert found is not None and found.weight_bytes == 2000 and found.has_speed
    assert math.isnan(found.workspace_bytes)
    assert len(json.loads(ROWS.path().read_text())["rows"]) == 2
    assert measured_load("abc", "int4", "16bit", "Other card") is None
    assert not row().has_speed


def test_rows_with_impossible_figures_are_dropped() -> None:
    good = dataclasses.asdict(row()) | dict.fromkeys(("workspace_bytes", "peak_bytes", "tok_per_s"))
    bad = [good | {"weight_bytes": -1}, good | {"kv_bytes": 1.5}, good | {"tok_per_s": "fast"}]
    ROWS.path().write_text(json.dumps({"format": 1, "rows": [good, *bad]}))
    found = measured_load("abc", "int4", "16bit", "Test card")
    assert found is not None and found.weight_bytes == 1000
