"""Operations of blocks that fused kernels do not cover, in plain torch on any device.

T rows, C width, E experts. Norms and sums in float32, products in the type of the linears.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

import torch
import torch.nn.functional as F

from quantchat.ops.linear import LinearForm, LinearOp
from quantchat.spec import Activation, DecoderSpec, ExpertsSpec, NormKind


@dataclass(frozen=True, slots=True, eq=False)
class Norm:
    """A norm's weight [C] and, of LayerNorm, its bias [C]; float32."""

    weight: torch.Tensor
    bias: torch.Tensor | None = None

    def __call__(
        self, x: torch.Tensor, *, kind: NormKind, eps: float, dtype: torch.dtype
    ) -> torch.Tensor:
        """x [T, C] of any type -> `dtype` [T, C]."""
        wide = x.float()
        if kind == "layer":
            return F.layer_norm(wide, wide.shape[-1:], self.weight, self.bias, eps).to(dtype)
        normed = F.rms_norm(wide, wide.shape[-1:], None, eps)
        if kind == "rms_float":
            return normed.mul_(self.weight).to(dtype)
        return normed.to(dtype).mul_(self.weight.to(dtype))


class Products(Protocol):
    """What an MLP asks of the device's ops."""

    def product(self, x: torch.Tensor, op: LinearOp) -> torch.Tensor:
        """A linear of rows as they are [T, K] -> [T, N]."""

    def inner(self, x: torch.Tensor, op: LinearOp) -> torch.Tensor:
        """Activation of gate times up, or of up alone: [T, C] -> [T, I]."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Mlp:
    """Gate above up, or up alone, and down."""

    gate_up: LinearOp
    down: LinearOp

    @property
    def linears(self) -> tuple[LinearOp, ...]:
        """In the order of execution."""
        return self.gate_up, self.down

    def with_linears(self, change: Callable[[LinearOp], LinearOp]) -> Mlp:
        """The same MLP on changed linears."""
        return Mlp(gate_up=change(self.gate_up), down=change(self.down))

    def __call__(self, x: torch.Tensor, ops: Products) -> torch.Tensor:
        """x [T, C] -> [T, C]."""
        return ops.product(ops.inner(x, self.gate_up), self.down)


class Bank(Protocol):
    """All experts at once, without reading back which rows take which."""

    def row_counts(self, active: int) -> tuple[int, ...]:
        """Rows for which launches differ, A experts each."""

    def choose(
        self, scores: torch.Tensor, active: int, *, renormalise: bool
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """scores float32 [T, E] -> shares float32 and experts int32 [T, A]."""

    def routes(self, x: torch.Tensor) -> bool:
        """Whether `route` is the faster way for rows x [T, C]."""

    def route(
        self, x: torch.Tensor, router: torch.Tensor, active: int, *, renormalise: bool
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The same from rows and the router float32 [E, C]."""

    def __call__(
        self, x: torch.Tensor, experts: torch.Tensor, shares: torch.Tensor
    ) -> torch.Tensor:
        """x [T, C], experts int [T, A], shares float32 [T, A] -> float32 [T, C]."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Experts:
    """MLPs and the router that picks a few of them for each row."""

    spec: ExpertsSpec
    router: torch.Tensor
    """float32 [E, C]."""
    mlps: tuple[Mlp, ...]
    shared: Mlp | None = None
    shared_gate: torch.Tensor | None = None
    """float32 [C]."""
    bank: Bank | None = None
    """Serves any rows, where there is one."""

    @property
    def linears(self) -> tuple[LinearOp, ...]:
        """Of all experts, the shared one last."""
        every = (*self.mlps, *(() if self.shared is None else (self.shared,)))
        return tuple(op for mlp in every for op in mlp.linears)

    @property
    def read_bytes(self) -> int:
        """Weight bytes that one row reads."""
        one = sum(op.weight_bytes for op in self.mlps[0].linears) * self.spec.active
        return one + (
            0 if self.shared is None else sum(o.weight_bytes for o in self.shared.linears)
        )

    def with_linears(self, change: Callable[[LinearOp], LinearOp]) -> Experts:
        """The same experts on changed linears."""
        shared = None if self.shared is None else self.shared.with_linears(change)
        mlps = tuple(mlp.with_linears(change) for mlp in self.mlps)
        return replace(self, mlps=mlps, shared=shared, bank=None)

    def __call__(self, x: torch.Tensor, ops: Products) -> torch.Tensor:
        """x [T, C] -> float32 [T, C]."""
        weights, chosen = self.pick(x)
        if self.bank is not None:
            out = self.bank(x, chosen, weights)
        else:
            out = self._one_by_one(x, chosen, weights, ops)
        if self.shared is not None:
            made = self.shared(x, ops).float()
            if self.shared_gate is not None:
                made = made * torch.sigmoid(x.float() @ self.shared_gate)[:, None]
            out += made
        return out

    def pick(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Shares float32 and numbers of the experts of each row of x [T, C]: [T, A]."""
        spec = self.spec
        if self.bank is not None and self.bank.routes(x):
            return self.bank.route(x, self.router, spec.active, renormalise=spec.renormalise)
        return self.choose(x.float() @ self.router.t())

    def choose(self, scores: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Shares float32 and numbers of each row's experts [T, A]. scores float32 [T, E]."""
        if self.bank is not None and scores.is_cuda:
            return self.bank.choose(scores, self.spec.active, renormalise=self.spec.renormalise)
        shares = torch.softmax(scores, dim=-1)
        weights, chosen = torch.topk(shares, self.spec.active, dim=-1)
        if self.spec.renormalise:
            weights = weights / weights.sum(dim=-1, keepdim=True)
        return weights, chosen

    def _one_by_one(
        self, x: torch.Tensor, chosen: torch.Tensor, weights: torch.Tensor, ops: Products
    ) -> torch.Tensor:
        """Each expert on the rows that take it; which there are is read back."""
        out = torch.zeros(x.shape, dtype=torch.float32, device=x.device)
        for index in torch.unique(chosen).tolist():
            rows, place = torch.where(chosen == index)
            made = self.mlps[index](x.index_select(0, rows), ops)
            out.index_add_(0, rows, made.float() * weights[rows, place, None])
        return out


def activated(x: torch.Tensor, kind: Activation) -> torch.Tensor:
    """An activation, element by element."""
    if kind == "silu":
        return F.silu(x)
    return F.gelu(x, approximate="tanh" if kind == "gelu_tanh" else "none")


def soft_capped(x: torch.Tensor, cap: float) -> torch.Tensor:
    """cap * tanh(x / cap)."""
    return torch.tanh(x / cap) * cap


class ClosedHead:
    """An output head and what a spec does to its logits; see LinearOp, but float32."""

    def __init__(self, op: LinearOp, spec: DecoderSpec, bias: torch.Tensor | None) -> None:
        """`bias`: float32 [vocab]."""
        self.out_features, self.in_features = op.out_features, op.in_features
        self.weight_bytes, self.copy_bytes = op.weight_bytes, op.copy_bytes
        self.kernel, self.owns_copy = op.kernel, op.owns_copy
        self._op = op
        self._bias = bias
        self._scale, self._cap = spec.logits_scale, spec.logits_softcap

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        logits = self._op(x).float()
        if self._bias is not None:
            logits = logits + self._bias
        if self._scale != 1:
            logits = logits * self._scale
        return soft_capped(logits, self._cap) if self._cap else logits

    def packed(self) -> LinearForm | None:
        """See LinearOp.packed."""
        return self._op.packed()


def closed_head(op: LinearOp, spec: DecoderSpec, bias: torch.Tensor | None) -> LinearOp:
    """The head that gives a model's logits; `op` itself where these are its outputs."""
    same = bias is None and spec.logits_scale == 1 and spec.logits_softcap == 0
    return op if same else ClosedHead(op, spec, bias)
