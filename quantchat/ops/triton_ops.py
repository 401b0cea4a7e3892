"""The decoder's operations on a card with Triton: fused kernels, nothing read back.

Decode attention reads pages in place; prefill attention gathers them for the library's kernel.
The residual stream is in the compute dtype.
"""

from __future__ import annotations

import torch

from quantchat.kernels._launch import sm_version
from quantchat.kernels.activation.silu import silu_mul
from quantchat.kernels.attention.decode import decode
from quantchat.kernels.norm.rms import add_rms_norm, rms_norm
from quantchat.kernels.rope_append.append import rope_append
from quantchat.ops.batch import Batch
from quantchat.ops.embedding import Embedding
from quantchat.ops.embedding_cuda import embed_batch
from quantchat.ops.kv_pool import KvLayer, KvPool
from quantchat.ops.linear import LinearForm, LinearOp
from quantchat.ops.linear_cuda import cuda_linear, restored_linear
from quantchat.ops.rope import RopeTable
from quantchat.ops.torch_ops import TorchOps
from quantchat.quant.tensor import StoredWeight
from quantchat.spec import DecoderSpec


class TritonOps(TorchOps):
    """TorchOps with the hot operations replaced by kernels."""

    def __init__(
        self,
        spec: DecoderSpec,
        *,
        device: torch.device,
        dtype: torch.dtype,
        dependent_launch: bool,
    ) -> None:
        super().__init__(spec, device=device, dtype=dtype)
        self._dependent = dependent_launch

    def linear(self, weight: StoredWeight, bias: torch.Tensor | None) -> LinearOp:
        """The op that runs a stored weight here."""
        return cuda_linear(weight, bias, dtype=self.dtype, dependent=self._dependent)

    @property
    def layout(self) -> str:
        """See TorchOps.layout; ops differ between cards, so that no file moves to another kind."""
        return f"card-sm{sm_version(self.device)}-{str(self.dtype).removeprefix('torch.')}"

    def restore(self, form: LinearForm) -> LinearOp:
        """See TorchOps.restore."""
        return restored_linear(form, dependent=self._dependent)

    @property
    def dependent_launch(self) -> bool:
        """Whether kernels start before the one ahead has ended."""
        return self._dependent

    def embed(self, embedding: Embedding, batch: Batch) -> torch.Tensor:
        """See TorchOps.embed; in the compute dtype, and the batch's slots where it asks for them."""
        return embed_batch(embedding, batch, self.dtype, dependent=self._dependent).rows

    def rms_norm(self, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """See TorchOps.rms_norm."""
        y: torch.Tensor = rms_norm(x, weight, self.spec.norm_eps)
        return y

    def add_rms_norm(
        self, x: torch.Tensor, residual: torch.Tensor, weight: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """See TorchOps.add_rms_norm; the sum is rounded to the compute dtype."""
        pair: tuple[torch.Tensor, torch.Tensor] = add_rms_norm(
            x, residual, weight, self.spec.norm_eps, total=residual
        )
        return pair

    def silu_mul(self, gate_up: torch.Tensor) -> torch.Tensor:
        """See TorchOps.silu_mul."""
        y: torch.Tensor = silu_mul(gate_up)
        return y

    def _append(
        self,
        qkv: torch.Tensor,
        batch: Batch,
        layer: KvLayer,
        rope: RopeTable,
        q_norm: torch.Tensor | None,
        k_norm: torch.Tensor | None,
    ) -> torch.Tensor:
        """See TorchOps._append."""
        q: torch.Tensor = rope_append(
            qkv,
            batch.positions,
            rope.cos,
            rope.sin,
            batch.slots,
            layer.k,
            layer.v,
            heads=self.spec.heads,
            k_params=layer.k_params,
            v_params=layer.v_params,
            q_weight=q_norm,
            k_weight=k_norm,
            eps=self.spec.norm_eps,
        )
        return q

    def _attention(
        self, q: torch.Tensor, batch: Batch, pool: KvPool, layer: KvLayer, window: int
    ) -> torch.Tensor:
        """See TorchOps._attention."""
        if batch.block_table is None or batch.seq_lens is None:
            return super()._attention(q, batch, pool, layer, window)
        out: torch.Tensor = decode(
            q,
            layer.k,
            layer.v,
            batch.block_table,
            batch.seq_lens,
            scale=self.spec.attention_scale,
            window=window,
            k_params=layer.k_params,
            v_params=layer.v_params,
        )
        return out.flatten(1)
