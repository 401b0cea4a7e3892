"""`quantchat ask`: one prompt, one streamed answer, for shells and scripts."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from typing import Any

import click

from quantchat.cli.answer_options import answer_options, changed_settings, messages_for
from quantchat.cli.choices import KV_HELP, SCHEME_HELP
from quantchat.cli.terminal import harmless
from quantchat.errors import EngineError, QuantchatError
from quantchat.events import (
    Done,
    EngineStopped,
    Event,
    Failed,
    Loaded,
    LoadFailed,
    ModelInfo,
    Notice,
    Token,
)
from quantchat.requests import ChatRequest, LoadRequest, Message, Sampling

WAIT_S = 0.5


@click.command("ask")
@click.argument("prompt", required=False)
@click.option("--model", "-m", help="Alias, repository, folder or file.  [default: the settings']")
@click.option("--scheme", "-s", help=SCHEME_HELP)
@click.option("--kv", help=KV_HELP)
@answer_options
@click.option("--stop", multiple=True, help="End the answer at this text; may be repeated.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of the text.")
def command(
    prompt: str | None,
    model: str | None,
    scheme: str | None,
    kv: str | None,
    stop: tuple[str, ...],
    as_json: bool,
    changes: dict[str, Any],
) -> None:
    """Answer PROMPT on stdout; text on stdin is put behind it."""
    from quantchat.quant.registry import scheme_named

    settings = changed_settings({"model": model, "scheme": scheme, "kv": kv, **changes})
    if settings.scheme != "auto":
        scheme_named(settings.scheme)
    messages = messages_for(settings, prompt, hint='quantchat ask "Why is the sky blue?"')
    load = LoadRequest(
        model=settings.model,
        scheme=settings.scheme,
        kv=settings.kv,
        device=settings.device,
        context_tokens=settings.context_tokens,
        calibration_file=settings.calibration_file,
        tune=settings.tune == "auto",
    )
    answer = _answer(
        load, messages, settings.sampling(), settings.max_tokens, stop, echo=not as_json
    )
    if as_json:
        click.echo(json.dumps(answer.as_object(), ensure_ascii=False))


@dataclass(frozen=True, slots=True)
class _Answer:
    info: ModelInfo
    done: Done

    def as_object(self) -> dict[str, object]:
        metrics, memory, info = self.done.metrics, self.done.memory, self.info
        return {
            "text": self.done.text,
            "finish_reason": self.done.finish_reason,
            "model": info.model,
            "scheme": info.scheme,
            "scheme_detail": info.scheme_detail,
            "kv": info.kv,
            "device": info.device,
            "device_name": info.device_name,
            "metrics": {
                "load_s": info.load_s,
                "ttft_s": metrics.ttft_s,
                "prefill_s": metrics.prefill_s,
                "prefill_tok_per_s": metrics.prefill_tok_per_s,
                "decode_tok_per_s": metrics.decode_tok_per_s,
                "itl_p50_s": metrics.itl_p50_s,
                "itl_p95_s": metrics.itl_p95_s,
                "itl_max_s": metrics.itl_max_s,
                "prompt_tokens": metrics.prompt_tokens,
                "completion_tokens": metrics.completion_tokens,
                "weight_bytes": memory.weight_bytes,
                "kv_bytes": memory.kv_reserved_bytes,
                "workspace_bytes": memory.workspace_bytes,
                "peak_bytes": memory.peak_bytes,
            },
        }


def _answer(
    load: LoadRequest,
    messages: tuple[Message, ...],
    sampling: Sampling,
    max_tokens: int,
    stop: tuple[str, ...],
    *,
    echo: bool,
) -> _Answer:
    from quantchat.engine.session import Session

    session = Session()
    request_id = 0
    printed = 0
    info: ModelInfo | None = None
    try:
        session.load(load)
        while True:
            for event in session.wait(WAIT_S):
                _raise_failure(event)
                if isinstance(event, Loaded):
                    info = event.info
                    request_id = session.chat(
                        ChatRequest(
                            messages=messages, sampling=sampling, max_tokens=max_tokens, stop=stop
                        )
                    )
                elif isinstance(event, Notice):
                    click.echo(f"quantchat: {event.message}", err=True)
                elif isinstance(event, Token) and echo:
                    click.echo(harmless(event.text, sys.stdout), nl=False)
                    printed += len(event.text)
                elif isinstance(event, Done):
                    assert info is not None and event.request_id == request_id
                    if echo:
                        click.echo(harmless(event.text[printed:], sys.stdout))
                    return _Answer(info, event)
    finally:
        session.close()


def _raise_failure(event: Event) -> None:
    if isinstance(event, LoadFailed | Failed):
        raise QuantchatError(event.message, hint=event.hint)
    if isinstance(event, EngineStopped):
        raise EngineError(event.message or "the engine stopped", hint=event.hint)
