"""The decoder's operations in plain torch: the CPU's path, and any device's reference.

Shapes: T rows, C hidden, Hq query heads, Hk KV heads, D head size, S cached tokens of a sequence.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
import torch.nn.functional as F

from quantchat.kv_formats import KV_ROTATED, VectorFormat
from quantchat.ops import run_views
from quantchat.ops.batch import Batch
from quantchat.ops.embedding import Embedding
from quantchat.ops.hadamard import rotated
from quantchat.ops.kv_codec import quantize_kv
from quantchat.ops.kv_pool import KvLayer, KvPool
from quantchat.ops.linear import DenseLinear, LinearForm, LinearOp
from quantchat.ops.linear_cpu import COPY_ROWS, cpu_linear
from quantchat.ops.plain import Experts, Norm, activated
from quantchat.ops.quantized_rows import QuantizedRows
from quantchat.ops.rope import RopeTable
from quantchat.ops.span_attention import SpanAttention
from quantchat.ops.stream import Stream
from quantchat.quant.scheme import ActivationFormat
from quantchat.quant.tensor import StoredWeight
from quantchat.spec import DecoderSpec

CASTS: Mapping[torch.dtype, Callable[[torch.Tensor], torch.Tensor]] = MappingProxyType(
    {
        torch.bfloat16: torch.Tensor.bfloat16,
        torch.float16: torch.Tensor.half,
        torch.float32: torch.Tensor.float,
    }
)
"""To a compute dtype; these take two thirds of `to`'s time."""


class TorchOps:
    """Every operation the decoder calls, for one device and compute dtype."""

    def __init__(
        self,
        spec: DecoderSpec,
        *,
        device: torch.device,
        dtype: torch.dtype,
        copy_dtype: torch.dtype | None = None,
        activations: ActivationFormat = "16bit",
        all_rows: bool = False,
    ) -> None:
        """`activations`: what the inputs of the decoder's linears are rounded to, where many rows are
        multiplied, or with `all_rows` any; never the head's.
        """
        self.spec = spec
        self.device = device
        self.dtype = dtype
        self.copy_dtype = copy_dtype
        self.activations: ActivationFormat = activations
        self.all_rows = all_rows and activations != "16bit"
        self._inverse_hidden = 1 / spec.hidden
        self._on_cpu = device.type == "cpu"
        self._rounded = CASTS[dtype]
        self._span_attention: SpanAttention = SpanAttention(spec=spec, device=device, dtype=dtype)

    def begin(self, rows: int) -> None:
        """Called before a pass over so many rows.

        oneDNN's bf16 product of a row and a matrix reads weights at half the speed of torch's own;
        for many rows it is the faster one. The switch is the process's.
        """
        if self.device.type == "cpu":
            torch._C._set_mkldnn_enabled(rows >= COPY_ROWS)

    def linear(
        self, weight: StoredWeight, bias: torch.Tensor | None, *, gated: bool = False
    ) -> LinearOp:
        """The op that runs a stored weight here; `gated`: gate above up, for `gate` alone."""
        if self.device.type == "cpu":
            return cpu_linear(
                weight,
                bias,
                dtype=self.dtype,
                copy_dtype=self.copy_dtype,
                activations=self.activations,
                all_rows=self.all_rows,
            )
        return DenseLinear(weight.dequantize(self.dtype), bias)

    def banked(self, experts: Experts) -> Experts:
        """Experts as they are best held here."""
        return experts

    @property
    def layout(self) -> str:
        """Name of how linears lie in memory here; packed files of other layouts are not read."""
        return f"stored-{str(self.dtype).removeprefix('torch.')}"

    def restore(self, form: LinearForm, *, gated: bool = False) -> LinearOp:
        """The op that gave the form; ValueError where there is none of that kind here."""
        raise ValueError(f"no op here has the form {form.form!r}")

    def head(self, weight: StoredWeight) -> LinearOp:
        """The op of the output head, which sees few rows: never a copy for many."""
        if self.device.type == "cpu":
            return cpu_linear(weight, None, dtype=self.dtype, copy_dtype=None)
        return DenseLinear(weight.dequantize(self.dtype), None)

    def embed(self, embedding: Embedding, batch: Batch) -> torch.Tensor:
        """The batch's ids -> the residual stream's first value, float32 [T, C]."""
        assert not batch.page_tokens, "slots are written by the card's op alone"
        return embedding(batch.ids)

    def rms_norm(self, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """RMSNorm as in Llama: float32 inside, cast, then times weight. x [T, C] -> [T, C]."""
        if self._on_cpu and x.shape[0] == 1:
            # One row: a dot and two products take half the time of the fused norm.
            row = x[0]
            mean_square = float(torch.dot(row, row)) * self._inverse_hidden
            scaled = torch.mul(x, (mean_square + self.spec.norm_eps) ** -0.5)
        else:
            scaled = F.rms_norm(x, (x.shape[-1],), None, self.spec.norm_eps)
        return self._rounded(scaled).mul_(weight)

    def enter(self, embedding: Embedding, batch: Batch, norm: torch.Tensor) -> Stream:
        """The stream of a batch before a layer whose first norm has the weight `norm` [C]."""
        return Stream(residual=self.embed(embedding, batch))

    def project(self, stream: Stream, norm: torch.Tensor, op: LinearOp) -> torch.Tensor:
        """A linear of the normed stream -> [T, N]."""
        return op(self.normed(stream, norm))

    def gate(
        self, stream: Stream, norm: torch.Tensor, op: LinearOp, then: LinearOp
    ) -> torch.Tensor | QuantizedRows:
        """silu(gate) * up of the normed stream, as `then` reads it [T, I]."""
        return self.silu_mul(self.project(stream, norm, op))

    def advance(
        self,
        stream: Stream,
        x: torch.Tensor | QuantizedRows,
        op: LinearOp,
        following: torch.Tensor,
    ) -> None:
        """Adds a linear of x to the stream, before a norm with the weight `following` [C]."""
        assert isinstance(x, torch.Tensor)
        stream.pending = op(x)

    def leave(self, stream: Stream, norm: torch.Tensor) -> torch.Tensor:
        """The stream's norm after the last layer [T, C]."""
        return self.normed(stream, norm)

    def head_logits(self, stream: Stream, norm: torch.Tensor, head: LinearOp) -> torch.Tensor:
        """The head of the normed stream [T, vocab]."""
        return head(self.leave(stream, norm))

    def normed(self, stream: Stream, norm: torch.Tensor) -> torch.Tensor:
        """The stream's norm [T, C] in the compute dtype, what is pending added before."""
        if stream.pending is None:
            return self.rms_norm(stream.residual, norm)
        x, stream.residual = self.add_rms_norm(stream.pending, stream.residual, norm)
        stream.pending = None
        return x

    def add_rms_norm(
        self, x: torch.Tensor, residual: torch.Tensor, weight: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """residual + x, and its norm. x [T, C] compute dtype, residual float32 [T, C]."""
        residual = residual.add_(x)
        return self.rms_norm(residual, weight), residual

    def silu_mul(self, gate_up: torch.Tensor) -> torch.Tensor:
        """silu(gate) * up of the fused [T, 2 I] -> [T, I]."""
        gate, up = gate_up.chunk(2, dim=-1)
        return F.silu(gate).mul_(up)

    def open_stream(
        self, embedding: Embedding, batch: Batch, ahead: Norm | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """A batch's stream float32 [T, C], and its norm as of `add_norm`."""
        residual = self.embed(embedding, batch)
        if self.spec.embedding_scale != 1:
            residual = residual * self.spec.embedding_scale
        return self.add_norm(residual, (), None, ahead)

    def add_norm(
        self,
        residual: torch.Tensor,
        made: tuple[torch.Tensor, ...],
        behind: Norm | None,
        ahead: Norm | None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The stream with what sub-blocks made, and its norm [T, C] in the compute dtype.

        residual float32 [T, C], spent; made: none, one or two [T, C], their sum goes through the norm
        `behind`. Without `ahead` the stream is rounded alone.
        """
        spec = self.spec
        if made:
            total = made[0] if len(made) == 1 else made[0].float() + made[1]
            total = total if behind is None else self._normed(total, behind)
            scale = spec.residual_scale
            residual = residual + (total if scale == 1 else total.float() * scale)
        return residual, residual.to(self.dtype) if ahead is None else self._normed(residual, ahead)

    def _normed(self, x: torch.Tensor, norm: Norm) -> torch.Tensor:
        return norm(x, kind=self.spec.norm, eps=self.spec.norm_eps, dtype=self.dtype)

    def product(self, x: torch.Tensor, op: LinearOp) -> torch.Tensor:
        """A linear of rows as they are [T, K] -> [T, N]."""
        return op(x)

    def inner(self, x: torch.Tensor, op: LinearOp) -> torch.Tensor:
        """Activation of gate times up, or of up alone: [T, C] -> [T, I]."""
        spec, made = self.spec, op(x)
        if not spec.gated:
            return activated(made, spec.activation)
        gate, up = made.chunk(2, dim=-1)
        return activated(gate, spec.activation) * up

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
        """Put k and v into the cache and attend to it. qkv [T, (Hq + 2 Hk) D] -> [T, Hq * D]."""
        q = self._append(qkv, batch, layer, rope, q_norm, k_norm, pool)
        return self._attention(q, batch, pool, layer, window)

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
        """Turn q and k, put k and v into the cache. qkv [T, (Hq + 2 Hk) D] -> q [T, Hq, D]."""
        spec = self.spec
        rows = qkv.view(qkv.shape[0], -1, spec.head_dim)
        turned = rows[:, : spec.heads + spec.kv_heads].float()
        if q_norm is not None and k_norm is not None:
            turned = self._head_norm(turned, q_norm, k_norm)
        turned = self._rounded(rope.turned(turned, _turns(rope, batch)))
        if pool.precision in KV_ROTATED:
            turned = rotated(turned)
        k = turned[:, spec.heads :]
        v = rows[:, spec.heads + spec.kv_heads :]
        _write(k, v, batch, pool, layer)
        return turned[:, : spec.heads]

    def _head_norm(
        self, heads: torch.Tensor, q_norm: torch.Tensor, k_norm: torch.Tensor
    ) -> torch.Tensor:
        if self.spec.norm != "rms" or self.spec.qk_norm_wide:
            return self._float_head_norm(heads, q_norm, k_norm)
        normed = F.rms_norm(heads, (heads.shape[-1],), None, self.spec.norm_eps).to(self.dtype)
        return torch.cat(
            (normed[:, : self.spec.heads] * q_norm, normed[:, self.spec.heads :] * k_norm), dim=1
        ).float()

    def _float_head_norm(
        self, heads: torch.Tensor, q_norm: torch.Tensor, k_norm: torch.Tensor
    ) -> torch.Tensor:
        """Norms multiplied in float32, over each head or over all of q's and all of k's together."""
        made = []
        count = self.spec.heads
        for part, weight in ((heads[:, :count], q_norm), (heads[:, count:], k_norm)):
            rows = part.flatten(1) if self.spec.qk_norm_wide else part
            normed = F.rms_norm(rows, rows.shape[-1:], weight.float(), self.spec.norm_eps)
            made.append(normed.view(part.shape).to(self.dtype))
        return torch.cat(made, dim=1).float()

    def _attention(
        self, q: torch.Tensor, batch: Batch, pool: KvPool, layer: KvLayer, window: int
    ) -> torch.Tensor:
        """Attention of each span's rows over its sequence. q [T, Hq, D] -> [T, Hq * D]."""
        attend = self._span_attention
        parts = [attend(q, batch, span, pool, layer, window) for span in batch.spans]
        return parts[0] if len(parts) == 1 else torch.cat(parts)


def _turns(rope: RopeTable, batch: Batch) -> torch.Tensor:
    """The turns of the batch's positions, the same for all layers of one table."""
    key = ("turns", id(rope), 0)
    turns = batch.shared.get(key)
    if turns is None:
        turns = batch.shared[key] = rope.turns(batch.positions)
    return turns


def _write(k: torch.Tensor, v: torch.Tensor, batch: Batch, pool: KvPool, layer: KvLayer) -> None:
    """Put k and v [T, Hk, D] at the batch's slots."""
    if not pool.rounded and len(batch.spans) == 1 and batch.spans[0].run is not None:
        k_place, v_place = run_views.fresh(pool, batch, batch.spans[0])[layer.index]
        k_place.copy_(k)
        v_place.copy_(v)
        return
    _put(layer.k, layer.k_params, k, batch, pool.k_format)
    _put(layer.v, layer.v_params, v, batch, pool.v_format)


def _put(
    cache: torch.Tensor,
    params: torch.Tensor | None,
    values: torch.Tensor,
    batch: Batch,
    form: VectorFormat,
) -> None:
    if params is None:
        _store(cache, values.to(cache.dtype), batch)
        return
    codes, fresh = quantize_kv(values, form)
    _store(cache, codes, batch)
    _store(params, fresh, batch)


def _store(cache: torch.Tensor, values: torch.Tensor, batch: Batch) -> None:
    flat = cache.flatten(0, 1)
    if len(batch.spans) == 1:
        span = batch.spans[0]
        if span.run is not None:
            start = span.run * cache.shape[1] + span.length - span.count
            flat[start : start + span.count].copy_(values)
            return
    flat.index_copy_(0, batch.slots, values)
