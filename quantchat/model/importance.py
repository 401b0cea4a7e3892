"""How much each input of a linear matters, without data: activations of random tokens.

A few random token ids run through the dense weights while these are read for rounding, one matrix
at a time; the mean square of each input weighs its column's rounding error. Real text would differ
in detail, but which channels are large is mostly the weights' own doing. Llama-like blocks alone;
others are `block_probe`'s.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch

from quantchat.model.rope import layer_ropes
from quantchat.ops.batch import Batch, Span
from quantchat.ops.kv_pool import KvPool
from quantchat.ops.torch_ops import TorchOps
from quantchat.spec import DecoderSpec

TOKENS = 64
SEED = 17
FLOOR = 0.02
"""Least weight of a column, as a share of the mean: silent on 64 tokens is not silent for ever."""


class ActivationProbe:
    """The residual stream of TOKENS random tokens, carried along as matrices are read in order."""

    def __init__(
        self,
        spec: DecoderSpec,
        device: torch.device,
        embed: Callable[[torch.Tensor], torch.Tensor],
        vector: Callable[[str], torch.Tensor],
    ) -> None:
        """`embed`: ids int64 [T] -> float32 [T, C]; `vector`: our name -> float32 [K]."""
        tokens = min(TOKENS, spec.context)
        ids = torch.randint(spec.vocab, (tokens,), generator=torch.Generator().manual_seed(SEED))
        positions = torch.arange(tokens, device=device)
        self._spec = spec
        self._vector = vector
        self._ops = TorchOps(spec, device=device, dtype=torch.float32)
        self._ropes = layer_ropes(spec, tokens, device)
        self._pool = KvPool(
            replace(spec, layers=1),
            pages=1,
            page_tokens=tokens,
            precision="16bit",
            dtype=torch.float32,
            device=device,
        )
        self._batch = Batch(
            ids.to(device),
            positions.to(torch.int32),
            positions,
            False,
            (Span(0, tokens, tokens, (0,)),),
        )
        self._residual = embed(ids.to(device))
        self._outputs: list[torch.Tensor] = []
        self.inputs = self._residual
        """float32 [T, K]: what the linear that is read next is fed with."""

    def begin(self, name: str) -> None:
        """Make the inputs of the fused linear of our name, which is read next."""
        prefix, _, linear = name.rpartition(".")
        if linear in ("qkv", "gate_up"):
            norm = "attn_norm" if linear == "qkv" else "mlp_norm"
            self.inputs = self._ops.rms_norm(self._residual, self._vector(f"{prefix}.{norm}"))
        self._outputs = []

    def importance(self) -> torch.Tensor:
        """float32 [K] with mean 1; all ones where an activation is not finite."""
        squares = self.inputs.square().mean(dim=0)
        average = squares.mean()
        if not bool(average.isfinite()) or not bool(average > 0):
            return torch.ones_like(squares)
        return (squares / average).clamp_min(FLOOR)

    def feed(self, weight: torch.Tensor) -> None:
        """Run one part, float32 [N, K], of the linear on the inputs."""
        self._outputs.append(self.inputs @ weight.t())

    def end(self, name: str, bias: torch.Tensor | None) -> None:
        """All parts are fed: go on to the inputs of the linear after it."""
        prefix, _, linear = name.rpartition(".")
        out = torch.cat(self._outputs, dim=-1)
        if bias is not None:
            out = out + bias
        if linear == "qkv":
            self.inputs = self._attend(prefix, out)
        elif linear == "gate_up":
            self.inputs = self._ops.silu_mul(out)
        else:
            self._residual = self._residual + out

    def _attend(self, prefix: str, qkv: torch.Tensor) -> torch.Tensor:
        norms, layer = self._spec.qk_norm, int(prefix.rsplit(".", 1)[-1])
        return self._ops.attend(
            qkv,
            self._batch,
            self._pool,
            self._pool.layers[0],
            self._ropes[layer],
            self._vector(f"{prefix}.q_norm") if norms else None,
            self._vector(f"{prefix}.k_norm") if norms else None,
            self._spec.window(layer),
        )
