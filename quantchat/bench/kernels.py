"""The operations of a decode step alone, on a card: each over more memory than its cache holds.

Owns random linears and caches of a model's shape, rotated inside one CUDA graph. The operations are
the plan's own, so what is timed is what decode runs, without its neighbours.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch

from quantchat.bench.ceilings import Ceilings
from quantchat.bench.graph_time import graph_times_s
from quantchat.bench.random_codes import RandomCodes
from quantchat.bench.random_model import DEVIATION
from quantchat.bench.stats import Summary, summarize
from quantchat.hardware.execution import ExecutionPlan, PlanRequest
from quantchat.hardware.facts import Facts
from quantchat.hardware.linears import linears_of
from quantchat.hardware.plan import plan as make_plan
from quantchat.model.rope import rope_table
from quantchat.ops.batch import Batch, Span
from quantchat.ops.kv_pool import KvPool
from quantchat.ops.linear import LinearOp
from quantchat.ops.select import make_ops
from quantchat.ops.torch_ops import TorchOps
from quantchat.quant.tensor import DenseWeight
from quantchat.spec import DecoderSpec

LAYERS = 16
"""Held at a time: the smallest linear of a layer times so many is beyond any card's L2."""
TABLE_TOKENS = 16384
"""Width of the block table, as the app captures its graph; fewer where the model ends sooner."""
SMALLEST_S = 1e-9

Show = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """One operation on one shape."""

    op: str
    """Linear or "layer" for its four in a row, "head", or "attend"."""
    scheme: str
    """Of weights, or precision of the cache."""
    kernel: str
    shape: str
    rows: int
    dtype: str
    time_us: Summary
    read_bytes: int
    gb_per_s: float
    ceiling_share: float
    """Of the measured read bandwidth."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelOptions:
    """What to time."""

    device: str
    schemes: tuple[str, ...]
    kvs: tuple[str, ...]
    rows: tuple[int, ...]
    contexts: tuple[int, ...]


def measure(
    spec: DecoderSpec, options: KernelOptions, facts: Facts, ceilings: Ceilings, show: Show
) -> list[Timing]:
    """Every scheme's linears, then attention over every KV precision; a line each as it is found."""
    found: list[Timing] = []

    def note(timing: Timing) -> None:
        found.append(timing)
        show(line_of(timing))

    for scheme in options.schemes:
        plan = make_plan(facts, spec, PlanRequest(scheme=scheme, device=options.device))
        for timing in _linears(spec, plan, options, ceilings):
            note(timing)
    for kv in options.kvs:
        wish = PlanRequest(scheme=options.schemes[0], kv=kv, device=options.device)
        plan = make_plan(facts, spec, wish)
        for timing in _attention(spec, plan, options, ceilings):
            note(timing)
    return found


def line_of(timing: Timing) -> str:
    """A timing as a line of a table."""
    spread = timing.time_us
    return (
        f"{timing.op:8} {timing.scheme:6} {timing.shape:14} rows {timing.rows:<3}{timing.dtype:9}"
        f"{spread.median:9.2f} us ({spread.lowest:.2f}-{spread.highest:.2f})"
        f"{timing.gb_per_s:8.0f} GB/s {timing.ceiling_share:6.1%}  {timing.kernel}"
    )


def _timing(
    launches: list[Callable[[], object]],
    ceilings: Ceilings,
    read_bytes: int,
    **fields: Any,
) -> Timing:
    """Times of one launch among `launches`, each of which reads `read_bytes`."""
    times_s = graph_times_s(launches)
    spread = summarize([seconds * 1e6 for seconds in times_s])
    rate = read_bytes / max(spread.median / 1e6, SMALLEST_S) / 1e9
    return Timing(
        time_us=spread,
        read_bytes=read_bytes,
        gb_per_s=rate,
        ceiling_share=rate / ceilings.read_gb_per_s,
        **fields,
    )


def _linears(
    spec: DecoderSpec, plan: ExecutionPlan, options: KernelOptions, ceilings: Ceilings
) -> Iterator[Timing]:
    ops = make_ops(spec, plan)
    linears = _random_linears(spec, plan, ops)
    dtype = plan.compute_dtype
    for rows in options.rows:
        inputs = {
            op.in_features: torch.randn(rows, op.in_features, device=ops.device).to(ops.dtype)
            for of in linears.values()
            for op in of
        }

        def launch(op: LinearOp, inputs: dict[int, torch.Tensor] = inputs) -> Callable[[], object]:
            return lambda: op(inputs[op.in_features])

        for name, held in linears.items():
            first = held[0]
            yield _timing(
                [launch(op) for op in held],
                ceilings,
                first.weight_bytes,
                op=name,
                scheme=plan.scheme.name,
                kernel=first.kernel,
                shape=f"{first.out_features}x{first.in_features}",
                rows=rows,
                dtype=dtype,
            )
        layers = [ops_of for name, ops_of in linears.items() if name != "head"]
        chain = [launch(op) for layer in zip(*layers, strict=True) for op in layer]
        yield _layer(
            _timing(
                chain,
                ceilings,
                sum(of[0].weight_bytes for of in layers) // len(layers),
                op="layer",
                scheme=plan.scheme.name,
                kernel="its linears in a row",
                shape=f"of {spec.layers}",
                rows=rows,
                dtype=dtype,
            ),
            len(layers),
        )


def _layer(each: Timing, linears: int) -> Timing:
    """From the mean linear of a chain to the layer that they make."""
    times = each.time_us
    return dataclasses.replace(
        each,
        read_bytes=each.read_bytes * linears,
        time_us=Summary(
            median=times.median * linears,
            p20=times.p20 * linears,
            p80=times.p80 * linears,
            lowest=times.lowest * linears,
            highest=times.highest * linears,
            samples=times.samples,
        ),
    )


def _random_linears(
    spec: DecoderSpec, plan: ExecutionPlan, ops: TorchOps
) -> dict[str, list[LinearOp]]:
    """LAYERS of each linear by its name, and two heads."""
    part = dataclasses.replace(spec, layers=min(LAYERS, spec.layers))
    linears: dict[str, list[LinearOp]] = {}
    if plan.scheme.weights == "dense":
        for linear in linears_of(part):
            weights = [_dense(linear.rows, linear.columns, ops) for _ in range(linear.count)]
            linears[linear.name] = [ops.linear(weight, None) for weight in weights]
        linears["head"] = [ops.head(_dense(spec.vocab, spec.hidden, ops)) for _ in range(2)]
        return linears
    codes = RandomCodes(spec.architecture, plan.scheme, plan.group_size)
    for name, matrix in codes.matrices(part, ops.device, lambda name: None):
        weight = matrix.parts[0]
        if name == "head":
            linears["head"] = [ops.head(weight), ops.head(weight.take_rows(_all_rows(spec, ops)))]
        else:
            linears.setdefault(name.rsplit(".", 1)[-1], []).append(ops.linear(weight, matrix.bias))
    return linears


def _dense(rows: int, columns: int, ops: TorchOps) -> DenseWeight:
    values = torch.empty((rows, columns), dtype=ops.dtype, device=ops.device)
    return DenseWeight(values.normal_(0.0, DEVIATION))


def _all_rows(spec: DecoderSpec, ops: TorchOps) -> torch.Tensor:
    return torch.arange(spec.vocab, device=ops.device)


def _attention(
    spec: DecoderSpec, plan: ExecutionPlan, options: KernelOptions, ceilings: Ceilings
) -> Iterator[Timing]:
    part = dataclasses.replace(spec, layers=min(LAYERS, spec.layers))
    ops = make_ops(part, plan)
    longest = max(options.contexts)
    pages = -(-longest // plan.page_tokens)
    rows_max = max(options.rows)
    pool = KvPool(
        part,
        pages=1 + rows_max * pages,
        page_tokens=plan.page_tokens,
        precision=plan.kv,
        dtype=ops.dtype,
        device=ops.device,
    )
    rope = rope_table(spec.rope, longest, ops.device)
    width = (spec.heads + 2 * spec.kv_heads) * spec.head_dim
    norm = torch.ones(spec.head_dim, dtype=ops.dtype, device=ops.device) if spec.qk_norm else None

    def attend(qkv: torch.Tensor, batch: Batch, layer: int) -> torch.Tensor:
        window = spec.window(layer)
        return ops.attend(qkv, batch, pool, pool.layers[layer], rope, norm, norm, window)

    for row in range(rows_max):
        qkv = torch.randn(longest, width, device=ops.device).to(ops.dtype)
        for layer in range(part.layers):
            attend(qkv, _prompt(row, longest, pages, pool, ops.device), layer)
    for rows in options.rows:
        qkv = torch.randn(rows, width, device=ops.device).to(ops.dtype)
        for context in options.contexts:
            batch = _step(spec, rows, context, pages, pool, ops.device)

            def launch(
                layer: int, qkv: torch.Tensor = qkv, batch: Batch = batch
            ) -> Callable[[], object]:
                return lambda: attend(qkv, batch, layer)

            per_token = pool.page_bytes // pool.page_tokens // part.layers
            yield _timing(
                [launch(layer) for layer in range(part.layers)],
                ceilings,
                rows * context * per_token,
                op="attend",
                scheme=plan.kv,
                kernel="append and attend",
                shape=f"{context} tokens",
                rows=rows,
                dtype=plan.compute_dtype,
            )


def _prompt(row: int, tokens: int, pages: int, pool: KvPool, device: torch.device) -> Batch:
    """The row's whole context as one prompt."""
    first = 1 + row * pages
    positions = torch.arange(tokens, device=device)
    return Batch(
        torch.zeros_like(positions),
        positions.to(torch.int32),
        positions + first * pool.page_tokens,
        False,
        (Span(0, tokens, tokens, tuple(range(first, first + pages))),),
    )


def _step(
    spec: DecoderSpec, rows: int, context: int, pages: int, pool: KvPool, device: torch.device
) -> Batch:
    """One new token for each row, the last of its context."""
    first = 1 + torch.arange(rows, device=device) * pages
    held = -(-min(TABLE_TOKENS, max(spec.context, context)) // pool.page_tokens)
    table = torch.zeros((rows, max(held, pages)), dtype=torch.int32, device=device)
    table[:, :pages] = first[:, None] + torch.arange(pages, device=device)
    positions = torch.full((rows,), context - 1, dtype=torch.int32, device=device)
    return Batch(
        torch.zeros(rows, dtype=torch.int64, device=device),
        positions,
        first * pool.page_tokens + context - 1,
        True,
        _spans(rows, context, pages, pool),
        block_table=table,
        seq_lens=positions + 1,
    )


def _spans(rows: int, context: int, pages: int, pool: KvPool) -> tuple[Span, ...]:
    held = -(-context // pool.page_tokens)
    firsts = [1 + row * pages for row in range(rows)]
    return tuple(
        Span(row, 1, context, tuple(range(first, first + held))) for row, first in enumerate(firsts)
    )
