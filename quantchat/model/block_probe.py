"""The importance probe through blocks that are not as Llama's: any placement of norms, experts too.

Experts see all random tokens, as if each had taken them; the stream goes on with the mean of their
outputs by the router's weights.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from quantchat.model.importance import ActivationProbe
from quantchat.ops.plain import Norm, activated
from quantchat.spec import DecoderSpec


class BlockProbe(ActivationProbe):
    """See ActivationProbe."""

    def __init__(
        self,
        spec: DecoderSpec,
        device: torch.device,
        embed: Callable[[torch.Tensor], torch.Tensor],
        vector: Callable[[str], torch.Tensor],
    ) -> None:
        """As of ActivationProbe."""
        super().__init__(spec, device, embed, vector)
        self._residual = self._residual * spec.embedding_scale
        self._beside: torch.Tensor | None = None
        """What the attention is to add, where the MLP runs beside it."""
        self._shares = torch.ones(1)
        """Of each token [T, E] in the experts' outputs."""
        self._sum: torch.Tensor | None = None
        """Of the experts' outputs so far."""

    def begin(self, name: str) -> None:
        """See ActivationProbe.begin."""
        prefix, _, linear = name.rpartition(".")
        layer = ".".join(prefix.split(".")[:2])
        if linear == "qkv":
            self.inputs = self._before(f"{layer}.attn_norm")
        elif linear == "gate_up":
            self.inputs = self._mlp_inputs(layer)
            if prefix.endswith(".experts.0"):
                self._route(layer)
        self._outputs = []

    def end(self, name: str, bias: torch.Tensor | None) -> None:
        """See ActivationProbe.end."""
        prefix, _, linear = name.rpartition(".")
        out = torch.cat(self._outputs, dim=-1)
        out = out if bias is None else out + bias
        if linear == "qkv":
            self.inputs = self._attend(prefix, out)
        elif linear == "gate_up":
            self.inputs = self._activated(out)
        elif linear == "o":
            self._end_attention(prefix, out)
        else:
            self._end_mlp(prefix, out)

    def _before(self, norm: str) -> torch.Tensor:
        return self._residual if self._spec.placement == "post" else self._normed(norm)

    def _mlp_inputs(self, layer: str) -> torch.Tensor:
        norm = "attn_norm" if self._spec.placement == "parallel" else "mlp_norm"
        return self._before(f"{layer}.{norm}")

    def _normed(self, name: str, x: torch.Tensor | None = None) -> torch.Tensor:
        spec = self._spec
        bias = self._vector(f"{name}.bias") if spec.norm == "layer" else None
        norm = Norm(self._vector(name), bias)
        rows = self._residual if x is None else x
        return norm(rows, kind=spec.norm, eps=spec.norm_eps, dtype=torch.float32)

    def _activated(self, out: torch.Tensor) -> torch.Tensor:
        if not self._spec.gated:
            return activated(out, self._spec.activation)
        gate, up = out.chunk(2, dim=-1)
        return activated(gate, self._spec.activation) * up

    def _end_attention(self, layer: str, out: torch.Tensor) -> None:
        placement = self._spec.placement
        if placement in ("parallel", "parallel_two"):
            self._beside = out
        else:
            self._add(layer, out, {"post": "attn_norm", "both": "attn_post_norm"}.get(placement))

    def _end_mlp(self, prefix: str, out: torch.Tensor) -> None:
        layer, experts = ".".join(prefix.split(".")[:2]), self._spec.experts
        last = True
        if experts is not None and prefix != layer:
            out, last = self._collected(prefix, layer, out)
        if not last:
            return
        if self._beside is not None:
            out, self._beside = out + self._beside, None
        behind = {"post": "mlp_norm", "both": "mlp_post_norm"}.get(self._spec.placement)
        self._add(layer, out, behind)

    def _collected(self, prefix: str, layer: str, out: torch.Tensor) -> tuple[torch.Tensor, bool]:
        """The sum of experts' outputs so far, and whether it is whole."""
        experts = self._spec.experts
        assert experts is not None
        if prefix.endswith(".shared"):
            gate = torch.sigmoid(self._mlp_inputs(layer) @ self._vector(f"{layer}.shared_gate"))
            share, last = gate[:, None], True
        else:
            index = int(prefix.rsplit(".", 1)[-1])
            share = self._shares[:, index : index + 1]
            last = index + 1 == experts.count and not experts.shared_intermediate
        self._sum = out * share if self._sum is None else self._sum + out * share
        made = self._sum
        if last:
            self._sum = None
        return made, last

    def _route(self, layer: str) -> None:
        experts = self._spec.experts
        assert experts is not None
        scores = torch.softmax(self.inputs @ self._vector(f"{layer}.router").t(), dim=-1)
        weights, chosen = torch.topk(scores, experts.active, dim=-1)
        if experts.renormalise:
            weights = weights / weights.sum(dim=-1, keepdim=True)
        self._shares = torch.zeros_like(scores).scatter_(1, chosen, weights)

    def _add(self, layer: str, out: torch.Tensor, norm: str | None) -> None:
        made = out if norm is None else self._normed(f"{layer}.{norm}", out)
        self._residual = self._residual + made * self._spec.residual_scale
