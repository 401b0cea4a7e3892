"""A layer run over whole sequences, and what each of its linears is fed with on the way.

The ops that run a model go through a cache; here S sequences of T tokens are attended to at once.
Products in one float type, sums of the residual stream, norms and statistics in float32.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from quantchat.calibration.layer import DenseLayer
from quantchat.ops.rope import RopeTable
from quantchat.spec import DecoderSpec


@dataclass(frozen=True, slots=True, eq=False)
class Taps:
    """Inputs of the linears, [R, K] each, R = sequences * T rows one sequence after another."""

    qkv: torch.Tensor
    o: torch.Tensor
    gate_up: torch.Tensor
    down: torch.Tensor
    tokens: int
    """T."""

    def of(self, linear: str) -> torch.Tensor:
        """The inputs of a fused linear."""
        inputs = {"qkv": self.qkv, "o": self.o, "gate_up": self.gate_up, "down": self.down}
        return inputs[linear]


@dataclass(frozen=True, slots=True, eq=False)
class LayerForward:
    """How a layer of `spec` runs; `dtype` is that of products."""

    spec: DecoderSpec
    rope: RopeTable
    dtype: torch.dtype

    def run(
        self, layer: DenseLayer, hidden: torch.Tensor, window: int
    ) -> tuple[torch.Tensor, Taps]:
        """The stream behind the layer, and the taps. hidden float32 [S, T, C]."""
        tokens = hidden.shape[1]
        x = self.norm(hidden, layer.attn_norm).flatten(0, 1)
        attended = self.attend(layer, x, tokens, window)
        hidden = hidden + self.linear(layer, "o", attended).view(hidden.shape)
        y = self.norm(hidden, layer.mlp_norm).flatten(0, 1)
        gated = self.gate(layer, y)
        hidden = hidden + self.linear(layer, "down", gated).view(hidden.shape)
        return hidden, Taps(x, attended, y, gated, tokens)

    def norm(self, hidden: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """RMSNorm in float32, in the type of products."""
        normed = F.rms_norm(hidden, (hidden.shape[-1],), weight, self.spec.norm_eps)
        return normed.to(self.dtype)

    def linear(self, layer: DenseLayer, part: str, x: torch.Tensor) -> torch.Tensor:
        """One part of the layer on x [R, K] -> float32 [R, N], the bias added."""
        bias = layer.bias(part)
        out = product(x, layer.weight(part))
        return out if bias is None else out.add_(bias)

    def gate(self, layer: DenseLayer, x: torch.Tensor) -> torch.Tensor:
        """silu(gate) * up: what `down` is fed with [R, I]."""
        gated = F.silu(self.linear(layer, "gate", x)).mul_(self.linear(layer, "up", x))
        return gated.to(self.dtype)

    def attend(self, layer: DenseLayer, x: torch.Tensor, tokens: int, window: int) -> torch.Tensor:
        """Causal attention of the normed stream x [S * T, C]: what `o` is fed with [S * T, Hq * D]."""
        spec = self.spec
        positions = torch.arange(tokens, device=x.device).repeat(x.shape[0] // tokens)

        def heads(part: str, norm: torch.Tensor | None) -> torch.Tensor:
            """[S * T, C] -> [S, H, T, D]."""
            values = self.linear(layer, part, x).view(x.shape[0], -1, spec.head_dim)
            if norm is not None:
                values = F.rms_norm(values, (spec.head_dim,), norm, spec.norm_eps)
            if part != "v":
                values = self.rope.turn(values, positions)
            return values.to(self.dtype).view(-1, tokens, *values.shape[1:]).transpose(1, 2)

        q, k, v = heads("q", layer.q_norm), heads("k", layer.k_norm), heads("v", None)
        shared = spec.heads // spec.kv_heads
        windowed = 0 < window < tokens
        out = F.scaled_dot_product_attention(
            q,
            k.repeat_interleave(shared, dim=1),
            v.repeat_interleave(shared, dim=1),
            attn_mask=_window_mask(tokens, window, x.device) if windowed else None,
            is_causal=not windowed,
            scale=spec.attention_scale,
        )
        return out.transpose(1, 2).reshape(x.shape[0], -1)


def product(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """x [R, K] times weight float32 [N, K], multiplied in the type of x -> float32 [R, N]."""
    if x.device.type == "cpu":
        # Decode steps turn it off for the whole process; products of many bf16 rows need it.
        torch._C._set_mkldnn_enabled(True)
    return F.linear(x, weight.to(x.dtype)).float()


def _window_mask(tokens: int, window: int, device: torch.device) -> torch.Tensor:
    """bool [T, T]: which tokens each may see."""
    row = torch.arange(tokens, device=device)[:, None]
    column = torch.arange(tokens, device=device)[None]
    return (column <= row) & (column > row - window)
