"""Verdicts from the planner, and from what loads on this machine were measured to take.

Owns the records' contents. Where shapes come from is `engine.subjects`', estimates are `hardware`'s.
"""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from quantchat.errors import CheckpointError, NoRoomError, PlanError
from quantchat.store.loads import MeasuredLoad, measured_load
from quantchat.tui.control.fits import CONTEXTS, Fit, Fits
from quantchat.tui.control.preferences import scheme_for
from quantchat.tui.control.room import with_room
from quantchat.tui.control.schemes import Held

if TYPE_CHECKING:
    from quantchat.engine.subjects import Subject, Subjects
    from quantchat.hardware.execution import ExecutionPlan, PlanRequest
    from quantchat.hardware.facts import Facts
    from quantchat.settings.model import Settings


class PlanFits:
    """Implements `FitBook` under the wishes of the settings; each model is looked up once."""

    def __init__(self, settings: Callable[[], Settings]) -> None:
        self._settings = settings
        self._subjects: Subjects | None = None
        self._first = threading.Lock()

    def fits(self, name: str, held: Held | None, cancel: threading.Event) -> Fits:
        """See FitBook.fits."""
        from quantchat.hardware.probe import probe

        try:
            subject = self._book().find(name, cancel)
        except CheckpointError as error:
            return _refused(name, probe(), error.message, error.hint)
        settings = self._settings()
        # What is known by the catalog is not on disk: listed as recommended, it comes so.
        scheme = scheme_for(settings, name, recommended=subject.known == "catalog")
        wish = dataclasses.replace(
            subject.request,
            scheme=subject.request.exported or scheme,
            kv=settings.kv,
            device=settings.device,
            context_tokens=settings.context_tokens,
        )
        return fits_of(name, subject, with_room(probe(), held), wish)

    def _book(self) -> Subjects:
        with self._first:
            if self._subjects is None:
                from quantchat.engine.subjects import Subjects

                self._subjects = Subjects()
            return self._subjects


def fits_of(name: str, subject: Subject, facts: Facts, wish: PlanRequest) -> Fits:
    """One model on one machine; a model that there is no room for has its figures all the same."""
    from quantchat.hardware.bandwidth import read_bytes_per_s
    from quantchat.hardware.plan import plan, plan_at

    spec, problem = subject.spec, None
    try:
        made = plan(facts, spec, wish)
    except NoRoomError as error:
        made, problem = plan(facts, spec, wish, anyway=True), error
    except PlanError as error:
        return _refused(name, facts, error.message, error.hint)
    rate = read_bytes_per_s(facts, made)
    measured = None
    if subject.identity:
        measured = measured_load(subject.identity, made.scheme.name, made.kv, made.device_name)
    contexts = {*CONTEXTS, made.context_tokens, spec.context}
    looked = [
        plan_at(facts, spec, wish, made, tokens)
        for tokens in sorted(tokens for tokens in contexts if tokens <= spec.context)
    ]
    return Fits(
        name=name,
        device_name=made.device_name,
        free_bytes=made.fit.free_bytes,
        total_bytes=made.fit.total_bytes,
        scheme=made.scheme.name,
        kv=made.kv,
        longest_context_tokens=looked[0].fit.longest_context_tokens,
        fits=tuple(_fit(at, subject, rate, measured) for at in looked),
        known=subject.known,
        reencoded=reencoded_words(wish, made),
        refusal="" if problem is None else problem.message,
        hint="" if problem is None else problem.hint,
    )


def _fit(
    at: ExecutionPlan, subject: Subject, rate: float | None, measured: MeasuredLoad | None
) -> Fit:
    from quantchat.hardware.speed import SPEED_CONTEXT_TOKENS, predicted_tok_per_s

    estimate = Fit(
        context_tokens=at.context_tokens,
        weight_bytes=at.fit.weight_bytes + at.fit.copy_bytes,
        kv_bytes=_reserved(at, at.fit.kv_bytes_per_token),
        workspace_bytes=at.fit.workspace_bytes,
        load_peak_bytes=at.fit.load_peak_bytes,
        tok_per_s=predicted_tok_per_s(at, subject.spec, read_bytes_per_s=rate),
        speed_tokens=min(SPEED_CONTEXT_TOKENS, at.context_tokens),
        verdict=at.fit.verdict,
    )
    return estimate if measured is None else with_measured(estimate, at, measured)


def with_measured(estimate: Fit, at: ExecutionPlan, measured: MeasuredLoad) -> Fit:
    """An estimate with what was measured in its place, as far as that holds at its context.

    Workspace and peak were measured at one context and are estimates at others.
    """
    from quantchat.hardware.memory import verdict_of

    found: dict[str, int | float] = {
        "weight_bytes": measured.weight_bytes + at.fit.copy_bytes,
        "kv_bytes": _reserved(at, measured.kv_bytes_per_token),
    }
    if measured.context_tokens == at.context_tokens:
        found["kv_bytes"] = measured.kv_bytes
        if measured.has_workspace:
            found["workspace_bytes"] = int(measured.workspace_bytes)
        if measured.has_peak:
            found["load_peak_bytes"] = int(measured.peak_bytes)
    names = set(found)
    if measured.has_speed and measured.speed_tokens <= at.context_tokens:
        found |= {"tok_per_s": measured.tok_per_s, "speed_tokens": measured.speed_tokens}
        names.add("tok_per_s")
    fit = dataclasses.replace(estimate, **found, measured=frozenset(names))  # type: ignore[arg-type]
    running = fit.weight_bytes + fit.kv_bytes + fit.workspace_bytes
    verdict = verdict_of(max(running, fit.load_peak_bytes), at.fit.free_bytes)
    return dataclasses.replace(fit, verdict=verdict)


def _reserved(at: ExecutionPlan, bytes_per_token: int) -> int:
    """What the cache takes at once, however short the conversation."""
    return at.pages * at.page_tokens * bytes_per_token


def reencoded_words(wish: PlanRequest, made: ExecutionPlan) -> str:
    """What of a packed file is not kept as stored, and what takes its place; "" for nothing."""
    from quantchat.hardware.stored_types import PLAIN_TYPES, stored_type

    packed = sorted(wish.stored_types - PLAIN_TYPES)
    if not packed or wish.exported:
        return ""
    if made.scheme.weights != "stored":
        rounded = made.scheme.rounding != "none"
        after = f"encoded anew as {made.scheme.name}" if rounded else "held in 16 bits"
        return f"{', '.join(packed)} decoded and {after}"
    anew = [name for name in packed if not stored_type(name).exact]
    wide = [
        name for name in packed if stored_type(name).exact and stored_type(name).route == "dense"
    ]
    words = []
    if anew:
        words.append(f"{', '.join(anew)} rounded to int8 rows")
    if wide:
        words.append(f"{', '.join(wide)} held in 16 bits")
    return "; ".join(words)


def _refused(name: str, facts: Facts, message: str, hint: str) -> Fits:
    """What cannot be loaded on any device; the room is that of the first card, or of the processor."""
    card = facts.gpus[0] if facts.gpus else None
    return Fits(
        name=name,
        device_name=facts.cpu.name if card is None else card.name,
        free_bytes=facts.cpu.ram_free_bytes if card is None else card.free_bytes,
        total_bytes=facts.cpu.ram_total_bytes if card is None else card.total_bytes,
        scheme="",
        kv="",
        longest_context_tokens=0,
        fits=(),
        known="header",
        refusal=message,
        hint=hint,
    )
