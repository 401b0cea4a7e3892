"""Every scheme for one model on one machine: its plan and predicted speed, or why there is none; pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from quantchat.errors import PlanError
from quantchat.hardware.execution import ExecutionPlan, PlanRequest
from quantchat.hardware.facts import Facts
from quantchat.hardware.plan import plan as make_plan
from quantchat.hardware.speed import SPEED_CONTEXT_TOKENS, predicted_tok_per_s
from quantchat.quant.registry import SCHEMES
from quantchat.quant.scheme import Scheme
from quantchat.spec import DecoderSpec

ReadRate = Callable[[ExecutionPlan], float | None]
"""A plan's device -> bytes that it reads in a second, None where that is not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """A scheme that can be chosen, or one that cannot."""

    scheme: Scheme
    plan: ExecutionPlan | None
    """None where the plan refuses it."""
    sm: int = 0
    """Of the plan's card, 0 on the CPU."""
    tok_per_s: float | None = None
    """Predicted; None where nothing is known."""
    refusal: str = ""
    hint: str = ""


def offers(
    facts: Facts,
    spec: DecoderSpec,
    request: PlanRequest,
    read_rate: ReadRate,
    *,
    speed_context_tokens: int = SPEED_CONTEXT_TOKENS,
) -> tuple[Offer, ...]:
    """All schemes of the table in its order, under the device, KV and context of `request`."""
    return tuple(
        _offer(facts, spec, replace(request, scheme=name), read_rate, speed_context_tokens)
        for name in SCHEMES
    )


def _offer(
    facts: Facts,
    spec: DecoderSpec,
    request: PlanRequest,
    read_rate: ReadRate,
    speed_context_tokens: int,
) -> Offer:
    scheme = SCHEMES[request.scheme]
    if request.exported not in ("", scheme.name):
        return Offer(
            scheme=scheme,
            plan=None,
            refusal=f"the model was exported in {request.exported}, no other can be made of it",
            hint=f"choose {request.exported}, or the original model",
        )
    try:
        made = make_plan(facts, spec, request)
    except PlanError as error:
        return Offer(scheme=scheme, plan=None, refusal=error.message, hint=error.hint)
    rate = predicted_tok_per_s(
        made, spec, read_bytes_per_s=read_rate(made), context_tokens=speed_context_tokens
    )
    cards = (gpu for gpu in facts.gpus if made.device == "cuda" and gpu.index == made.gpu_index)
    sm = next((gpu.sm for gpu in cards), 0)
    return Offer(scheme=scheme, plan=made, sm=sm, tok_per_s=rate)
