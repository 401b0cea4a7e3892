"""The plain path of decode attention as it compiles: its sums stay sums."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("triton")


@pytest.mark.parametrize("wanted", ["plain-20x1x64-fp16-int8", "plain-8x2x512-bf16-int8"])
def test_the_compiler_makes_no_product_of_matrices_of_a_sum(
    wanted: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would round to ten bits of mantissa and count narrow tiles twice."""
    from ahead_of_time import build
    from quantchat.kernels.attention.variants import variants

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    (variant,) = [variant for variant in variants() if variant.name.startswith(wanted)]
    built = build(variant, 90)
    assert "tt.reduce" in built.asm["ttir"] and "tt.dot" not in built.asm["ttir"]
