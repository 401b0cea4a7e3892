"""Rotations of the residual stream and of value heads that leave a model's outputs as they are.

Outliers of a few channels are spread over all of them, so that fewer bits hold them (QuaRot,
2404.00456; QServe, 2405.04532). Everything is folded into weights; nothing runs at inference.
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch

from quantchat.calibration.layer import DenseLayer
from quantchat.spec import DecoderSpec

FACTOR = 64
"""Largest Hadamard matrix multiplied at once; larger sizes are products of several."""
SLICE_ELEMENTS = 1 << 24


class Rotation:
    """An orthogonal Q [n, n] for any n: random signs, then Hadamard of the power of two in n
    Kronecker an orthonormal DCT of the odd rest.

    Kept as factors: turning a row of n values takes n * sum(factors) products in place of n * n.
    """

    def __init__(self, size: int, *, seed: int, device: torch.device) -> None:
        odd = size // (size & -size)
        power = size // odd
        factors: list[torch.Tensor] = []
        while power > 1:
            step = min(power, FACTOR)
            factors.append(_hadamard(step))
            power //= step
        if odd > 1 or not factors:
            factors.append(_cosines(odd))
        signs = torch.randint(2, (size,), generator=torch.Generator().manual_seed(seed))
        self.size = size
        self._signs = (2.0 * signs - 1.0).to(device)
        self._factors = [factor.to(device) for factor in factors]

    def turn(self, x: torch.Tensor) -> torch.Tensor:
        """x Q of float32 x [..., n]."""
        flat = (x * self._signs).reshape(-1, self.size)
        rows, before = flat.shape[0], 1
        after = self.size
        for factor in self._factors:
            f = factor.shape[0]
            after //= f
            if after == 1:
                flat = flat.reshape(-1, f) @ factor
            else:
                flat = factor.t() @ flat.reshape(rows * before, f, after)
            before *= f
        return flat.reshape(x.shape)

    def turn_rows(self, weight: torch.Tensor) -> torch.Tensor:
        """Q^T W of float32 W [n, K]: what writes to the stream writes to the turned one."""
        return self.turn(weight.t()).t().contiguous()


class ModelRotation:
    """One rotation of the residual stream and one of every value head, for a whole model."""

    def __init__(self, spec: DecoderSpec, *, seed: int, device: torch.device) -> None:
        self.spec = spec
        self.stream = Rotation(spec.hidden, seed=seed, device=device)
        self.head = Rotation(spec.head_dim, seed=seed + 1, device=device)

    def table(self, table: torch.Tensor) -> torch.Tensor:
        """Rows of an embedding, any float dtype [V, C], in the turned stream; same dtype."""
        turned = torch.empty_like(table)
        for rows in _row_slices(table):
            turned[rows] = self.stream.turn(table[rows].float()).to(table.dtype)
        return turned

    def output_head(self, head: torch.Tensor, final_norm: torch.Tensor) -> torch.Tensor:
        """A head [V, C] with the final norm's weight float32 [C] folded in; that norm is ones."""
        turned = torch.empty_like(head)
        for rows in _row_slices(head):
            turned[rows] = self.stream.turn(head[rows].float() * final_norm).to(head.dtype)
        return turned

    def layer(self, layer: DenseLayer) -> DenseLayer:
        """The layer in the turned stream, its norms folded into the linears after them."""
        folded = norms_folded(layer)
        stream = self.stream
        heads = _value_heads_turned(folded, self.head, self.spec)
        return replace(
            heads,
            q=stream.turn(heads.q),
            k=stream.turn(heads.k),
            v=stream.turn(heads.v),
            o=stream.turn_rows(heads.o),
            o_bias=None if heads.o_bias is None else stream.turn(heads.o_bias),
            gate=stream.turn(heads.gate),
            up=stream.turn(heads.up),
            down=stream.turn_rows(heads.down),
            down_bias=None if heads.down_bias is None else stream.turn(heads.down_bias),
        )


def norms_folded(layer: DenseLayer) -> DenseLayer:
    """The layer with both norms' weights multiplied into the linears that they feed."""
    attention, mlp = layer.attn_norm, layer.mlp_norm
    return replace(
        layer,
        attn_norm=torch.ones_like(attention),
        q=layer.q * attention,
        k=layer.k * attention,
        v=layer.v * attention,
        mlp_norm=torch.ones_like(mlp),
        gate=layer.gate * mlp,
        up=layer.up * mlp,
    )


def _value_heads_turned(layer: DenseLayer, head: Rotation, spec: DecoderSpec) -> DenseLayer:
    """Each value head's D outputs turned, and turned back where `o` reads them."""
    d = spec.head_dim
    hidden = layer.v.shape[1]
    v = layer.v.view(spec.kv_heads, d, hidden).transpose(1, 2)
    bias = None if layer.v_bias is None else head.turn(layer.v_bias.view(-1, d)).flatten()
    return replace(
        layer,
        v=head.turn(v).transpose(1, 2).reshape(layer.v.shape),
        v_bias=bias,
        o=head.turn(layer.o.view(-1, spec.heads, d)).reshape(layer.o.shape),
    )


def _hadamard(size: int) -> torch.Tensor:
    """Sylvester's matrix of a power of two, orthonormal, float32."""
    matrix = torch.ones(1, 1)
    while matrix.shape[0] < size:
        matrix = torch.cat((torch.cat((matrix, matrix), 1), torch.cat((matrix, -matrix), 1)))
    return matrix / math.sqrt(size)


def _cosines(size: int) -> torch.Tensor:
    """The orthonormal DCT-II matrix, float32, computed in float64."""
    k = torch.arange(size, dtype=torch.float64)
    matrix = torch.cos(math.pi / size * (k[None] + 0.5) * k[:, None]) * math.sqrt(2 / size)
    matrix[0] /= math.sqrt(2)
    return matrix.float()


def _row_slices(matrix: torch.Tensor) -> list[slice]:
    step = max(1, SLICE_ELEMENTS // matrix.shape[1])
    return [slice(start, start + step) for start in range(0, matrix.shape[0], step)]
