"""Every kernel on a real card against its reference, and inside a captured graph."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("dtype_name", ["float16", "bfloat16"])
def test_kernels_agree_with_their_references(dtype_name: str) -> None:
    import torch

    from quantchat.bench.kernel_gate import cases

    dtype = getattr(torch, dtype_name)
    if dtype is torch.bfloat16 and torch.cuda.get_device_capability() < (8, 0):
        pytest.skip("bf16 is emulated on this card")
    found = {case.name: case.error() for case in cases(torch.device("cuda"), dtype)}
    tolerances = {case.name: case.tolerance for case in cases(torch.device("cuda"), dtype)}
    assert not {name: error for name, error in found.items() if not error <= tolerances[name]}


def test_a_captured_gemv_follows_its_input() -> None:
    import torch
    from quantchat.kernels.wna16 import reference
    from quantchat.kernels.wna16.gemv import gemv

    from quantchat.bench.kernel_gate import int4_weights

    device = torch.device("cuda")
    weights = int4_weights(512, 1024, 128, device)
    x = torch.randn(1, 1024, device=device).half()
    out = gemv(x, *weights, group_size=128)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        gemv(x, *weights, group_size=128, out=out)
    x.copy_(torch.randn(1, 1024, device=device))
    graph.replay()
    truth = reference.gemv(x, *weights, group_size=128)
    torch.testing.assert_close(out, truth, atol=2e-2, rtol=2e-3)
