"""From facts and a wish to an execution plan with reasons; pure, no device needed.

Owns the rules for scheme, KV precision and context. Devices are `target`'s, kernels `op_table`'s,
bytes `memory`'s. Refuses with PlanError what cannot run, naming what can.
"""

from __future__ import annotations

from quantchat.errors import PlanError, UsageError
from quantchat.hardware.execution import ExecutionPlan, PlanRequest
from quantchat.hardware.facts import Facts
from quantchat.hardware.kv_choice import asked_kv, choose_kv, likely_kv
from quantchat.hardware.memory import GIB, KvFormat, MemoryFit, fit, group_size_of
from quantchat.hardware.op_table import (
    OpChoice,
    OpTarget,
    choose_ops,
    runs_as_stored,
    stored_growth,
    stored_type,
)
from quantchat.hardware.target import DTYPE_BYTES, ComputeDtype, Target, choose_target, cpu_target
from quantchat.quant.registry import SCHEMES, scheme_named
from quantchat.quant.scheme import ActivationFormat, Scheme, WeightFormat
from quantchat.spec import DecoderSpec

__all__ = ["ExecutionPlan", "OpChoice", "PlanRequest", "plan"]

CONTEXT_DEFAULT_GPU = 16384
CONTEXT_DEFAULT_CPU = 8192
CONTEXT_FOR_SCHEME = 8192
"""Context that must fit beside the weights before auto takes a wider scheme on a card."""
CONTEXT_LOWEST = 512
"""Below this, unless the model itself is shorter, a plan is refused."""
FP16_FAMILIES = frozenset({"llama", "mistral"})
"""Families that are served in float16 everywhere (AWQ checkpoints of them are float16)."""
LOWEST_FP8_SM = 89
"""First card that multiplies fp8."""
INT8_UNITS = frozenset({"avx512_vnni", "avx_vnni", "amx_int8", "i8mm"})
LOWEST_TRITON_SM = 75
"""First card that our kernels and graphs run on."""
PAGE_TOKENS = 16
"""Small, so that little of a shared prefix is computed again; runs of pages are read as one."""
COPY_SHARE = 0.5
"""Dense copies for prefill are kept on the CPU if all of it stays below this part of free memory."""
TINY_PARAMETERS = 20_000_000
"""Models this small stay in 16 bits on the CPU: their linears fit its caches."""


def plan(facts: Facts, spec: DecoderSpec, request: PlanRequest) -> ExecutionPlan:
    """Decide device, scheme, KV, context and kernels; raises PlanError or UsageError."""
    if request.scheme != "auto":
        scheme_named(request.scheme)
    asked_kv(request.kv)
    if request.context_tokens < 0:
        raise UsageError("the context cannot be negative", hint="0 takes what fits")
    if request.context_tokens > spec.context:
        raise PlanError(
            f"a context of {request.context_tokens} tokens was asked for, "
            f"the model was made for {spec.context}",
            hint=f"ask for {spec.context} or less",
        )
    target = choose_target(facts, request.device)
    planner = _Planner(facts, spec, request, target)
    may_move = target.gpu is not None and (
        request.device == "auto" and request.scheme == "auto" and request.context_tokens == 0
    )
    if not may_move:
        return planner.plan()
    try:
        return planner.plan()
    except PlanError as too_large:
        moved = cpu_target(
            facts,
            reasons=("CPU: the model does not fit on the card",),
            refused=(*target.refused, f"{target.name}: {too_large.message}"),
        )
        return _Planner(facts, spec, request, moved).plan()


class _Planner:
    """One pass over the decisions for one target."""

    def __init__(
        self, facts: Facts, spec: DecoderSpec, request: PlanRequest, target: Target
    ) -> None:
        self.facts = facts
        self.spec = spec
        self.request = request
        self.target = target
        self.gpu = target.gpu
        self.reasons = list(target.reasons)
        self.refused = list(target.refused)
        default = CONTEXT_DEFAULT_CPU if self.gpu is None else CONTEXT_DEFAULT_GPU
        self.wanted = request.context_tokens or min(spec.context, default)
        self.page = PAGE_TOKENS
        self.triton = (
            self.gpu is not None
            and self.gpu.sm >= LOWEST_TRITON_SM
            and facts.software.triton is not None
        )
        self.chunk = 256 if self.gpu is None else 2048 if self.gpu.sm >= 80 else 512

    def plan(self) -> ExecutionPlan:
        """The decisions in order: each may use the ones before."""
        scheme = self._scheme()
        group_size = group_size_of(self.spec, scheme)
        if scheme.group_sizes and not group_size:
            raise PlanError(
                f"{scheme.title}: no group of {', '.join(map(str, scheme.group_sizes))} divides "
                f"{self.spec.hidden}, {self.spec.intermediate} and "
                f"{self.spec.heads * self.spec.head_dim}",
                hint="choose int8",
            )
        if group_size:
            self._explain_group(scheme, group_size)
        kv = self._kv(scheme)
        context = self._context(scheme, kv)
        copy = self._copy(scheme, kv, context)
        activations = self._activations(scheme, copy)
        memory = self._fit(scheme, kv, context, copy)
        self._explain_machine()
        return ExecutionPlan(
            device="cpu" if self.gpu is None else "cuda",
            device_name=self.target.name,
            gpu_index=0 if self.gpu is None else self.gpu.index,
            compute_dtype=self._compute_dtype(scheme),
            scheme=scheme,
            group_size=group_size,
            kv=kv,
            page_tokens=self.page,
            context_tokens=context,
            prefill_chunk_tokens=min(self.chunk, context),
            copy_dtype=copy,
            activations=activations,
            threads=max(1, self.facts.cpu.physical_cores),
            triton=self.triton,
            graph=self.triton,
            dependent_launch=self.triton and self.gpu is not None and self.gpu.sm >= 90,
            ops=self._ops(scheme, group_size, kv, copy, activations),
            reasons=tuple(self.reasons),
            refused=tuple(self.refused),
            fit=memory,
        )

    def _fit(
        self, scheme: Scheme, kv: KvFormat, context: int, copy: ComputeDtype | None = None
    ) -> MemoryFit:
        return fit(
            self.spec,
            scheme,
            group_size_of(self.spec, scheme),
            kv,
            context_tokens=context,
            chunk_tokens=self.chunk,
            free_bytes=self.target.free_bytes,
            total_bytes=self.target.total_bytes,
            on_gpu=self.gpu is not None,
            stored_bytes=self._stored_bytes(),
            copy_dtype_bytes=0 if copy is None else DTYPE_BYTES[copy],
        )

    def _stored_bytes(self) -> int:
        """The file's bytes as they become in memory, an upper bound."""
        return int(self.request.stored_bytes * stored_growth(self.request.stored_types))

    def _copy(self, scheme: Scheme, kv: KvFormat, context: int) -> ComputeDtype | None:
        held_dense = scheme.weights in ("dense", "fp8_channel")
        if self.gpu is not None or (held_dense and self.target.bf16_units):
            return None
        if scheme.activations == "int8" and self._int8_units():
            return None
        copy: ComputeDtype = "bfloat16" if self.target.bf16_units else "float32"
        needed = self._fit(scheme, kv, context, copy).needed_bytes
        if needed > COPY_SHARE * self.target.free_bytes:
            self.refused.append(
                f"{copy} copies for prefill: {needed / GIB:.1f} GiB with them, more than half of "
                f"the free {self.target.free_bytes / GIB:.1f} GiB"
            )
            return None
        self.reasons.append(f"{copy} copies beside the weights: prefill is faster on them")
        return copy

    def _int8_units(self) -> bool:
        """Without them the CPU's int8 products saturate on the way."""
        return bool(self.facts.cpu.isa & INT8_UNITS)

    def _activations(self, scheme: Scheme, copy: ComputeDtype | None) -> ActivationFormat:
        """What linears' inputs are rounded to for many rows: the scheme's wish where it pays."""
        wish = scheme.activations
        if wish == "16bit":
            return "16bit"
        if self.gpu is None:
            return self._activations_cpu(wish, copy)
        if not self.triton:
            self.refused.append(f"{wish} products: need our kernels, multiplying in 16 bits")
            return "16bit"
        if wish == "fp8" and self.gpu.sm < LOWEST_FP8_SM:
            self.refused.append(
                f"fp8 products: need SM {LOWEST_FP8_SM}, this card is SM {self.gpu.sm}, "
                "dequantising instead"
            )
            return "16bit"
        self.reasons.append(f"{wish} products for prompts: one scale a token, no calibration")
        return wish

    def _activations_cpu(
        self, wish: ActivationFormat, copy: ComputeDtype | None
    ) -> ActivationFormat:
        if wish == "fp8":
            self.refused.append(
                "fp8 on the CPU: no op multiplies it, its values are held and multiplied in "
                "bfloat16 and prompts rounded as a card would: the same answer, no gain"
            )
            return wish
        if self._int8_units():
            self.reasons.append("int8 products for prompts: this processor has int8 units")
            return wish
        if copy is not None:
            self.refused.append(
                f"int8 products: this processor has no int8 units, codes multiplied in {copy}"
            )
            return wish
        self.refused.append("int8 products: no int8 units and no room for copies, as int8")
        return "16bit"

    def _scheme(self) -> Scheme:
        if self.request.scheme == "auto":
            return self._auto_gpu() if self.gpu is not None else self._auto_cpu()
        scheme = scheme_named(self.request.scheme)
        if self.gpu is not None and self.gpu.sm < scheme.lowest_sm:
            raise PlanError(
                f"{scheme.title} needs SM {scheme.lowest_sm}, {self.gpu.name} is SM {self.gpu.sm}",
                hint="choose int8 or fp16",
            )
        if scheme.weights == "stored":
            self._check_stored()
        self.reasons.append(f"{scheme.title}: asked for")
        return scheme

    def _check_stored(self) -> None:
        if self.request.container != "gguf":
            raise PlanError(
                "'as stored' runs the blocks of a GGUF file, this model is not one",
                hint="choose int4, int8 or fp16",
            )
        if self.gpu is not None and not self.triton:
            raise PlanError(
                "'as stored' needs Triton kernels on a card",
                hint="choose fp16 (decoded at load), or the device cpu",
            )
        if not runs_as_stored(self.request.stored_types):
            raise PlanError(
                f"'as stored': no packed op reads {self._types(self.request.stored_types)}",
                hint="choose int8 or int4 (encoded anew at load), or fp16",
            )
        self._explain_stored()

    def _explain_stored(self) -> None:
        rounded = frozenset(n for n in self.request.stored_types if not stored_type(n).exact)
        if rounded:
            self.refused.append(
                f"{self._types(rounded)} as stored: no packed op reads it, rounded to int8 rows"
            )

    def _auto_gpu(self) -> Scheme:
        types = self.request.stored_types
        if self.triton and self.request.container == "gguf" and runs_as_stored(types):
            self.reasons.append(
                f"as stored: the kernels read {self._types(types)}, a wider scheme adds nothing"
            )
            return SCHEMES["stored"]
        context = self.request.context_tokens or min(CONTEXT_FOR_SCHEME, self.spec.context)
        kv = likely_kv(asked_kv(self.request.kv), self.gpu)
        for name in ("fp16", "int8", "int4"):
            scheme = SCHEMES[name]
            if scheme.group_sizes and not group_size_of(self.spec, scheme):
                self.refused.append(f"{scheme.title}: no group size divides this model")
                continue
            estimate = self._fit(scheme, kv, context)
            needed = f"{estimate.needed_bytes / GIB:.1f} GiB with {context} tokens of context"
            free = f"{estimate.free_bytes / GIB:.1f} GiB are free"
            if estimate.verdict != "too_large":
                self.reasons.append(
                    f"{scheme.title}: the widest scheme that fits, {needed}, {free}"
                )
                return scheme
            self.refused.append(f"{scheme.title}: needs {needed}, {free}")
        for name in ("int4", "int8"):
            scheme = SCHEMES[name]
            if group_size_of(self.spec, scheme) or not scheme.group_sizes:
                self.reasons.append(f"{scheme.title}: the smallest scheme, with a shorter context")
                return scheme
        raise AssertionError("int8 has no groups")

    def _auto_cpu(self) -> Scheme:
        types = self.request.stored_types
        if self.request.container == "gguf" and runs_as_stored(types):
            exact = frozenset(n for n in types if stored_type(n).exact) - {"F32"}
            self.reasons.append(
                f"as stored: the packed ops take {self._types(exact)} as they are in the file"
                if exact
                else f"as stored: {self._types(types - {'F32'})} is 8-bit already"
            )
            self._explain_stored()
            return SCHEMES["stored"]
        if self.request.container == "gguf" and types - {"F32", "F16", "BF16"}:
            self.refused.append(f"as stored: no packed op reads {self._types(types - {'F32'})}")
        if self.spec.linear_parameters < TINY_PARAMETERS:
            self.reasons.append("16-bit: a model this small gains nothing from packing")
            return SCHEMES["fp16"]
        context = self.request.context_tokens or min(CONTEXT_LOWEST, self.spec.context)
        kv = likely_kv(asked_kv(self.request.kv), None)
        narrow = SCHEMES["int4"]
        eight = self._fit(SCHEMES["int8"], kv, context)
        if eight.verdict == "too_large" and group_size_of(self.spec, narrow):
            self.refused.append(
                f"int8: needs {eight.needed_bytes / GIB:.1f} GiB, "
                f"{eight.free_bytes / GIB:.1f} GiB are free"
            )
            self.reasons.append("int4: int8 does not fit in memory")
            return narrow
        self.reasons.append(
            "int8: decode is bound by weight bytes, the packed op is faster than 16 bits and "
            "next to lossless"
        )
        return SCHEMES["int8"]

    def _kv(self, scheme: Scheme) -> KvFormat:
        kv, reasons = choose_kv(
            asked_kv(self.request.kv),
            self.spec,
            self.gpu,
            self.wanted,
            lambda kv: self._fit(scheme, kv, self.wanted),
        )
        self.reasons += reasons
        return kv

    def _context(self, scheme: Scheme, kv: KvFormat) -> int:
        estimate = self._fit(scheme, kv, self.wanted)
        longest = estimate.longest_context_tokens
        if longest >= self.wanted:
            if not self.request.context_tokens and self.wanted < self.spec.context:
                self.reasons.append(
                    f"context {self.wanted}: the default here, "
                    f"{longest} of the model's {self.spec.context} would fit"
                )
            return self.wanted
        lowest = min(CONTEXT_LOWEST, self.spec.context)
        where = f"{scheme.title} with {kv} KV on {self.target.name}"
        needed = f"{estimate.needed_bytes / GIB:.1f} GiB"
        free = f"{estimate.free_bytes / GIB:.1f} GiB"
        if longest < lowest:
            raise PlanError(
                f"{where} needs {needed} and {free} are free",
                hint="choose a lower scheme (int4), a smaller model, or free memory",
            )
        if self.request.context_tokens:
            raise PlanError(
                f"{where}: a context of {self.wanted} tokens needs {needed}, {free} are free",
                hint=f"the longest that fits is {longest} tokens",
            )
        context = max(lowest, longest // self.page * self.page)
        self.reasons.append(f"context {context}: what fits of the model's {self.spec.context}")
        return context

    def _ops(
        self,
        scheme: Scheme,
        group_size: int,
        kv: KvFormat,
        copy: ComputeDtype | None,
        activations: ActivationFormat,
    ) -> tuple[OpChoice, ...]:
        head: WeightFormat = scheme.weights if scheme.head == "same" else scheme.head
        return choose_ops(
            OpTarget(
                sm=0 if self.gpu is None else self.gpu.sm,
                triton=self.facts.software.triton is not None,
                copy=copy,
                weights=scheme.weights,
                head=head,
                activations=activations,
                kv=kv,
                group_size=group_size,
                stored_types=self.request.stored_types,
            )
        )

    def _compute_dtype(self, scheme: Scheme) -> ComputeDtype:
        """fp16 where the int4 kernel gains from it and the family's activations fit its range."""
        packed = scheme.weights in ("int4_group", "stored")
        if not (self.triton and packed and self.target.dtype == "bfloat16"):
            return self.target.dtype
        if self.spec.architecture not in FP16_FAMILIES:
            self.refused.append(
                f"float16 activations: {self.spec.architecture} has some beyond its range, "
                "the int4 kernel is about a quarter slower in bfloat16"
            )
            return self.target.dtype
        self.reasons = [why for why in self.reasons if not why.startswith("bfloat16:")]
        self.reasons.append(
            "float16: the int4 kernel multiplies in pairs, a quarter faster than in bfloat16"
        )
        return "float16"

    def _explain_group(self, scheme: Scheme, group_size: int) -> None:
        wider = [size for size in scheme.group_sizes if size > group_size]
        if wider:
            self.refused.append(
                f"group {wider[0]}: does not divide this model's matrices, taking {group_size}"
            )

    def _explain_machine(self) -> None:
        if self.gpu is None:
            return
        if self.triton:
            self.reasons.append("CUDA graph for decode: one launch a token instead of hundreds")
        elif self.gpu.sm < LOWEST_TRITON_SM:
            self.refused.append(
                f"CUDA graph and Triton kernels: need SM {LOWEST_TRITON_SM}, this card is "
                f"SM {self.gpu.sm}, torch's own ops instead"
            )
        else:
            self.refused.append(
                "CUDA graph and Triton kernels: triton is not installed, torch's own ops instead"
            )

    @staticmethod
    def _types(names: frozenset[str]) -> str:
        return ", ".join(sorted(names)) or "these tensor types"
