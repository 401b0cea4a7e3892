"""The chooser's rows from the planner, the packed cache and the store of measured quality."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

from quantchat.errors import PlanError, QuantchatError
from quantchat.requests import LoadRequest
from quantchat.store.quality import Quality, measured_quality
from quantchat.tui.control.schemes import AUTO, Held, SchemeRow

if TYPE_CHECKING:
    from quantchat.hardware.execution import ExecutionPlan, PlanRequest
    from quantchat.hardware.facts import Facts
    from quantchat.hardware.offers import Offer
    from quantchat.quant.scheme import Scheme
    from quantchat.spec import DecoderSpec

AUTO_SUMMARY = "What the plan finds best on this machine."


@dataclass(frozen=True, slots=True)
class _Model:
    """What is known of a model's file."""

    name: str
    identity: str
    spec: DecoderSpec
    request: PlanRequest


class PlanSchemes:
    """Implements `SchemeBook`; a model's file is looked at once."""

    def __init__(self) -> None:
        self._known: _Model | None = None
        self._measured = False
        """The processor's memory, in this session."""

    def rows(
        self, request: LoadRequest, held: Held | None, *, may_measure: bool
    ) -> list[SchemeRow]:
        """See SchemeBook.rows."""
        from quantchat.engine.bandwidth import cpu_read_bytes_per_s
        from quantchat.hardware.bandwidth import keep_measured, read_bytes_per_s
        from quantchat.hardware.offers import offers
        from quantchat.hardware.plan import plan as make_plan
        from quantchat.hardware.probe import probe

        model = self._model(request)
        wish = dataclasses.replace(
            model.request,
            scheme=model.request.exported or AUTO,
            kv=request.kv,
            device=request.device,
            context_tokens=request.context_tokens,
        )
        facts = _with_room(probe(), held)

        def rate(plan: ExecutionPlan) -> float | None:
            if plan.device == "cpu" and may_measure and not self._measured:
                self._measured = True
                keep_measured(plan, cpu_read_bytes_per_s(plan.threads))
            return read_bytes_per_s(facts, plan)

        found = offers(facts, model.spec, wish, rate)
        rows = [_row(model, request, offer) for offer in found]
        try:
            taken = make_plan(facts, model.spec, wish).scheme.name
        except PlanError as error:
            first = SchemeRow(
                name=AUTO, summary=AUTO_SUMMARY, refusal=error.message, hint=error.hint
            )
        else:
            like = next(row for row in rows if row.name == taken)
            first = dataclasses.replace(like, name=AUTO, summary=AUTO_SUMMARY, takes=taken)
        return [first, *rows]

    def _model(self, request: LoadRequest) -> _Model:
        if self._known is not None and self._known.name == request.model:
            return self._known
        from quantchat.engine.read_ahead import plan_request
        from quantchat.hub.local import resolve
        from quantchat.model.families import open_model

        source = open_model(resolve(request.model).path)
        try:
            wish = plan_request(dataclasses.replace(request, scheme=AUTO), source)
            self._known = _Model(request.model, source.checkpoint.identity(), source.spec, wish)
        finally:
            source.close()
        return self._known


def _row(model: _Model, request: LoadRequest, offer: Offer) -> SchemeRow:
    from quantchat.hardware.holding import held_words
    from quantchat.hardware.speed import SPEED_CONTEXT_TOKENS

    scheme, plan = offer.scheme, offer.plan
    if plan is None:
        return SchemeRow(
            name=scheme.name, summary=scheme.summary, refusal=offer.refusal, hint=offer.hint
        )
    try:
        packed = _packed(model, request, scheme, plan)
    except QuantchatError as error:
        return SchemeRow(
            name=scheme.name, summary=scheme.summary, refusal=error.message, hint=error.hint
        )
    return SchemeRow(
        name=scheme.name,
        summary=scheme.summary,
        weight_bytes=plan.fit.weight_bytes,
        kv=plan.kv,
        kv_bytes=plan.fit.kv_bytes,
        context_tokens=plan.context_tokens,
        tok_per_s=offer.tok_per_s,
        speed_tokens=min(SPEED_CONTEXT_TOKENS, plan.context_tokens),
        quality=_quality(model.identity, scheme.name, plan.kv),
        calibrates=scheme.calibration != "none",
        packed=packed,
        held=held_words(scheme, sm=offer.sm, triton=plan.triton),
    )


def _quality(identity: str, scheme: str, kv: str) -> Quality | None:
    """Of the pair, else of the scheme with a cache in 16 bits."""
    return measured_quality(identity, scheme, kv) or measured_quality(identity, scheme, "16bit")


def _packed(model: _Model, request: LoadRequest, scheme: Scheme, plan: ExecutionPlan) -> bool:
    """Whether its weights are on disk; raises UsageError where a calibration file is no use."""
    from quantchat import paths
    from quantchat.engine.read_ahead import calibration_key, calibration_of
    from quantchat.model.packed_name import packed_stem

    if scheme.name == model.request.exported:
        return True
    if scheme.rounding == "none":
        return False
    key = calibration_key(scheme, calibration_of(request))
    stem = packed_stem(model.identity, scheme.name, plan.group_size, key)
    kind = "card" if plan.triton else "stored"
    return any(paths.packed_dir().glob(f"{stem}-{kind}-*"))


def _with_room(facts: Facts, held: Held | None) -> Facts:
    """The machine as it is once the loaded model has gone."""
    if held is None:
        return facts
    if held.device == "cpu":
        free = min(facts.cpu.ram_free_bytes + held.size_bytes, facts.cpu.ram_total_bytes)
        return dataclasses.replace(facts, cpu=dataclasses.replace(facts.cpu, ram_free_bytes=free))
    gpus = list(facts.gpus)
    for at, gpu in enumerate(gpus):
        if gpu.name == held.device_name:
            free = min(gpu.free_bytes + held.size_bytes, gpu.total_bytes)
            gpus[at] = dataclasses.replace(gpu, free_bytes=free)
            break
    return dataclasses.replace(facts, gpus=tuple(gpus))
