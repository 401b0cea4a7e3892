"""Bytes before anything is loaded: weights, KV, workspace, and whether they fit.

Owns the estimates and the assumptions under them, which stand at each function. The loader and
the cache report true bytes once they exist. Layers with a sliding window count as the others: the
cache keeps every token of every layer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from quantchat.hardware.linears import linears_of, read_share
from quantchat.hardware.matrix_bytes import MatrixFormat
from quantchat.kv_formats import KV_VECTORS, VECTOR_BITS, VECTOR_PARAMS, KvFormat
from quantchat.quant.scheme import HeadFormat, Scheme, WeightFormat
from quantchat.spec import DecoderSpec

Verdict: TypeAlias = Literal["fits", "tight", "too_large"]

MIB = 2**20
GIB = 2**30

CUDA_CONTEXT_BYTES = 512 * MIB
"""Driver context, cuBLAS handles and compiled kernels on a card: 0.4-0.8 GiB is usual."""
CPU_RUNTIME_BYTES = 256 * MIB
"""Torch's libraries and the allocator's slack in a CPU process."""
RESERVE_SHARE = 0.05
"""Part of the free memory left alone for fragmentation and other programs."""
TIGHT_SHARE = 0.90
"""Above this part of the free memory a fit counts as tight."""
FP8_CPU_BYTES = 2
"""fp8 on the CPU: no op reads it there, its values are held as bfloat16."""
CAPPED_SCORES = 2**24
"""Most scores of an attention that soft-caps them which are held together."""
ROUNDING_BYTES = 2**28
"""Temporaries of rounding on a card, which goes through a matrix in slices."""
AHEAD_BYTES = 2**28
"""Of tensors that are on their way to the device before loading has asked for them."""
CALIBRATION_LENGTH = 256
CALIBRATION_TOKENS = 16 * CALIBRATION_LENGTH
"""16 sequences, the default."""
SAMPLER_BYTES = 2**29
"""What writing calibration text takes beside weights and KV: logits, and tensors on their way."""
CALIBRATION_BUDGET_BYTES = 2 * GIB
"""The default bound of activations held at a time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryFit:
    """Separate lines of a memory estimate at one context length; all in bytes or tokens."""

    weight_bytes: int
    kv_bytes: int
    """KV cache for `context_tokens`."""
    kv_bytes_per_token: int
    copy_bytes: int
    """Dense copies of packed linears that the CPU keeps for prefill."""
    workspace_bytes: int
    load_peak_bytes: int
    """Weights and copies plus what loading holds beside them at its worst moment."""
    free_bytes: int
    total_bytes: int
    context_tokens: int
    longest_context_tokens: int
    """Longest context, up to the model's own, that fits with one sequence; 0 if nothing does."""
    verdict: Verdict

    @property
    def needed_bytes(self) -> int:
        """The larger of running and loading."""
        running = self.weight_bytes + self.copy_bytes + self.kv_bytes + self.workspace_bytes
        return max(running, self.load_peak_bytes)


def weight_bytes(
    spec: DecoderSpec,
    scheme: Scheme,
    group_size: int,
    *,
    head: HeadFormat | None = None,
    dense_bytes: int = 2,
    fp8_bytes: int = 1,
    stored_bytes: int = 0,
) -> int:
    """Bytes of all weights on the device.

    An untied embedding table is dense; a tied one is the head, whatever its format, and counts
    once, but for schemes that part them (`table_bytes`). The head takes the scheme's `head` format
    ("same": that of the linears) unless `head` says otherwise. "stored" counts `stored_bytes`, the
    file's blocks as they become in memory, and an untied table in 16 bits on top. Norms and biases
    are left out: below 0.1 % of any model.
    """
    table = table_bytes(spec, scheme, dense_bytes=dense_bytes)
    if scheme.weights == "stored":
        return stored_bytes + table
    wanted = scheme.head if head is None else head
    head_format: WeightFormat = scheme.weights if wanted == "same" else wanted

    def one(rows: int, columns: int, weights: WeightFormat) -> int:
        form = MatrixFormat.of(scheme, weights, group_size, dense_bytes, fp8_bytes)
        return form.nbytes(rows, columns)

    linears = sum(
        linear.count * one(linear.rows, linear.columns, scheme.weights)
        for linear in linears_of(spec)
    )
    return table + linears + one(spec.vocab, spec.hidden, head_format)


def decode_read_bytes(
    spec: DecoderSpec,
    scheme: Scheme,
    group_size: int,
    *,
    dense_bytes: int = 2,
    stored_bytes: int = 0,
) -> int:
    """Weight bytes that one decoded token reads: all but an untied embedding table.

    Over the card's bandwidth this is the floor of a decode step at short context.
    """
    held = weight_bytes(
        spec, scheme, group_size, dense_bytes=dense_bytes, stored_bytes=stored_bytes
    )
    read = held - table_bytes(spec, scheme, dense_bytes=dense_bytes)
    return read if spec.experts is None else int(read * read_share(spec))


def table_bytes(spec: DecoderSpec, scheme: Scheme, *, dense_bytes: int = 2) -> int:
    """Bytes of an embedding table beside the head: looked up, not read.

    Rotation folds the last norm into a tied head and so parts it from the table, which is in int8
    rows as the head is.
    """
    if not spec.tied_head:
        return spec.embedding_parameters * dense_bytes
    return spec.vocab * (spec.hidden + 4) if scheme.calibration == "qoq" else 0


def kv_bytes_per_token(spec: DecoderSpec, kv: KvFormat) -> int:
    """Cache bytes that one token adds over all layers, K and V, with scales."""
    each = spec.kv_elements_per_token() // 2
    vectors = each // spec.head_dim
    return sum(
        each * VECTOR_BITS[form] // 8 + vectors * VECTOR_PARAMS[form] * 2 for form in KV_VECTORS[kv]
    )


def workspace_bytes(
    spec: DecoderSpec, scheme: Scheme, *, chunk_tokens: int, context_tokens: int, on_gpu: bool
) -> int:
    """Bytes beside weights and KV while a prompt is read, at their peak.

    Counts per chunk token: residual and one row of normed, q, k, v, attention output, gate, up and
    product, 2 bytes an element on a card, 4 on the CPU; of experts the product and output of each
    that a token takes, and their sum; for one layer the keys and values of the context gathered for
    SDPA and its mask [chunk, context]; last-token logits in fp32 with one copy for the sampler;
    soft-capped scores in fp32 at their steps; on a card the largest matrix in 16 bits, dequantized
    for many rows; the runtime.
    """
    size = 2 if on_gpu else 4
    q = spec.heads * spec.head_dim
    kv = spec.kv_heads * spec.head_dim
    row = 2 * spec.hidden + 2 * q + 2 * kv + _inner_elements(spec)
    activations = chunk_tokens * (row * size + spec.hidden * 4)
    attention = 2 * context_tokens * kv * size + chunk_tokens * context_tokens * 2
    logits = 2 * spec.vocab * 4
    widest = max(linear.weights for linear in linears_of(spec))
    capped = 4 * CAPPED_SCORES * 4 if spec.attention_softcap else 0
    scratch = widest * 2 if on_gpu and scheme.weights != "dense" else 0
    runtime = CUDA_CONTEXT_BYTES if on_gpu else CPU_RUNTIME_BYTES
    return activations + attention + capped + logits + scratch + runtime


def _inner_elements(spec: DecoderSpec) -> int:
    """Elements of a token in the widest MLP."""
    if (experts := spec.experts) is None:
        return 3 * spec.intermediate
    routed = experts.active * (experts.intermediate + spec.hidden) + 2 * spec.hidden
    dense = spec.intermediate if experts.dense_layers else 0
    return max(3 * dense, routed + 3 * experts.shared_intermediate)


def load_peak_bytes(spec: DecoderSpec, scheme: Scheme, weights: int, *, on_gpu: bool) -> int:
    """Weights plus staging: the widest tensor as the file has it, what is read ahead, temporaries.

    An untied embedding table is read last, so the head is rounded in the room of the table. Packed
    linears that must be rounded are held in fp32 three times while the error is taken, matrices that
    get tables of channels five times; a file's blocks go through in slices. Calibration takes what
    it needs besides; the text that a model writes for it is `calibration_text_bytes`.
    """
    parts = max(spec.heads * spec.head_dim * spec.hidden, spec.intermediate * spec.hidden)
    widest = max(parts, spec.embedding_parameters)
    rounds = scheme.rounding != "none"
    if scheme.weights == "stored":
        staging = max(parts * 12, widest * 2)
    else:
        staging = widest * 4 if rounds and spec.tied_head else widest * 2
    if scheme.rounding == "kmeans":
        staging = max(staging, parts * 20)
    if scheme.calibration != "none":
        staging = max(staging, calibration_bytes(spec, scheme))
    runtime = CUDA_CONTEXT_BYTES if on_gpu else CPU_RUNTIME_BYTES
    return weights + staging + AHEAD_BYTES + (ROUNDING_BYTES if rounds else 0) + runtime


def calibration_bytes(spec: DecoderSpec, scheme: Scheme) -> int:
    """Bytes that going through the layers with calibration text takes, at the default settings.

    A layer in fp32, as it was, as it is changed and with what is learned of its weights; streams
    and inputs of its linears up to the budget, twice; or the embedding in fp32 at the start. Where
    columns make up for each other, the widest linear's Gram matrix and what its factor is made of.
    """
    layer = spec.linear_parameters // spec.layers
    q = spec.heads * spec.head_dim
    row = 3 * spec.intermediate + 4 * spec.hidden + 3 * q + spec.heads * CALIBRATION_LENGTH
    taps = min(CALIBRATION_BUDGET_BYTES, 2 * CALIBRATION_TOKENS * row * 4)
    grams = 4 if scheme.calibration == "qoq" else 0
    widest = max(spec.intermediate, spec.hidden)
    return max(spec.embedding_parameters * 4, layer * 12 + taps + grams * widest**2 * 4)


def calibration_text_bytes(spec: DecoderSpec, tokens: int = CALIBRATION_TOKENS) -> int:
    """Bytes while a model writes its calibration text in 16 bits: all weights dense, KV, logits.

    Once a text is kept, or given by the user, nothing of it.
    """
    return 2 * (spec.parameters + tokens * spec.kv_elements_per_token()) + SAMPLER_BYTES


def verdict_of(needed_bytes: int, free_bytes: int) -> Verdict:
    """Whether so much can be had where so much is free."""
    if needed_bytes > int(free_bytes * (1 - RESERVE_SHARE)):
        return "too_large"
    return "tight" if needed_bytes > free_bytes * TIGHT_SHARE else "fits"


def fit(
    spec: DecoderSpec,
    scheme: Scheme,
    group_size: int,
    kv: KvFormat,
    *,
    context_tokens: int,
    chunk_tokens: int,
    free_bytes: int,
    total_bytes: int,
    on_gpu: bool,
    dense_bytes: int = 2,
    stored_bytes: int = 0,
    copy_dtype_bytes: int = 0,
) -> MemoryFit:
    """All lines of the estimate for one sequence of `context_tokens`, and the verdict.

    `copy_dtype_bytes`: element size of the dense copies of linears, 0 without.
    """
    weights = weight_bytes(
        spec,
        scheme,
        group_size,
        dense_bytes=dense_bytes,
        fp8_bytes=1 if on_gpu else FP8_CPU_BYTES,
        stored_bytes=stored_bytes,
    )
    per_token = kv_bytes_per_token(spec, kv)
    copies = spec.linear_parameters * copy_dtype_bytes
    peak = load_peak_bytes(spec, scheme, weights + copies, on_gpu=on_gpu)
    usable = int(free_bytes * (1 - RESERVE_SHARE))

    def work(context: int) -> int:
        return workspace_bytes(
            spec,
            scheme,
            chunk_tokens=min(chunk_tokens, context),
            context_tokens=context,
            on_gpu=on_gpu,
        )

    def runs(context: int) -> bool:
        return weights + copies + context * per_token + work(context) <= usable

    low, high = 0, spec.context
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if runs(middle) else (low, middle - 1)
    longest = low if peak <= usable else 0

    workspace = work(context_tokens)
    needed = max(weights + copies + context_tokens * per_token + workspace, peak)
    return MemoryFit(
        weight_bytes=weights,
        kv_bytes=context_tokens * per_token,
        kv_bytes_per_token=per_token,
        copy_bytes=copies,
        workspace_bytes=workspace,
        load_peak_bytes=peak,
        free_bytes=free_bytes,
        total_bytes=total_bytes,
        context_tokens=context_tokens,
        longest_context_tokens=longest,
        verdict=verdict_of(needed, free_bytes),
    )
