"""The way through blocks whose sums and norms do not ride on linears: one product at a time.

Driven by the spec alone. The residual stream is float32. Llama-like blocks go through the decoder's
own loop.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from quantchat.ops.batch import Batch
from quantchat.ops.embedding import Embedding
from quantchat.ops.kv_pool import KvLayer, KvPool
from quantchat.ops.linear import LinearOp
from quantchat.ops.plain import Experts, Mlp, Norm
from quantchat.ops.rope import RopeTable
from quantchat.ops.torch_ops import TorchOps


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Block:
    """One block's weights; norms that its placement does not have are None."""

    attn_norm: Norm
    """Before the attention, but behind it where norms are behind sub-blocks only."""
    attn_post_norm: Norm | None
    mlp_norm: Norm | None
    mlp_post_norm: Norm | None
    qkv: LinearOp
    q_norm: torch.Tensor | None
    k_norm: torch.Tensor | None
    o: LinearOp
    mlp: Mlp | Experts

    @property
    def linears(self) -> tuple[LinearOp, ...]:
        """All linears in the order of execution."""
        return self.qkv, self.o, *self.mlp.linears

    @property
    def read_bytes(self) -> int:
        """Weight bytes that one row reads."""
        attention = self.qkv.weight_bytes + self.o.weight_bytes
        if isinstance(self.mlp, Experts):
            return attention + self.mlp.read_bytes
        return attention + sum(op.weight_bytes for op in self.mlp.linears)


@dataclass(frozen=True, slots=True)
class BlockRunner:
    """Runs blocks under the ops of a device."""

    ops: TorchOps

    def run(
        self,
        embedding: Embedding,
        blocks: tuple[Block, ...],
        ropes: tuple[RopeTable, ...],
        batch: Batch,
        pool: KvPool,
        final: Norm,
    ) -> torch.Tensor:
        """The final norm of the stream behind the last block, compute dtype [T, C]."""
        ops, placement = self.ops, self.ops.spec.placement
        ops.begin(batch.ids.shape[0])
        residual, x = ops.open_stream(embedding, batch, self._before(blocks[0]))
        for i, (block, kv, rope) in enumerate(zip(blocks, pool.layers, ropes, strict=True)):
            following = self._before(blocks[i + 1]) if i + 1 < len(blocks) else final
            made = self._attention(x, block, batch, pool, kv, rope, ops.spec.window(i))
            if placement in ("parallel", "parallel_two"):
                beside = x
                if block.mlp_norm is not None:
                    residual, beside = ops.add_norm(residual, (), None, block.mlp_norm)
                both = (made, block.mlp(beside, ops))
                residual, x = ops.add_norm(residual, both, None, following)
                continue
            post = placement == "post"
            behind = block.attn_norm if post else block.attn_post_norm
            ahead = None if post else block.mlp_norm
            residual, x = ops.add_norm(residual, (made,), behind, ahead)
            behind = block.mlp_norm if post else block.mlp_post_norm
            residual, x = ops.add_norm(residual, (block.mlp(x, ops),), behind, following)
        return x

    def _before(self, block: Block) -> Norm | None:
        """The norm that a block begins with."""
        return None if self.ops.spec.placement == "post" else block.attn_norm

    def _attention(
        self,
        x: torch.Tensor,
        block: Block,
        batch: Batch,
        pool: KvPool,
        kv: KvLayer,
        rope: RopeTable,
        window: int,
    ) -> torch.Tensor:
        ops = self.ops
        qkv = ops.product(x, block.qkv)
        attended = ops.attend(qkv, batch, pool, kv, rope, block.q_norm, block.k_norm, window)
        return ops.product(attended, block.o)
