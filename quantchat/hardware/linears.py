"""A decoder's matrices as they are stored, by their shapes: how many, and which a token reads."""

from __future__ import annotations

from dataclasses import dataclass

from quantchat.quant.scheme import Scheme
from quantchat.spec import DecoderSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Linear:
    """A kind of matrix in the decoder: `count` of [rows, columns], rows being outputs."""

    name: str
    rows: int
    columns: int
    count: int
    taken: float = 1.0
    """Share of them that a token is multiplied with; below 1 for experts."""

    @property
    def weights(self) -> int:
        """Elements of one such matrix."""
        return self.rows * self.columns


def linears_of(spec: DecoderSpec) -> tuple[Linear, ...]:
    """The decoder's matrices as they are stored: q, k, v fused, gate and up fused; no head."""
    q = spec.heads * spec.head_dim
    kv = spec.kv_heads * spec.head_dim
    inner = 2 if spec.gated else 1
    plain = sum(not spec.has_experts(layer) for layer in range(spec.layers))
    routed = spec.layers - plain

    def mlp(prefix: str, width: int, count: int, taken: float = 1.0) -> tuple[Linear, ...]:
        if not width or not count:
            return ()
        up = Linear(
            name=f"{prefix}gate_up",
            rows=inner * width,
            columns=spec.hidden,
            count=count,
            taken=taken,
        )
        down = Linear(
            name=f"{prefix}down", rows=spec.hidden, columns=width, count=count, taken=taken
        )
        return up, down

    experts = spec.experts
    return (
        Linear(name="qkv", rows=q + 2 * kv, columns=spec.hidden, count=spec.layers),
        Linear(name="o", rows=spec.hidden, columns=q, count=spec.layers),
        *mlp("", spec.intermediate, plain),
        *(
            ()
            if experts is None
            else (
                *mlp(
                    "expert ",
                    experts.intermediate,
                    routed * experts.count,
                    experts.active / experts.count,
                ),
                *mlp("shared expert ", experts.shared_intermediate, routed),
            )
        ),
    )


def read_share(spec: DecoderSpec) -> float:
    """Part of the linears' and the head's weights that one token reads; 1 without experts."""
    if spec.experts is None:
        return 1.0
    linears = linears_of(spec)
    read = sum(linear.weights * linear.count * linear.taken for linear in linears)
    return (read + spec.embedding_parameters) / (spec.linear_parameters + spec.embedding_parameters)


def group_size_of(spec: DecoderSpec, scheme: Scheme) -> int:
    """First of the scheme's group sizes that divides every K; 0 if the scheme has none or none does."""
    depths = {linear.columns for linear in linears_of(spec)}
    for size in scheme.group_sizes:
        if all(depth % size == 0 for depth in depths):
            return size
    return 0
