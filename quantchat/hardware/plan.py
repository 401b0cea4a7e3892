"""From facts and a wish to an execution plan with reasons; pure, no device needed.

Owns the order of the decisions and the rules for context and launches. Devices are `target`'s,
schemes `scheme_choice`'s, number formats `arithmetic`'s, KV `kv_choice`'s, kernels `op_table`'s,
bytes `memory`'s. Refuses with PlanError what cannot run, naming what can.
"""

from __future__ import annotations

from dataclasses import replace

from quantchat.errors import NoRoomError, PlanError, UsageError
from quantchat.hardware.arithmetic import (
    choose_activations,
    compute_dtype,
    copy_kept,
    has_int8_units,
    wished_copy,
)
from quantchat.hardware.execution import ExecutionPlan, PlanRequest
from quantchat.hardware.facts import Facts
from quantchat.hardware.holding import held_as
from quantchat.hardware.kv_choice import asked_kv, choose_kv
from quantchat.hardware.linears import group_size_of, linears_of
from quantchat.hardware.memory import GIB, MemoryFit, fit
from quantchat.hardware.op_choice import OpChoice, OpTarget
from quantchat.hardware.op_table import LOWEST_TENSOR_SM, captures, card_ops
from quantchat.hardware.op_table_cpu import cpu_ops
from quantchat.hardware.reasons import Reasons
from quantchat.hardware.scheme_choice import (
    CONTEXT_LOWEST,
    SchemeCase,
    choose_scheme,
    reads_codes,
)
from quantchat.hardware.stored_types import stored_growth
from quantchat.hardware.target import DTYPE_BYTES, ComputeDtype, Target, choose_target, cpu_target
from quantchat.hardware.ways import ways_of
from quantchat.kv_formats import KvFormat
from quantchat.quant.registry import scheme_named
from quantchat.quant.scheme import ActivationFormat, Scheme, WeightFormat
from quantchat.spec import DecoderSpec, LongScaling

__all__ = ["ExecutionPlan", "OpChoice", "PlanRequest", "plan"]

CONTEXT_DEFAULT_GPU = 16384
CONTEXT_DEFAULT_CPU = 8192
LOWEST_TRITON_SM = 75
"""First card that our kernels and graphs run on."""
LOWEST_DEPENDENT_SM = 90
"""First card that starts a kernel before the one ahead has ended."""
PAGE_TOKENS = 16
"""Small, so that little of a shared prefix is computed again; runs of pages are read as one."""


def plan(
    facts: Facts, spec: DecoderSpec, request: PlanRequest, *, anyway: bool = False
) -> ExecutionPlan:
    """Decide device, scheme, KV, context and kernels; raises PlanError or UsageError.

    `anyway`: also where there is no room, which the plan's fit then tells.
    """
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
            ways=ways_of("context_tokens", spec.context),
        )
    target = choose_target(facts, request.device)
    planner = _Planner(facts, spec, request, target, anyway=anyway)
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


def plan_at(
    facts: Facts, spec: DecoderSpec, request: PlanRequest, made: ExecutionPlan, context_tokens: int
) -> ExecutionPlan:
    """A plan's device, scheme and KV at another context, whether there is room for it or not."""
    target = cpu_target(facts) if made.device == "cpu" else choose_target(facts, "cuda")
    wish = replace(request, context_tokens=context_tokens)
    planner = _Planner(facts, spec, wish, target)
    copy = planner._copy(made.scheme, made.kv, context_tokens)
    return replace(
        made,
        context_tokens=context_tokens,
        prefill_chunk_tokens=min(planner.chunk, context_tokens),
        copy_dtype=copy,
        fit=planner._fit(made.scheme, made.kv, context_tokens, copy),
    )


class _Planner:
    """One pass over the decisions for one target."""

    def __init__(
        self,
        facts: Facts,
        spec: DecoderSpec,
        request: PlanRequest,
        target: Target,
        *,
        anyway: bool = False,
    ) -> None:
        self.facts = facts
        self.spec = spec
        self.request = request
        self.target = target
        self.anyway = anyway
        self.gpu = target.gpu
        self.words = Reasons(list(target.reasons), list(target.refused))
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
        group_size = self._group_size(scheme)
        kv = self._kv(scheme)
        context = self._context(scheme, kv)
        copy = self._copy(scheme, kv, context)
        activations = choose_activations(
            self.gpu, self.facts.cpu, scheme, copy, triton=self.triton, words=self.words
        )
        dtype = compute_dtype(self.target, scheme, self.spec, triton=self.triton, words=self.words)
        memory = self._fit(scheme, kv, context, copy)
        target = self._op_target(scheme, group_size, kv, copy, activations)
        graph = self.triton and captures(target)
        self._explain_rope(context)
        self._explain_machine(graph)
        return ExecutionPlan(
            device="cpu" if self.gpu is None else "cuda",
            device_name=self.target.name,
            gpu_index=0 if self.gpu is None else self.gpu.index,
            compute_dtype=dtype,
            scheme=scheme,
            group_size=group_size,
            kv=kv,
            page_tokens=self.page,
            context_tokens=context,
            prefill_chunk_tokens=min(self.chunk, context),
            copy_dtype=copy,
            activations=activations,
            all_rows=scheme.all_rows and activations != "16bit",
            threads=max(1, self.facts.cpu.physical_cores),
            triton=self.triton,
            graph=graph,
            dependent_launch=self.triton
            and self.gpu is not None
            and self.gpu.sm >= LOWEST_DEPENDENT_SM,
            ops=cpu_ops(target) if self.gpu is None else card_ops(target),
            reasons=tuple(self.words.taken),
            refused=tuple(self.words.refused),
            fit=memory,
        )

    def _fit(
        self, scheme: Scheme, kv: KvFormat, context: int, copy: ComputeDtype | None = None
    ) -> MemoryFit:
        held = self._held(scheme)
        return fit(
            self.spec,
            held,
            group_size_of(self.spec, held),
            kv,
            context_tokens=context,
            chunk_tokens=self.chunk,
            free_bytes=self.target.free_bytes,
            total_bytes=self.target.total_bytes,
            on_gpu=self.gpu is not None,
            stored_bytes=self._stored_bytes(),
            copy_dtype_bytes=0 if copy is None else DTYPE_BYTES[copy],
        )

    def _held(self, scheme: Scheme) -> Scheme:
        return held_as(scheme, sm=0 if self.gpu is None else self.gpu.sm, triton=self.triton)

    def _stored_bytes(self) -> int:
        """The file's bytes as they become in memory; an upper bound where types are not told apart."""
        codes = reads_codes(self.target, self.triton)
        request = self.request
        parts = request.stored_parts
        if not parts:
            return int(request.stored_bytes * stored_growth(request.stored_types, codes=codes))
        return int(
            sum(count * stored_growth(frozenset({name}), codes=codes) for name, count in parts)
        )

    def _scheme(self) -> Scheme:
        return choose_scheme(
            SchemeCase(
                spec=self.spec,
                request=self.request,
                target=self.target,
                triton=self.triton,
                fit=self._fit,
            ),
            self.words,
        )

    def _group_size(self, scheme: Scheme) -> int:
        """The group of the scheme's codes, 0 without; raises PlanError where none divides."""
        group_size = group_size_of(self.spec, scheme)
        if scheme.group_sizes and not group_size:
            depths = dict.fromkeys(linear.columns for linear in linears_of(self.spec))
            raise PlanError(
                f"{scheme.title}: no group of {', '.join(map(str, scheme.group_sizes))} divides "
                f"all of {', '.join(map(str, depths))}",
                hint="choose int8",
                ways=ways_of("scheme", "int8"),
            )
        wider = [size for size in scheme.group_sizes if size > group_size]
        if wider:
            self.words.refuse(
                f"group {wider[0]}: does not divide this model's matrices, taking {group_size}"
            )
        return group_size

    def _copy(self, scheme: Scheme, kv: KvFormat, context: int) -> ComputeDtype | None:
        copy = wished_copy(self.target, self.facts.cpu, scheme)
        if copy is None:
            return None
        return copy if copy_kept(copy, self._fit(scheme, kv, context, copy), self.words) else None

    def _kv(self, scheme: Scheme) -> KvFormat:
        kv, reasons = choose_kv(
            asked_kv(self.request.kv),
            self.spec,
            self.gpu,
            self.wanted,
            lambda kv: self._fit(scheme, kv, self.wanted),
        )
        self.words.taken += reasons
        return kv

    def _int4_is_less(self, scheme: Scheme) -> bool:
        """Whether int4 would lie here in fewer bytes."""
        return scheme.name not in ("int4", "stored") and (self.gpu is None or self.triton)

    def _context(self, scheme: Scheme, kv: KvFormat) -> int:
        estimate = self._fit(scheme, kv, self.wanted)
        longest = estimate.longest_context_tokens
        if longest >= self.wanted:
            if not self.request.context_tokens and self.wanted < self.spec.context:
                self.words.take(
                    f"context {self.wanted}: the default here, "
                    f"{longest} of the model's {self.spec.context} would fit"
                )
            return self.wanted
        lowest = min(CONTEXT_LOWEST, self.spec.context)
        held = "" if self._held(scheme).weights == scheme.weights else ", not held as stored here,"
        where = f"{scheme.title}{held} with {kv} KV on {self.target.name}"
        needed = f"{estimate.needed_bytes / GIB:.1f} GiB"
        free = f"{estimate.free_bytes / GIB:.1f} GiB"
        if self.anyway and longest < self.wanted:
            return self.wanted
        if longest < lowest:
            raise NoRoomError(
                f"{where} needs {needed} and {free} are free",
                hint="choose a lower scheme (int4), a smaller model, or free memory"
                if self.gpu is None or self.triton
                else "choose a smaller model or the device cpu, or free memory",
                ways=(
                    *(ways_of("scheme", "int4") if self._int4_is_less(scheme) else ()),
                    *(ways_of("device", "cpu") if self.gpu is not None else ()),
                ),
            )
        if self.request.context_tokens:
            raise NoRoomError(
                f"{where}: a context of {self.wanted} tokens needs {needed}, {free} are free",
                hint=f"the longest that fits is {longest} tokens",
                ways=ways_of("context_tokens", longest),
            )
        context = max(lowest, longest // self.page * self.page)
        self.words.take(f"context {context}: what fits of the model's {self.spec.context}")
        return context

    def _op_target(
        self,
        scheme: Scheme,
        group_size: int,
        kv: KvFormat,
        copy: ComputeDtype | None,
        activations: ActivationFormat,
    ) -> OpTarget:
        head: WeightFormat = scheme.weights if scheme.head == "same" else scheme.head
        return OpTarget(
            sm=0 if self.gpu is None else self.gpu.sm,
            triton=self.facts.software.triton is not None,
            copy=copy,
            weights=scheme.weights,
            head=head,
            activations=activations,
            all_rows=scheme.all_rows and activations != "16bit",
            static=scheme.calibration == "static",
            int8_units=has_int8_units(self.facts.cpu),
            sparse=scheme.sparse_share > 0,
            kv=kv,
            group_size=group_size,
            stored_types=self.request.stored_types,
            departures=self.spec.departures,
        )

    def _explain_rope(self, context: int) -> None:
        scaling = self.spec.rope.scaling
        if isinstance(scaling, LongScaling) and context > scaling.original_context:
            self.words.take(
                f"long rope factors: the context is beyond {scaling.original_context} tokens, and "
                "a cache holds keys turned once and for all"
            )

    def _explain_machine(self, graph: bool) -> None:
        if self.gpu is None:
            return
        sm, words = self.gpu.sm, self.words
        if not self.triton:
            words.refuse(
                f"CUDA graph and Triton kernels: need SM {LOWEST_TRITON_SM}, this card is SM {sm}, "
                "torch's own ops instead"
                if sm < LOWEST_TRITON_SM
                else "CUDA graph and Triton kernels: triton is not installed, torch's own ops instead"
            )
            return
        if graph:
            words.take("CUDA graph for decode: one launch a token instead of hundreds")
        else:
            words.refuse(
                "CUDA graph: which experts a token takes is read back in every layer, so a step is "
                "launched op by op"
            )
        if sm < LOWEST_TENSOR_SM:
            words.refuse(
                f"linears on tensor cores: need SM {LOWEST_TENSOR_SM}, this card is SM {sm}, "
                "plain kernels instead"
            )
            return
        words.take(
            f"linears on tensor cores: SM {LOWEST_TENSOR_SM} and newer, weights are unpacked in "
            "registers"
        )
        words.take(
            "launch shapes of the linears: measured on this kind of card, or here at a model's "
            "first load, within seconds"
        )
        if sm >= LOWEST_DEPENDENT_SM:
            words.take("dependent launch: a kernel fetches weights while the one ahead still runs")
        else:
            words.refuse(f"dependent launch: needs SM {LOWEST_DEPENDENT_SM}, this card is SM {sm}")
