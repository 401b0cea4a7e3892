"""The decoder, top to bottom: one forward pass for all families, driven by the spec.

T rows, C hidden. The residual stream is float32 on the CPU and the ops' choice elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from quantchat.model.blocks import Block, BlockRunner
from quantchat.ops.batch import Batch
from quantchat.ops.embedding import Embedding
from quantchat.ops.kv_pool import KvPool
from quantchat.ops.linear import LinearOp
from quantchat.ops.plain import Experts, Norm
from quantchat.ops.rope import RopeTable
from quantchat.ops.stream import Stream
from quantchat.ops.torch_ops import TorchOps
from quantchat.spec import DecoderSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One llama-like block's linears and norm weights."""

    attn_norm: torch.Tensor
    qkv: LinearOp
    q_norm: torch.Tensor | None
    k_norm: torch.Tensor | None
    o: LinearOp
    mlp_norm: torch.Tensor
    gate_up: LinearOp
    down: LinearOp

    @property
    def linears(self) -> tuple[LinearOp, ...]:
        """The four linears in the order of execution."""
        return self.qkv, self.o, self.gate_up, self.down

    @property
    def read_bytes(self) -> int:
        """Weight bytes that one row reads."""
        return sum(op.weight_bytes for op in self.linears)


@dataclass(frozen=True, slots=True, kw_only=True, weakref_slot=True, eq=False)
class Decoder:
    """Weights as ops. Stateless: the cache comes with the call."""

    spec: DecoderSpec
    ops: TorchOps
    embedding: Embedding
    layers: tuple[Layer, ...]
    """Empty where the spec departs from llama-like blocks: they are in `blocks` then."""
    final_norm: torch.Tensor
    head: LinearOp
    ropes: tuple[RopeTable, ...]
    """Of each layer."""
    weight_bytes: int
    """Bytes of all weights as decode reads them; a tied head counts once."""
    copy_bytes: int
    """Bytes of dense copies held for prefill."""
    blocks: tuple[Block, ...] = ()
    final_bias: torch.Tensor | None = None
    """Of a final LayerNorm, float32 [C]."""

    @property
    def every_layer(self) -> tuple[Layer | Block, ...]:
        """Layers of either kind, in the order of execution."""
        return self.layers or self.blocks

    @property
    def linears(self) -> tuple[LinearOp, ...]:
        """Of all layers in the order of execution, without the head."""
        return tuple(op for layer in self.every_layer for op in layer.linears)

    @property
    def read_bytes(self) -> int:
        """Weight bytes that one decode step reads: linears and head; one embedding row is nothing."""
        return sum(layer.read_bytes for layer in self.every_layer) + self.head.weight_bytes

    @property
    def capturable(self) -> bool:
        """Whether a step of few rows reads nothing back."""
        return all(
            not isinstance(block.mlp, Experts) or block.mlp.bank is not None
            for block in self.blocks
        )

    def cut(self, chosen: tuple[int, ...]) -> Decoder:
        """The same decoder with some of its layers, nothing copied."""
        spec = self.spec
        return replace(
            self,
            spec=replace(
                spec,
                layers=len(chosen),
                windows=tuple(spec.window(i) for i in chosen) if spec.windows else (),
                rope_kinds=tuple(spec.rope_kind(i) for i in chosen) if spec.rope_kinds else (),
            ),
            layers=tuple(self.layers[i] for i in chosen) if self.layers else (),
            blocks=tuple(self.blocks[i] for i in chosen) if self.blocks else (),
            ropes=tuple(self.ropes[i] for i in chosen),
        )

    def forward(self, batch: Batch, pool: KvPool) -> torch.Tensor:
        """Run the rows through all layers, filling the cache. -> normed hidden states [T, C]."""
        if self.blocks:
            final = Norm(self.final_norm, self.final_bias)
            runner = BlockRunner(self.ops)
            return runner.run(self.embedding, self.blocks, self.ropes, batch, pool, final)
        return self.ops.leave(self._run(batch, pool), self.final_norm)

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """Hidden states [R, C] -> logits float32 [R, vocab]."""
        return self.head(hidden).float()

    def step_logits(self, batch: Batch, pool: KvPool) -> torch.Tensor:
        """forward and the head of every row -> logits [T, vocab], as the head's kernel leaves them."""
        if self.blocks:
            return self.logits(self.forward(batch, pool))
        return self.ops.head_logits(self._run(batch, pool), self.final_norm, self.head)

    def _run(self, batch: Batch, pool: KvPool) -> Stream:
        ops, layers = self.ops, self.layers
        ops.begin(batch.ids.shape[0])
        stream = ops.enter(self.embedding, batch, layers[0].attn_norm)
        for i, (layer, kv) in enumerate(zip(layers, pool.layers, strict=True)):
            following = self.final_norm if i + 1 == len(layers) else layers[i + 1].attn_norm
            qkv = ops.project(stream, layer.attn_norm, layer.qkv)
            attended = ops.attend(
                qkv, batch, pool, kv, self.ropes[i], layer.q_norm, layer.k_norm, self.spec.window(i)
            )
            ops.advance(stream, attended, layer.o, layer.mlp_norm)
            gated = ops.gate(stream, layer.mlp_norm, layer.gate_up, layer.down)
            ops.advance(stream, gated, layer.down, following)
        return stream
