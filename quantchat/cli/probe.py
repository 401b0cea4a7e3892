"""`quantchat probe`: the machine, the plan for a model and its reasons, as text or JSON.

Owns the command's words and its output. A model is a name on disk or a known shape, so that a
plan can be seen before anything is downloaded.
"""

from __future__ import annotations

import dataclasses
import json
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from quantchat.cli.answer_options import changed_settings
from quantchat.cli.choices import KV_HELP, SCHEME_HELP
from quantchat.errors import ModelNotFoundError, PlanError

if TYPE_CHECKING:
    from quantchat.engine.subjects import Subject as Looked
    from quantchat.hardware.facts import Facts
    from quantchat.hardware.offers import Offer
    from quantchat.hardware.plan import ExecutionPlan, PlanRequest
    from quantchat.settings.model import Settings
    from quantchat.spec import DecoderSpec
    from quantchat.tui.control.fits import Fits

DEFAULT_SHAPE = "llama-3.1-8b"


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """The model that a plan is made for."""

    name: str
    origin: str
    """A path, "hub", or "shape" where it was neither opened nor asked for."""
    spec: DecoderSpec
    request: PlanRequest
    looked: Looked
    """Without wishes."""


@click.command()
@click.option(
    "--model",
    "-m",
    default="",
    help="A model on disk, owner/name of the hub, or a shape such as llama-3.1-8b.",
)
@click.option("--scheme", "-s", default="", help=SCHEME_HELP)
@click.option("--kv", default="", help=KV_HELP)
@click.option("--device", default="", help="auto, cpu, cuda.")
@click.option(
    "--context", type=click.IntRange(min=0), help="Longest context in tokens; 0 takes what fits."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
def command(
    model: str, scheme: str, kv: str, device: str, context: int | None, as_json: bool
) -> None:
    """Show the machine, the plan and its reasons, and every scheme with its bytes and speed."""
    from quantchat.hardware.plan import plan
    from quantchat.hardware.probe import probe

    settings = changed_settings({})
    wanted = dataclasses.replace(
        settings,
        scheme=scheme or settings.scheme,
        kv=kv or settings.kv,
        device=device or settings.device,
        context_tokens=settings.context_tokens if context is None else context,
    )
    facts = probe()
    subject = find_subject(model, wanted)
    made: ExecutionPlan | None = None
    problem: PlanError | None = None
    try:
        made = plan(facts, subject.spec, subject.request)
    except PlanError as error:
        problem = error
    found = _offers(facts, subject)
    fits = _fits(facts, subject)
    if as_json:
        click.echo(json.dumps(as_record(facts, subject, made, problem, found, fits)))
    else:
        from quantchat.cli.probe_view import show

        show(facts, subject, made, found, fits)
    if problem is not None:
        raise problem


def _offers(facts: Facts, subject: Subject) -> tuple[Offer, ...]:
    """Every scheme here; none where the device that was asked for is not there."""
    from quantchat.hardware.bandwidth import keep_measured, read_bytes_per_s
    from quantchat.hardware.offers import offers

    def rate(made: ExecutionPlan) -> float | None:
        known = read_bytes_per_s(facts, made)
        # Needs torch: a shape that is looked up is not worth waiting for it.
        measurable = subject.origin != "shape" and facts.software.torch is not None
        if known is not None or made.device != "cpu" or not measurable:
            return known
        from quantchat.engine.bandwidth import cpu_read_bytes_per_s

        measured = cpu_read_bytes_per_s(made.threads)
        keep_measured(made, measured)
        return measured

    return offers(facts, subject.spec, subject.request, rate)


def _fits(facts: Facts, subject: Subject) -> Fits:
    """The verdict at each context."""
    from quantchat.tui.control.plan_fits import fits_of

    return fits_of(subject.name, subject.looked, facts, subject.request)


def find_subject(name: str, settings: Settings) -> Subject:
    """The named model or shape; without a name the configured model, else the default shape.

    A name that is not on disk is asked of the hub: shapes and types, no weights.
    """
    from quantchat.engine.subjects import Subjects
    from quantchat.shapes import SHAPES

    if name in SHAPES:
        return _shape(name, settings)
    try:
        looked = Subjects().find(name or settings.model, threading.Event())
    except ModelNotFoundError as error:
        if not name:
            return _shape(DEFAULT_SHAPE, settings)
        raise ModelNotFoundError(
            error.message,
            hint=f"{error.hint}; shapes known without a download: {', '.join(SHAPES)}",
        ) from None
    if not name and looked.path is None:
        return _shape(DEFAULT_SHAPE, settings)
    return _wished(looked, settings)


def _shape(name: str, settings: Settings) -> Subject:
    from quantchat.engine.subjects import Subject as Looked
    from quantchat.engine.subjects import plain_request
    from quantchat.shapes import SHAPES

    spec = SHAPES[name]
    looked = Looked(name=name, identity="", spec=spec, request=plain_request(spec), known="catalog")
    return _wished(looked, settings)


def _wished(looked: Looked, settings: Settings) -> Subject:
    """A model under the settings' wishes."""
    from quantchat.quant.registry import scheme_of_export

    origins = {"file": str(looked.path), "catalog": "shape"}
    exported = looked.request.exported
    scheme = settings.scheme
    if exported:
        scheme = scheme_of_export(looked.name, exported, scheme)
    return Subject(
        name=looked.name,
        origin=origins.get(looked.known, "hub"),
        spec=looked.spec,
        looked=looked,
        request=dataclasses.replace(
            looked.request,
            scheme=scheme,
            kv=settings.kv,
            device=settings.device,
            context_tokens=settings.context_tokens,
        ),
    )


def as_record(
    facts: Facts,
    subject: Subject,
    made: ExecutionPlan | None,
    problem: PlanError | None,
    found: tuple[Offer, ...],
    fits: Fits,
) -> dict[str, Any]:
    """What `--json` prints: facts, model, plan (null where there is none), error, reasons, schemes,
    contexts.
    """
    from quantchat.hardware.specs import specs_of

    machine = _plain(dataclasses.asdict(facts))
    for card, gpu in zip(machine["gpus"], facts.gpus, strict=True):
        known = specs_of(gpu)
        card["peaks"] = None if known is None else _plain(dataclasses.asdict(known))
    record: dict[str, Any] = {
        "facts": machine,
        "model": {
            "name": subject.name,
            "origin": subject.origin,
            "parameters": subject.spec.parameters,
            "spec": _plain(dataclasses.asdict(subject.spec)),
            "request": _plain(dataclasses.asdict(subject.request)),
        },
        "plan": None,
        "reasons": [],
        "refused": [],
        "error": None,
        "schemes": [_offer_record(offer) for offer in found],
        "contexts": _plain([dataclasses.asdict(fit) for fit in fits.fits]),
    }
    if made is not None:
        decided = _plain(dataclasses.asdict(made))
        decided["scheme"] = made.scheme.name
        decided["fit"]["needed_bytes"] = made.fit.needed_bytes
        record["reasons"] = decided.pop("reasons")
        record["refused"] = decided.pop("refused")
        record["plan"] = decided
    if problem is not None:
        record["error"] = {"message": problem.message, "hint": problem.hint}
    return record


def _offer_record(offer: Offer) -> dict[str, Any]:
    fit = None if offer.plan is None else offer.plan.fit
    return {
        "scheme": offer.scheme.name,
        "weight_bytes": None if fit is None else fit.weight_bytes,
        "kv_bytes": None if fit is None else fit.kv_bytes,
        "context_tokens": None if fit is None else fit.context_tokens,
        "predicted_tok_per_s": offer.tok_per_s,
        "refusal": offer.refusal,
        "hint": offer.hint,
    }


def _plain(value: Any) -> Any:
    """JSON has no sets and no tuples."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, frozenset):
        return sorted(value)
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return value
