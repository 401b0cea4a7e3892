"""Scales of a linear's inputs, moved into the weights so that the model stays what it is.

A scale multiplies the linear's columns; its inverse goes into what makes the inputs: the norm in
front of q, k, v and of gate, up, the rows of v in front of `o`, the rows of up in front of `down`.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from quantchat.calibration.layer import LINEARS, DenseLayer
from quantchat.spec import DecoderSpec

INWARD = ("o", "qkv", "down", "gate_up")
"""Linears in an order in which folding changes none that was folded before."""


def fold(layer: DenseLayer, linear: str, scale: torch.Tensor, spec: DecoderSpec) -> DenseLayer:
    """The same layer with a linear's columns times scale [K]; that of `o` is as `shared` makes it."""
    scaled = {part: layer.weight(part) * scale for part in LINEARS[linear]}
    if linear == "qkv":
        return replace(layer, attn_norm=layer.attn_norm / scale, **scaled)
    if linear == "gate_up":
        return replace(layer, mlp_norm=layer.mlp_norm / scale, **scaled)
    if linear == "down":
        bias = None if layer.up_bias is None else layer.up_bias / scale
        return replace(layer, up=layer.up / scale[:, None], up_bias=bias, **scaled)
    value = scale.view(spec.kv_heads, -1, spec.head_dim)[:, 0].flatten()
    bias = None if layer.v_bias is None else layer.v_bias / value
    return replace(layer, v=layer.v / value[:, None], v_bias=bias, **scaled)


def shared(size: torch.Tensor, linear: str, spec: DecoderSpec) -> torch.Tensor:
    """A number for each input [K]; inputs of `o` that read one value channel take their largest."""
    if linear != "o":
        return size
    heads = size.view(spec.kv_heads, -1, spec.head_dim)
    return heads.amax(dim=1, keepdim=True).expand(heads.shape).flatten()


def norms_of(index: int, layer: DenseLayer) -> dict[str, torch.Tensor]:
    """Our names of the norms that folding changes, with their weights."""
    prefix = f"layers.{index}."
    return {prefix + "attn_norm": layer.attn_norm, prefix + "mlp_norm": layer.mlp_norm}
