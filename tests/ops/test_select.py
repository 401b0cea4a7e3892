"""Which operations serve a plan, and what is said where Triton is there and of no use."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import pytest

from quantchat.errors import DeviceError
from quantchat.ops.select import make_ops


def test_a_triton_of_other_names_is_told_and_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "quantchat.ops.triton_ops", None)
    plan: Any = SimpleNamespace(device="cuda", gpu_index=0, triton=True, copy_dtype=None)
    spec: Any = None
    with pytest.raises(DeviceError, match="the installed Triton cannot be used") as caught:
        make_ops(spec, plan)
    assert "device cpu" in caught.value.hint and caught.value.ways[0].value == "cpu"
