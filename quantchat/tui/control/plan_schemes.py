"""The chooser's rows from the planner, the packed cache and the store of measured quality."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from quantchat.errors import PlanError, QuantchatError
from quantchat.requests import LoadRequest
from quantchat.store.quality import Quality, measured_quality
from quantchat.tui.control.room import with_room
from quantchat.tui.control.schemes import AUTO, Held, SchemeRow

if TYPE_CHECKING:
    from quantchat.engine.subjects import Subject, Subjects
    from quantchat.hardware.execution import ExecutionPlan
    from quantchat.hardware.offers import Offer
    from quantchat.quant.scheme import Scheme

AUTO_SUMMARY = "What the plan finds best on this machine."


class PlanSchemes:
    """Implements `SchemeBook`; a model's file is looked at once."""

    def __init__(self) -> None:
        self._subjects: Subjects | None = None
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
        facts = with_room(probe(), held)

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

    def _model(self, request: LoadRequest) -> Subject:
        if self._subjects is None:
            from quantchat.engine.subjects import Subjects

            self._subjects = Subjects()
        return self._subjects.on_disk(request.model)


def _row(model: Subject, request: LoadRequest, offer: Offer) -> SchemeRow:
    from quantchat.hardware.holding import held_words
    from quantchat.hardware.speed import SPEED_CONTEXT_TOKENS

    scheme, plan = offer.scheme, offer.plan
    if plan is None:
        return SchemeRow(
            name=scheme.name, summary=scheme.summary, refusal=offer.refusal, hint=offer.hint
        )
    try:
        key = _calibration_key(model, request, scheme)
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
        quality=_quality(model.identity, scheme.name, plan.kv, key),
        calibrates=scheme.calibration != "none",
        packed=_packed(model, scheme, plan, key),
        held=held_words(scheme, sm=offer.sm, triton=plan.triton),
    )


def _calibration_key(model: Subject, request: LoadRequest, scheme: Scheme) -> str | None:
    """Of what the scheme would be made with; None of an export, which is made.

    Raises UsageError where a calibration file is no use.
    """
    from quantchat.engine.read_ahead import calibration_key, calibration_of

    if model.request.exported:
        return None
    return calibration_key(scheme, calibration_of(request))


def _quality(identity: str, scheme: str, kv: str, key: str | None) -> Quality | None:
    """Of the pair, else of the scheme with a cache in 16 bits."""
    pair = measured_quality(identity, scheme, kv, key)
    return pair or measured_quality(identity, scheme, "16bit", key)


def _packed(model: Subject, scheme: Scheme, plan: ExecutionPlan, key: str | None) -> bool:
    """Whether its weights are on disk."""
    from quantchat import paths
    from quantchat.model.packed_name import packed_file, packed_stem

    if scheme.name == model.request.exported:
        return True
    if scheme.rounding == "none":
        return False
    stem = packed_stem(model.identity, scheme.name, plan.group_size, key or "")
    kind = "card-*" if plan.triton else "stored-*"
    return any(paths.packed_dir().glob(packed_file(stem, kind)))
