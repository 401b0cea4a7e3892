"""The decoder's operations on a card with Triton: fused kernels, nothing read back.

Decode attention reads pages in place; prefill attention gathers them for the library's kernel.
The residual stream is in the compute dtype.
"""

from __future__ import annotations

import torch

from quantchat.kernels._launch import sm_count, sm_version
from quantchat.kernels.activation.silu import silu_mul
from quantchat.kernels.attention.attend import attend
from quantchat.kernels.attention.splits import Splits, splits_for
from quantchat.kernels.attention.workspace import Workspace
from quantchat.kernels.norm.rms import add_rms_norm, rms_norm
from quantchat.kernels.rope_append.append import rope_append
from quantchat.ops.batch import Batch
from quantchat.ops.embedding import Embedding
from quantchat.ops.embedding_cuda import embed_batch
from quantchat.ops.kv_codec import KvPrecision
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
        self._workspaces: dict[tuple[int, int], Workspace] = {}

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

    def attend(
        self,
        qkv: torch.Tensor,
        batch: Batch,
        pool: KvPool,
        layer: KvLayer,
        rope: RopeTable,
        q_norm: torch.Tensor | None,
        k_norm: torch.Tensor | None,
        window: int,
    ) -> torch.Tensor:
        """See TorchOps.attend; one launch for a decode step."""
        if batch.block_table is None or batch.seq_lens is None:
            return super().attend(qkv, batch, pool, layer, rope, q_norm, k_norm, window)
        spec = self.spec
        splits = splits_for(
            qkv.shape[0],
            spec.heads,
            spec.kv_heads,
            spec.head_dim,
            batch.block_table.shape[1] * pool.page_tokens,
            pool.precision,
            sm=sm_version(self.device),
            sms=sm_count(self.device),
        )
        out: torch.Tensor = attend(
            qkv,
            batch.positions,
            batch.seq_lens,
            batch.slots,
            batch.block_table,
            rope.cos,
            rope.sin,
            layer.k,
            layer.v,
            heads=spec.heads,
            scale=spec.attention_scale,
            kv=pool.precision,
            window=window,
            k_params=layer.k_params,
            v_params=layer.v_params,
            q_weight=q_norm,
            k_weight=k_norm,
            eps=spec.norm_eps,
            workspace=self._workspace(qkv.shape[0], splits),
            splits=splits,
            dependent=self._dependent,
        )
        return out

    def _workspace(self, rows: int, splits: Splits) -> Workspace:
        """What the splits share, the same for all layers; kept, since graphs hold its addresses."""
        key = (rows, splits.count)
        if key not in self._workspaces:
            spec = self.spec
            self._workspaces[key] = Workspace.create(
                rows, spec.heads, spec.kv_heads, spec.head_dim, splits, self.device
            )
        return self._workspaces[key]

    def _append(
        self,
        qkv: torch.Tensor,
        batch: Batch,
        layer: KvLayer,
        rope: RopeTable,
        q_norm: torch.Tensor | None,
        k_norm: torch.Tensor | None,
        precision: KvPrecision,
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
            kv=precision,
            k_params=layer.k_params,
            v_params=layer.v_params,
            q_weight=q_norm,
            k_weight=k_norm,
            eps=self.spec.norm_eps,
        )
        return q
