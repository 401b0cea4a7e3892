"""What a card's operations keep between steps, without a card."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("triton")

from quantchat.kernels.attention.splits import Splits

from quantchat.ops import triton_ops
from quantchat.ops.triton_ops import TritonOps

SPLITS = Splits(count=4, tile_tokens=64, warps=4)


def test_a_workspace_that_a_graph_may_hold_is_not_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    ops: Any = TritonOps.__new__(TritonOps)
    ops.spec = SimpleNamespace(heads=4, kv_heads=2, head_dim=64)
    ops.device, ops._workspaces = None, {}
    meanwhile: list[object] = []

    def create(*_: object) -> object:
        if not meanwhile:
            # A load that shares the weights is between the look and the note too.
            meanwhile.append(None)
            meanwhile[0] = ops._workspace(2, SPLITS)
        return object()

    monkeypatch.setattr(triton_ops, "Workspace", SimpleNamespace(create=create))
    held = ops._workspace(2, SPLITS)
    assert held is meanwhile[0] is ops._workspace(2, SPLITS)
    assert held is not ops._workspace(4, SPLITS)
