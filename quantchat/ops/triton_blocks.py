"""A card's operations of blocks whose sums and norms do not ride on linears, and of experts."""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F

from quantchat.kernels.activation.rows import activate
from quantchat.kernels.norm.reference import RowNorm
from quantchat.kernels.norm.stream import stream_norm
from quantchat.ops.batch import Batch
from quantchat.ops.embedding import Embedding
from quantchat.ops.expert_bank import bank_of
from quantchat.ops.few_inputs import FewInputs, InputRounding, run_rows
from quantchat.ops.linear import LinearOp
from quantchat.ops.linear_tiles import TileLinear, gate_kind, takes_gate
from quantchat.ops.plain import Experts, Norm
from quantchat.ops.torch_ops import TorchOps
from quantchat.quant.scheme import ActivationFormat
from quantchat.spec import DecoderSpec


class TritonBlocks(TorchOps):
    """TorchOps with the operations of such blocks replaced by kernels."""

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
            spec, device=device, dtype=dtype, activations=activations, all_rows=all_rows
        )
        self._dependent = dependent_launch
        self._rounding = InputRounding.of(activations) if self.all_rows else None

    def banked(self, experts: Experts) -> Experts:
        """See TorchOps.banked; in one piece where a launch can choose between them."""
        if self._rounding is not None or not takes_gate(self.spec):
            return experts
        made = bank_of(experts.mlps, gate_kind(self.spec), dependent=self._dependent)
        if made is None:
            return experts
        return replace(experts, bank=made[0], mlps=made[1])

    def open_stream(
        self, embedding: Embedding, batch: Batch, ahead: Norm | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """See TorchOps.open_stream; the rows are rounded to the compute dtype first."""
        rows = self.embed(embedding, batch)
        residual = torch.empty(rows.shape, dtype=torch.float32, device=self.device)
        scale = self.spec.embedding_scale
        return residual, self._summed(residual, (rows,), None, ahead, scale=scale, fresh=True)

    def add_norm(
        self,
        residual: torch.Tensor,
        made: tuple[torch.Tensor, ...],
        behind: Norm | None,
        ahead: Norm | None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """See TorchOps.add_norm; one launch, the stream changed in place."""
        scale = self.spec.residual_scale
        return residual, self._summed(residual, made, behind, ahead, scale=scale)

    def _summed(
        self,
        residual: torch.Tensor,
        made: tuple[torch.Tensor, ...],
        behind: Norm | None,
        ahead: Norm | None,
        *,
        scale: float,
        fresh: bool = False,
    ) -> torch.Tensor:
        y: torch.Tensor = stream_norm(
            residual,
            made,
            kind=self.spec.norm,
            eps=self.spec.norm_eps,
            dtype=self.dtype,
            behind=None if behind is None else RowNorm(behind.weight, behind.bias),
            ahead=None if ahead is None else RowNorm(ahead.weight, ahead.bias),
            scale=scale,
            fresh=fresh,
            dependent=self._dependent,
        )
        return y

    def product(self, x: torch.Tensor, op: LinearOp) -> torch.Tensor:
        """See TorchOps.product."""
        return run_rows(op, x, self._rounding, self._dependent)

    def inner(self, x: torch.Tensor, op: LinearOp) -> torch.Tensor:
        """See TorchOps.inner; one launch for few rows where the linear takes its gate along."""
        spec = self.spec
        if isinstance(op, TileLinear) and op.gated and x.shape[0] <= op.few_rows:
            inputs = FewInputs(x, None, 0.0, self._rounding, self._dependent)
            return inputs.through(op, gated=True, gate=gate_kind(spec))
        y: torch.Tensor = activate(
            self.product(x, op), spec.activation, gated=spec.gated, dependent=self._dependent
        )
        return y

    def narrowed(
        self, qkv: torch.Tensor, q_norm: torch.Tensor | None, k_norm: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None]:
        """Rows and norms as the kernels take them: norms over all heads are taken here."""
        spec = self.spec
        if q_norm is None or k_norm is None:
            return qkv, None, None
        if not spec.qk_norm_wide:
            return qkv, q_norm.to(self.dtype), k_norm.to(self.dtype)
        widths = [q_norm.shape[0], k_norm.shape[0], k_norm.shape[0]]
        q, k, v = torch.split(qkv, widths, dim=-1)
        normed = [
            F.rms_norm(part.float(), weight.shape, weight, spec.norm_eps).to(self.dtype)
            for part, weight in ((q, q_norm), (k, k_norm))
        ]
        return torch.cat((*normed, v), dim=-1), None, None
