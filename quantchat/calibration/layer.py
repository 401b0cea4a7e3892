"""One decoder layer as dense float32 tensors, in our conventions, open to change.

N outputs, K inputs. Rotary pairs are adjacent; q heads that share a KV head follow each other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

import torch

from quantchat.model.weights import WeightReader

LINEARS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"qkv": ("q", "k", "v"), "o": ("o",), "gate_up": ("gate", "up"), "down": ("down",)}
)
"""Fused linears in the order of execution, and their parts."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DenseLayer:
    """float32 on one device; matrices [N, K], norms and biases [N]."""

    attn_norm: torch.Tensor
    q: torch.Tensor
    k: torch.Tensor
    v: torch.Tensor
    q_bias: torch.Tensor | None = None
    k_bias: torch.Tensor | None = None
    v_bias: torch.Tensor | None = None
    q_norm: torch.Tensor | None = None
    k_norm: torch.Tensor | None = None
    o: torch.Tensor
    o_bias: torch.Tensor | None = None
    mlp_norm: torch.Tensor
    gate: torch.Tensor
    up: torch.Tensor
    gate_bias: torch.Tensor | None = None
    up_bias: torch.Tensor | None = None
    down: torch.Tensor
    down_bias: torch.Tensor | None = None

    def weight(self, part: str) -> torch.Tensor:
        """The matrix of a part: q, k, v, o, gate, up or down."""
        weights = {
            "q": self.q,
            "k": self.k,
            "v": self.v,
            "o": self.o,
            "gate": self.gate,
            "up": self.up,
            "down": self.down,
        }
        return weights[part]

    def bias(self, part: str) -> torch.Tensor | None:
        """The bias of a part."""
        biases = {
            "q": self.q_bias,
            "k": self.k_bias,
            "v": self.v_bias,
            "o": self.o_bias,
            "gate": self.gate_bias,
            "up": self.up_bias,
            "down": self.down_bias,
        }
        return biases[part]

    def parts(self, linear: str) -> tuple[torch.Tensor, ...]:
        """The matrices of a fused linear: qkv, o, gate_up or down."""
        return tuple(self.weight(part) for part in LINEARS[linear])

    def fused_bias(self, linear: str) -> torch.Tensor | None:
        """The bias of a fused linear; its parts all have one, or none has."""
        biases = [self.bias(part) for part in LINEARS[linear]]
        known = [bias for bias in biases if bias is not None]
        assert len(known) in (0, len(biases))
        return torch.cat(known) if known else None

    def with_weights(self, weights: Mapping[str, torch.Tensor]) -> DenseLayer:
        """The layer with other matrices for some parts."""
        return replace(self, **weights)


def read_layer(reader: WeightReader, index: int) -> DenseLayer:
    """A layer of the reader's source, on the reader's device."""
    prefix = f"layers.{index}."
    names = reader.source.names

    def vector(name: str) -> torch.Tensor | None:
        return reader.vector(prefix + name) if prefix + name in names else None

    matrices = {
        part: reader.weight(prefix + part, "dense").dequantize(torch.float32)
        for parts in LINEARS.values()
        for part in parts
    }
    return DenseLayer(
        attn_norm=reader.vector(prefix + "attn_norm"),
        mlp_norm=reader.vector(prefix + "mlp_norm"),
        q_norm=vector("q_norm"),
        k_norm=vector("k_norm"),
        q_bias=vector("q.bias"),
        k_bias=vector("k.bias"),
        v_bias=vector("v.bias"),
        o_bias=vector("o.bias"),
        gate_bias=vector("gate.bias"),
        up_bias=vector("up.bias"),
        down_bias=vector("down.bias"),
        **matrices,
    )
