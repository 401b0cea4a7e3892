"""The table against the ops that it speaks of."""

from __future__ import annotations

from quantchat.hardware.op_table import CPU_COPY_ROWS, STORED_ROUTES, runs_as_stored


def test_row_limit_is_the_one_the_cpu_linear_uses() -> None:
    from quantchat.ops.linear_cpu import COPY_ROWS

    assert CPU_COPY_ROWS == COPY_ROWS


def test_stored_types_need_a_route_each_and_one_packed() -> None:
    assert runs_as_stored(frozenset({"Q4_1", "Q8_0", "F32"}))
    assert runs_as_stored(frozenset({"Q4_0", "F32", "F16"}))
    assert not runs_as_stored(frozenset({"F16", "F32"}))
    assert not runs_as_stored(frozenset({"Q4_1", "Q6_K", "F32"}))
    assert not runs_as_stored(frozenset())
    assert set(STORED_ROUTES.values()) == {"int4_pack", "int8_pack", "dense"}
