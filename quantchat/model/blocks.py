"""The way through blocks that fused kernels do not cover: one norm, product and sum at a time.

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
    """Runs blocks under ops that compute in plain torch."""

    ops: TorchOps

    def run(
        self,
        embedding: Embedding,
        blocks: tuple[Block, ...],
        ropes: tuple[RopeTable, ...],
        batch: Batch,
        pool: KvPool,
    ) -> torch.Tensor:
        """The residual stream behind the last block, float32 [T, C]."""
        spec = self.ops.spec
        self.ops.begin(batch.ids.shape[0])
        residual = embedding(batch.ids)
        if spec.embedding_scale != 1:
            residual = residual * spec.embedding_scale
        for i, (block, kv, rope) in enumerate(zip(blocks, pool.layers, ropes, strict=True)):
            residual = self._block(residual, block, batch, pool, kv, rope, spec.window(i))
        return residual

    def normed(self, x: torch.Tensor, norm: Norm) -> torch.Tensor:
        """A norm of the spec's kind, in the compute dtype."""
        spec = self.ops.spec
        return norm(x, kind=spec.norm, eps=spec.norm_eps, dtype=self.ops.dtype)

    def _block(
        self,
        residual: torch.Tensor,
        block: Block,
        batch: Batch,
        pool: KvPool,
        kv: KvLayer,
        rope: RopeTable,
        window: int,
    ) -> torch.Tensor:
        ops, placement = self.ops, self.ops.spec.placement
        post = placement == "post"
        x = residual.to(ops.dtype) if post else self.normed(residual, block.attn_norm)
        out = block.o(
            ops.attend(block.qkv(x), batch, pool, kv, rope, block.q_norm, block.k_norm, window)
        )
        if placement in ("parallel", "parallel_two"):
            y = x if block.mlp_norm is None else self.normed(residual, block.mlp_norm)
            return self._sum(residual, out.float() + self._mlp(block, y))
        assert block.mlp_norm is not None
        behind = block.attn_norm if post else block.attn_post_norm
        residual = self._sum(residual, out if behind is None else self.normed(out, behind))
        y = residual.to(ops.dtype) if post else self.normed(residual, block.mlp_norm)
        out = self._mlp(block, y)
        behind = block.mlp_norm if post else block.mlp_post_norm
        return self._sum(residual, out if behind is None else self.normed(out, behind))

    def _mlp(self, block: Block, x: torch.Tensor) -> torch.Tensor:
        spec = self.ops.spec
        return block.mlp(x, spec.activation, gated=spec.gated)

    def _sum(self, residual: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
        scale = self.ops.spec.residual_scale
        return residual + (out if scale == 1 else out.float() * scale)
