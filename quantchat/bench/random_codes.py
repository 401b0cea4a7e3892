"""Random weights in the stored formats themselves: what a scheme's bytes cost, without rounding any.

Values spread with the deviation of the dense ones, so that activations stay as they are.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType

import torch

from quantchat.bench.random_model import DEVIATION
from quantchat.hardware.linears import linears_of
from quantchat.model.loader import Phase
from quantchat.model.weights import Matrix, matrix_names
from quantchat.quant.codebook import NESTED_BLOCK, BlockScales, CodebookWeight, NestedScales
from quantchat.quant.codebook_rounding import dynamic_map, fp4_table, nf4_table
from quantchat.quant.lut import LutBits, LutWeight, SparseRows
from quantchat.quant.progressive import ProgressiveWeight
from quantchat.quant.rounding import FP8_MAX, fp8_round
from quantchat.quant.scheme import Scheme, WeightFormat
from quantchat.quant.tensor import (
    DenseWeight,
    Fp8ChannelWeight,
    Int4GroupWeight,
    Int8ChannelWeight,
    StoredWeight,
)
from quantchat.spec import DecoderSpec

FP8_DEVIATIONS = 4.0
"""Deviations of a row between 0 and its largest fp8 value, as normal weights have them."""
EVEN_CODES = (16**2 - 1) / 12
"""Variance of codes 0 to 15, each as likely."""
LOWEST_STEP, HIGHEST_STEP = 8, 15
"""Steps of progressive groups whose codes, around 7 or 8, stay within int8."""
APART_DEVIATIONS = 3.0
"""Deviation of entries kept apart, in that of all."""
INPUT_LARGEST: Mapping[str, float] = MappingProxyType(
    {"qkv": 5.0, "o": 6.0, "gate_up": 5.0, "down": 16.0}
)
"""Largest inputs of each linear, where calibration fixes scales: what random weights give."""


class RandomCodes:
    """Random codes in place of a model's rounded weights; a `MatrixSource` of the loader."""

    phase: Phase = "quantize"

    def __init__(self, identity: str, scheme: Scheme, group_size: int) -> None:
        self.identity = identity
        self._scheme = scheme
        self._group_size = group_size

    def matrices(
        self, spec: DecoderSpec, device: torch.device, on_part: Callable[[str], None]
    ) -> Iterator[tuple[str, Matrix]]:
        """See MatrixSource.matrices."""
        rows, columns = _sizes(spec)
        for name in [*(fused for fused, _, _ in matrix_names(spec)), "head"]:
            on_part(name)
            part = name.rsplit(".", 1)[-1]
            kind = _kind(name, part)
            draw = _Draw(zlib.crc32(name.encode()), device)
            bias = None
            if part == "qkv" and spec.qkv_bias:
                bias = draw.normal((rows[kind],), 0.0, DEVIATION)
            yield name, Matrix((self._weight(part, rows[kind], columns[kind], draw),), bias)

    def vector(self, name: str) -> torch.Tensor | None:
        """See MatrixSource.vector: norms are the random file's."""
        return None

    def table(self) -> StoredWeight | None:
        """See MatrixSource.table."""
        return None

    def _weight(self, part: str, n: int, k: int, draw: _Draw) -> StoredWeight:
        scheme = self._scheme
        form: WeightFormat = scheme.weights
        if part == "head" and scheme.head != "same":
            form = scheme.head
        static = scheme.calibration == "static" and part != "head"
        if form == "int8_channel":
            return draw.int8(n, k, INPUT_LARGEST[part] / 127 if static else None)
        if form == "fp8_channel":
            return draw.fp8(n, k, INPUT_LARGEST[part] / FP8_MAX if static else None)
        if form == "int4_group":
            return draw.int4(n, k, self._group_size)
        if form == "codebook4":
            table = fp4_table(draw.device) if scheme.rounding == "fp4" else nf4_table(draw.device)
            return draw.codebook(n, k, table, self._group_size, scheme.rounding == "nf4_dq")
        if form == "progressive4":
            return draw.progressive(n, k, self._group_size)
        if form == "lut4" or form == "lut3":
            return draw.lut(n, k, 4 if form == "lut4" else 3, scheme.sparse_share)
        assert form == "dense", form
        return draw.dense(n, k)


class _Draw:
    """Numbers of one matrix; the same seed gives the same ones on the same device."""

    def __init__(self, seed: int, device: torch.device) -> None:
        self.device = device
        self._generator = torch.Generator(device).manual_seed(seed)

    def dense(self, n: int, k: int) -> StoredWeight:
        values = torch.empty((n, k), dtype=torch.bfloat16, device=self.device)
        return DenseWeight(values.normal_(0.0, DEVIATION, generator=self._generator))

    def int8(self, n: int, k: int, input_scale: float | None) -> Int8ChannelWeight:
        codes = torch.empty((n, k), dtype=torch.int8, device=self.device)
        codes.random_(-127, 128, generator=self._generator)
        even = DEVIATION * 12**0.5 / 254
        scale = self.normal((n,), even, even / 50).to(torch.bfloat16).float()
        return Int8ChannelWeight(codes, scale, self._fixed(input_scale))

    def fp8(self, n: int, k: int, input_scale: float | None) -> Fp8ChannelWeight:
        values = torch.empty((n, k), dtype=torch.bfloat16, device=self.device)
        spread = FP8_DEVIATIONS / FP8_MAX
        values.normal_(0.0, 1 / spread, generator=self._generator)
        scale = self.normal((n,), DEVIATION * spread, DEVIATION * spread / 50)
        codes = fp8_round(values).view(torch.uint8)
        return Fp8ChannelWeight(codes, scale, self._fixed(input_scale))

    def int4(self, n: int, k: int, group_size: int) -> Int4GroupWeight:
        even = DEVIATION / EVEN_CODES**0.5
        scale = self.normal((n, k // group_size), even, even / 50)
        offset = -7.5 * scale
        return Int4GroupWeight(self.bytes(n, k // 2), scale.half(), offset.half(), group_size)

    def codebook(
        self, n: int, k: int, table: torch.Tensor, block_size: int, nested: bool
    ) -> CodebookWeight:
        even = DEVIATION / float(table.square().mean().sqrt())
        shape = (n, k // block_size)
        scales: BlockScales = self.normal(shape, even, even / 50)
        if nested:
            blocks = (-(-shape[0] * shape[1] // NESTED_BLOCK),)
            scale = torch.full(blocks, even / 20, device=self.device)
            offset = torch.full(blocks, even, device=self.device)
            scales = NestedScales(self.bytes(*shape), dynamic_map(self.device), scale, offset)
        return CodebookWeight(self.bytes(n, k // 2), table, scales, block_size)

    def progressive(self, n: int, k: int, group_size: int) -> ProgressiveWeight:
        size = group_size or k
        shape = (n, k // size)
        zero, step = self.bytes(*shape, 7, 9), torch.ones(shape, device=self.device)
        if group_size:
            step = self.bytes(*shape, LOWEST_STEP, HIGHEST_STEP + 1).float()
        even = DEVIATION / (EVEN_CODES * float(step.square().mean())) ** 0.5
        scale = self.normal((n,), even, even / 50)
        return ProgressiveWeight(self.bytes(n, k // 2), scale, step.to(torch.uint8), zero, size)

    def lut(self, n: int, k: int, bits: LutBits, share: float) -> LutWeight:
        table = self.normal((n, 2**bits), 0.0, DEVIATION).sort(dim=1).values
        sparse = self.sparse(n, k, round(share * n * k)) if share else None
        return LutWeight(self.bytes(n, k * bits // 8), table.half(), bits, sparse)

    def sparse(self, n: int, k: int, count: int) -> SparseRows:
        """As many entries of [n, k], or a few less where a place was drawn twice."""
        places = torch.empty(count, dtype=torch.int64, device=self.device)
        places = torch.unique(places.random_(0, n * k, generator=self._generator))
        starts = torch.zeros(n + 1, dtype=torch.int32, device=self.device)
        starts[1:] = torch.bincount(places // k, minlength=n).cumsum(0)
        values = self.normal((len(places),), 0.0, APART_DEVIATIONS * DEVIATION)
        return SparseRows(starts, (places % k).to(torch.int32), values.half())

    def bytes(self, n: int, k: int, low: int = 0, high: int = 256) -> torch.Tensor:
        """uint8 [n, k]."""
        values = torch.empty((n, k), dtype=torch.uint8, device=self.device)
        return values.random_(low, high, generator=self._generator)

    def normal(self, shape: tuple[int, ...], mean: float, deviation: float) -> torch.Tensor:
        """float32."""
        values = torch.empty(shape, dtype=torch.float32, device=self.device)
        return values.normal_(mean, deviation, generator=self._generator)

    def _fixed(self, scale: float | None) -> torch.Tensor | None:
        return None if scale is None else torch.tensor(scale, device=self.device)


def _kind(name: str, part: str) -> str:
    """As linears_of names it."""
    if ".experts." in name:
        return f"expert {part}"
    return f"shared expert {part}" if ".shared." in name else part


def _sizes(spec: DecoderSpec) -> tuple[dict[str, int], dict[str, int]]:
    """Rows and columns of each kind of matrix."""
    linears = linears_of(spec)
    rows = {linear.name: linear.rows for linear in linears}
    columns = {linear.name: linear.columns for linear in linears}
    return rows | {"head": spec.vocab}, columns | {"head": spec.hidden}
