"""silu(gate) * up over the fused output of the gate and up projections."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from .._launch import check_activation, check_out, launch_options

_BLOCK = 1024


@triton.jit
def silu_mul_kernel(x_ptr, y_ptr, I, BI: tl.constexpr):  # noqa: E741
    i = tl.program_id(1) * BI + tl.arange(0, BI)
    m_i = i < I
    row = tl.program_id(0).to(tl.int64)
    gate = tl.load(x_ptr + row * 2 * I + i, mask=m_i, other=0.0).to(tl.float32)
    up = tl.load(x_ptr + row * 2 * I + I + i, mask=m_i, other=0.0).to(tl.float32)
    y = gate / (1.0 + tl.exp(-gate)) * up
    tl.store(y_ptr + row * I + i, y.to(y_ptr.dtype.element_ty), mask=m_i)


def silu_mul(gate_up: torch.Tensor, *, out: torch.Tensor | None = None) -> torch.Tensor:
    """silu of the first half times the second: gate_up [M, 2 I] -> [M, I]; fp32, rounded once."""
    check_activation(gate_up, "gate_up")
    rows, width = gate_up.shape
    assert width % 2 == 0, f"gate_up has an odd width {width}"
    if out is None:
        out = torch.empty(rows, width // 2, dtype=gate_up.dtype, device=gate_up.device)
    check_out(out, (rows, width // 2), gate_up.dtype)
    silu_mul_kernel[(rows, triton.cdiv(width // 2, _BLOCK))](
        gate_up, out, width // 2, BI=_BLOCK, num_warps=4, num_stages=1, **launch_options()
    )
    return out
