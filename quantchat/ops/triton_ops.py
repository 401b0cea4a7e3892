"""The decoder's operations on a card with Triton: fused kernels, nothing read back.

Decode attention reads pages in place; the library's, for prompts, has rounded ones read for it.
The residual stream is in the compute dtype, in float32 under blocks that are not as Llama's.
"""

from __future__ import annotations

import torch

from quantchat.kernels._launch import sm_count, sm_version
from quantchat.kernels.activation.rows import activate, activate_quantized
from quantchat.kernels.attention.attend import attend
from quantchat.kernels.attention.splits import Splits, splits_for
from quantchat.kernels.attention.workspace import Workspace
from quantchat.kernels.linear.launch import LOWEST_SM, NextNorm
from quantchat.kernels.linear.reference import PARTIAL_COLUMNS
from quantchat.kernels.norm.rows import Normed, norm_rows
from quantchat.kernels.rope_append.append import rope_append
from quantchat.ops.batch import Batch
from quantchat.ops.embedding import Embedding
from quantchat.ops.embedding_cuda import embed_batch
from quantchat.ops.few_inputs import FewInputs, InputRounding, run_rows
from quantchat.ops.kv_pool import KvLayer, KvPool
from quantchat.ops.linear import LinearForm, LinearOp, StackedLinear
from quantchat.ops.linear_cuda import cuda_linear, restored_linear
from quantchat.ops.linear_tiles import TileLinear, takes_gate
from quantchat.ops.quantized_rows import CodeFormat, QuantizedRows
from quantchat.ops.rope import RopeTable
from quantchat.ops.span_attention_cuda import CardSpanAttention
from quantchat.ops.stream import Stream
from quantchat.ops.triton_blocks import TritonBlocks
from quantchat.quant.scheme import ActivationFormat
from quantchat.quant.tensor import StoredWeight
from quantchat.spec import DecoderSpec

FUSED_ROWS = 8
"""Up to this many rows no norm runs by itself."""


def _takes(op: LinearOp, rows: int) -> bool:
    return isinstance(op, TileLinear) and rows <= op.few_rows


def _code_reader(op: LinearOp, rows: int) -> tuple[TileLinear, CodeFormat] | None:
    """The linear and the codes that it reads, where it reads such of so many rows."""
    if not isinstance(op, TileLinear) or op.codes_read is None or rows <= op.few_rows:
        return None
    return op, op.codes_read


class TritonOps(TritonBlocks):
    """TorchOps with the hot operations replaced by kernels."""

    def __init__(
        self,
        spec: DecoderSpec,
        *,
        device: torch.device,
        dtype: torch.dtype,
        dependent_launch: bool,
        activations: ActivationFormat = "16bit",
        all_rows: bool = False,
    ) -> None:
        super().__init__(
            spec,
            device=device,
            dtype=dtype,
            dependent_launch=dependent_launch,
            activations=activations,
            all_rows=all_rows,
        )
        self._span_attention = CardSpanAttention(spec=spec, device=device, dtype=dtype)
        self._workspaces: dict[tuple[int, int], Workspace] = {}

    def linear(
        self, weight: StoredWeight, bias: torch.Tensor | None, *, gated: bool = False
    ) -> LinearOp:
        """See TorchOps.linear."""
        return cuda_linear(
            weight,
            bias,
            dtype=self.dtype,
            gated=gated and takes_gate(self.spec),
            activations=self.activations,
            all_rows=self.all_rows,
            dependent=self._dependent,
        )

    def head(self, weight: StoredWeight) -> LinearOp:
        """See TorchOps.head; its inputs stay in 16 bits."""
        return cuda_linear(
            weight,
            None,
            dtype=self.dtype,
            gated=False,
            activations="16bit",
            dependent=self._dependent,
        )

    @property
    def layout(self) -> str:
        """See TorchOps.layout; ops differ between cards, so that no file moves to another kind."""
        return f"card-sm{sm_version(self.device)}-{str(self.dtype).removeprefix('torch.')}"

    def restore(self, form: LinearForm, *, gated: bool = False) -> LinearOp:
        """See TorchOps.restore."""
        return restored_linear(
            form,
            device=self.device,
            dtype=self.dtype,
            gated=gated and takes_gate(self.spec),
            activations=self.activations,
            dependent=self._dependent,
        )

    @property
    def dependent_launch(self) -> bool:
        """Whether kernels start before the one ahead has ended."""
        return self._dependent

    def embed(self, embedding: Embedding, batch: Batch) -> torch.Tensor:
        """See TorchOps.embed; in the compute dtype, and the batch's slots where it asks for them."""
        return embed_batch(embedding, batch, self.dtype, dependent=self._dependent).rows

    def enter(self, embedding: Embedding, batch: Batch, norm: torch.Tensor) -> Stream:
        """See TorchOps.enter."""
        if not self._fuses(batch.ids.shape[0]):
            return super().enter(embedding, batch, norm)
        made = embed_batch(embedding, batch, self.dtype, gamma=norm, dependent=self._dependent)
        return Stream(residual=made.rows, scaled=made.scaled, squares=made.partials)

    def project(self, stream: Stream, norm: torch.Tensor, op: LinearOp) -> torch.Tensor:
        """See TorchOps.project; without a norm where the linear divides by the mean itself."""
        return self._project(stream, norm, op, self._rounding)

    def head_logits(self, stream: Stream, norm: torch.Tensor, head: LinearOp) -> torch.Tensor:
        """See TorchOps.head_logits; float32 where the kernel writes it."""
        return self._project(stream, norm, head, None, torch.float32)

    def _project(
        self,
        stream: Stream,
        norm: torch.Tensor,
        op: LinearOp,
        rounding: InputRounding | None,
        out_dtype: torch.dtype | None = None,
    ) -> torch.Tensor:
        rows = stream.residual.shape[0]
        parts = op.parts if isinstance(op, StackedLinear) else [op]
        if stream.scaled is None or not all(_takes(part, rows) for part in parts):
            return self._many_rows(stream, norm, op, rounding)
        width = op.out_features
        whole = torch.empty(rows, width, dtype=out_dtype or self.dtype, device=self.device)
        inputs = FewInputs(
            stream.scaled, stream.squares, self.spec.norm_eps, rounding, self._dependent
        )
        made, start = [], 0
        for part in parts:
            assert isinstance(part, TileLinear)
            stop = start + part.out_features
            out = whole[:, start:stop] if rows == 1 or len(parts) == 1 else None
            made.append(inputs.through(part, out=out, out_dtype=out_dtype))
            start = stop
        return whole if rows == 1 or len(parts) == 1 else torch.cat(made, dim=-1)

    def _many_rows(
        self, stream: Stream, norm: torch.Tensor, op: LinearOp, rounding: InputRounding | None
    ) -> torch.Tensor:
        """A linear after a norm of its own, in 8 bits where the linear reads those."""
        reader = _code_reader(op, stream.residual.shape[0])
        if reader is None:
            return run_rows(op, self.normed(stream, norm), rounding, self._dependent)
        product, form = reader
        made = self._norm(stream, norm, form, product.input_scale)
        assert made.scale is not None
        return product(QuantizedRows(made.values, made.scale))

    def gate(
        self, stream: Stream, norm: torch.Tensor, op: LinearOp, then: LinearOp
    ) -> torch.Tensor | QuantizedRows:
        """See TorchOps.gate; one launch for few rows, codes for many where `then` reads them."""
        rows = stream.residual.shape[0]
        if isinstance(op, TileLinear) and op.gated and rows <= op.few_rows:
            x, squares = stream.scaled, stream.squares
            if x is None:
                x, squares = self.normed(stream, norm), None
            eps = self.spec.norm_eps
            inputs = FewInputs(x, squares, eps, self._rounding, self._dependent)
            return inputs.through(op, gated=True)
        both = self.project(stream, norm, op)
        reader = _code_reader(then, rows)
        if reader is None:
            return self.silu_mul(both)
        product, form = reader
        return QuantizedRows(*activate_quantized(both, "silu", form, given=product.input_scale))

    def advance(
        self,
        stream: Stream,
        x: torch.Tensor | QuantizedRows,
        op: LinearOp,
        following: torch.Tensor,
    ) -> None:
        """See TorchOps.advance; few rows leave the next norm's inputs in the same launch."""
        rows = stream.residual.shape[0]
        stream.scaled = stream.squares = None
        if not isinstance(x, torch.Tensor):
            assert isinstance(op, TileLinear)
            stream.pending = op(x)
            return
        if not isinstance(op, TileLinear) or not self._fuses(rows) or not _takes(op, rows):
            stream.pending = run_rows(op, x, self._rounding, self._dependent)
            return
        assert stream.pending is None
        scaled = torch.empty_like(stream.residual)
        parts = -(-stream.residual.shape[1] // PARTIAL_COLUMNS)
        squares = torch.empty(rows, parts, dtype=torch.float32, device=self.device)
        following_norm = NextNorm(gamma=following, h=scaled, squares=squares)
        inputs = FewInputs(x, None, 0.0, self._rounding, self._dependent)
        inputs.through(op, residual=stream.residual, following=following_norm)
        stream.scaled, stream.squares = scaled, squares

    def normed(self, stream: Stream, norm: torch.Tensor) -> torch.Tensor:
        """See TorchOps.normed; the sum is rounded to the compute dtype."""
        y: torch.Tensor = self._norm(stream, norm).values
        return y

    def _norm(
        self,
        stream: Stream,
        norm: torch.Tensor,
        form: CodeFormat | None = None,
        given: torch.Tensor | None = None,
    ) -> Normed:
        """The stream's norm in one launch, in 16 bits or as codes; what was pending is added."""
        stream.scaled = stream.squares = None
        eps, residual, pending = self.spec.norm_eps, stream.residual, stream.pending
        stream.pending = None
        x, total = (residual, None) if pending is None else (pending, residual)
        made: Normed = norm_rows(x, norm, eps, residual=total, total=total, form=form, given=given)
        return made

    def _fuses(self, rows: int) -> bool:
        return rows <= FUSED_ROWS and sm_version(self.device) >= LOWEST_SM

    def rms_norm(self, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """See TorchOps.rms_norm."""
        y: torch.Tensor = norm_rows(x, weight, self.spec.norm_eps).values
        return y

    def silu_mul(self, gate_up: torch.Tensor) -> torch.Tensor:
        """See TorchOps.silu_mul."""
        y: torch.Tensor = activate(gate_up, "silu")
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
        qkv, q_norm, k_norm = self.narrowed(qkv, q_norm, k_norm)
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
            cap=spec.attention_softcap,
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
        known = self._workspaces.get(key)
        if known is None:
            spec = self.spec
            made = Workspace.create(
                rows, spec.heads, spec.kv_heads, spec.head_dim, splits, self.device
            )
            # A load that shares the weights may have made one meanwhile: one stays for good.
            known = self._workspaces.setdefault(key, made)
        return known

    def _append(
        self,
        qkv: torch.Tensor,
        batch: Batch,
        layer: KvLayer,
        rope: RopeTable,
        q_norm: torch.Tensor | None,
        k_norm: torch.Tensor | None,
        pool: KvPool,
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
            kv=pool.precision,
            k_params=layer.k_params,
            v_params=layer.v_params,
            q_weight=q_norm,
            k_weight=k_norm,
            eps=self.spec.norm_eps,
        )
        return q
