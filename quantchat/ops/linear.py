"""The contract of a linear operation and the dense one that every device has."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Protocol, Self

import torch
import torch.nn.functional as F

from quantchat.kernels.quantize import reference
from quantchat.ops.quantized_rows import threshold_of
from quantchat.quant.scheme import ActivationFormat


@dataclass(frozen=True, slots=True, kw_only=True)
class LinearForm:
    """An op's weight as it lies in memory, for the disk and back: nothing is packed again."""

    form: str
    """Name of the layout with its version; the op set's `restore` knows the op by it."""
    shape: tuple[int, int]
    """(N, K)."""
    group_size: int
    """0 where there are no groups."""
    tensors: dict[str, torch.Tensor]
    """Codes, scales, bias, ... by name, as the op reads them."""


class LinearOp(Protocol):
    """`y = x W^T + b`; x [M, K] in the compute dtype -> y [M, N] in the compute dtype."""

    out_features: int
    in_features: int
    weight_bytes: int
    """Bytes of the stored weight as this op reads it in decode."""
    copy_bytes: int
    """Bytes held besides, for prefill; 0 where the stored weight serves both."""
    kernel: str
    """What runs, in a word, for the plan and the meters."""
    owns_copy: bool
    """The op holds its own form of the weight, so that the stored one is extra where still used."""

    def __call__(self, x: torch.Tensor) -> torch.Tensor: ...

    def packed(self) -> LinearForm | None:
        """What the op reads, for the disk; None where the stored weight is kept instead."""


class CopyKeeper:
    """A linear that may keep a dense copy of its weight for many rows."""

    copy_bytes: int
    _copy: torch.Tensor | None

    def without_copy(self) -> Self:
        """The same op on the same weight, whose many rows are run as its few."""
        made = copy.copy(self)
        made._copy, made.copy_bytes = None, 0
        return made


class DenseLinear:
    """Library matmul on a dense weight [N, K] in the compute dtype."""

    def __init__(
        self, weight: torch.Tensor, bias: torch.Tensor | None, *, owns_copy: bool = False
    ) -> None:
        self.out_features, self.in_features = weight.shape
        self.weight_bytes = weight.nbytes
        self.copy_bytes = 0
        self.kernel = f"dense {str(weight.dtype).removeprefix('torch.')}"
        self.owns_copy = owns_copy
        self._weight = weight
        self._bias = bias

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return F.linear(x, self._weight, self._bias)

    def packed(self) -> LinearForm | None:
        """See LinearOp.packed."""
        return None


class RoundedLinear:
    """A linear whose inputs are rounded to int8 and put back first, whatever runs it."""

    def __init__(self, op: LinearOp, activations: ActivationFormat) -> None:
        """`activations`: int8 or int8_outliers."""
        self.out_features, self.in_features = op.out_features, op.in_features
        self.weight_bytes, self.copy_bytes = op.weight_bytes, op.copy_bytes
        self.kernel = f"{op.kernel}, rounded inputs"
        self.owns_copy = op.owns_copy
        self._op = op
        self._threshold = threshold_of(activations)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return self._op(reference.round_rows(x, threshold=self._threshold))

    def packed(self) -> LinearForm | None:
        """See LinearOp.packed."""
        return self._op.packed()


class OrderedLinear:
    """A linear whose weight has its inputs in another order than they come."""

    def __init__(self, op: LinearOp, order: torch.Tensor) -> None:
        """`order` int32 [K]: which input each of the op's is."""
        self.out_features, self.in_features = op.out_features, op.in_features
        self.weight_bytes, self.copy_bytes = op.weight_bytes + order.nbytes, op.copy_bytes
        self.kernel = f"{op.kernel}, inputs put in order"
        self.owns_copy = op.owns_copy
        self.op, self.order = op, order

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return self.op(x.index_select(-1, self.order))

    def packed(self) -> LinearForm | None:
        """See LinearOp.packed; None: the stored weight is kept, whose order is part of it."""
        return None


class StackedLinear:
    """Several linears on the same input, their outputs side by side."""

    def __init__(self, ops: list[LinearOp]) -> None:
        self.out_features = sum(op.out_features for op in ops)
        self.in_features = ops[0].in_features
        self.weight_bytes = sum(op.weight_bytes for op in ops)
        self.copy_bytes = sum(op.copy_bytes for op in ops)
        self.kernel = " + ".join(dict.fromkeys(op.kernel for op in ops))
        self.owns_copy = any(op.owns_copy for op in ops)
        self.parts = ops

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([op(x) for op in self.parts], dim=-1)

    def packed(self) -> LinearForm | None:
        """See LinearOp.packed; the parts are kept one by one."""
        return None


def tensor_of(
    form: LinearForm, name: str, shape: tuple[int, ...], dtype: torch.dtype
) -> torch.Tensor:
    """A tensor of a form; ValueError where it is missing or another one than is read."""
    tensor = form.tensors.get(name)
    if tensor is None:
        raise ValueError(f"{form.form}: {name} is missing")
    if tuple(tensor.shape) != shape or tensor.dtype != dtype:
        raise ValueError(
            f"{form.form}: {name} is {tensor.dtype} {tuple(tensor.shape)}, not {dtype} {shape}"
        )
    return tensor


def check_order(order: torch.Tensor) -> None:
    """ValueError where an order of inputs does not name each once."""
    places = torch.arange(order.numel(), device=order.device, dtype=order.dtype)
    if not torch.equal(order.sort().values, places):
        raise ValueError("order: does not name each input once")


def bias_of(form: LinearForm) -> torch.Tensor | None:
    """The bias [N] of a form, if it has one."""
    bias = form.tensors.get("bias")
    if bias is not None and tuple(bias.shape) != form.shape[:1]:
        raise ValueError(f"{form.form}: bias is {tuple(bias.shape)}, not {form.shape[:1]}")
    return bias
