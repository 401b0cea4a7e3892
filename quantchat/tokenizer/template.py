"""A conversation as the text that a model was trained on: its own Jinja template, sandboxed.

Owns rendering and what to do when a template rejects a system role or two turns in a row.
The environment is the one that model makers write for: transformers' `apply_chat_template`.
Templates come from files: sandboxed, no loader, bounded text.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

from quantchat.errors import TokenizerError
from quantchat.requests import Message

if TYPE_CHECKING:
    import jinja2

    from quantchat.tokenizer.sandbox import Sandbox

TemplateSource: TypeAlias = Literal["model", "chatml", "llama3", "llama2", "transcript"]

MAX_TEMPLATE_CHARS = 1 << 16
MAX_TEMPLATE_WORDS = 20_000
"""Several times what the longest real ones have; compiling is slow."""

_END = "\ufdd1"
"""A noncharacter that marks where the last message's content ends."""


class ChatTemplate:
    """Renders messages; compiled at the first use."""

    def __init__(
        self,
        text: str,
        *,
        source: TemplateSource,
        path: Path,
        special_tokens: Mapping[str, str],
        stops: tuple[str, ...] = (),
    ) -> None:
        self.text = text
        self.source: TemplateSource = source
        """"model" for the file's own template, else the name of the fallback in use."""
        self.special_tokens = special_tokens
        """Names that the template may use, as in bos_token, and their spelling."""
        self.stops = stops
        """Strings that end an answer, for formats without turn tokens."""
        self._path = path
        self._sandbox: Sandbox | None = None
        self._compiled: jinja2.Template | None = None

    def render(
        self,
        messages: Sequence[Message],
        *,
        add_generation_prompt: bool,
        continue_last: bool = False,
    ) -> str:
        """The prompt text. `continue_last` leaves the last (assistant) message open-ended.

        A template that refuses or drops the system message gets its text in front of the first
        user message; one that refuses two turns of a role in a row gets them joined. Raises
        TokenizerError for a template that cannot be used.
        """
        turns = list(messages)
        if continue_last:
            assert turns and turns[-1].role == "assistant", "only an assistant's turn goes on"
            if not turns[-1].content:
                return self._render_any(turns[:-1], add_generation_prompt=True)
            turns[-1] = Message("assistant", turns[-1].content + _END)
            rendered = self._render_any(turns, add_generation_prompt=False)
            opened, mark, _ = rendered.rpartition(_END)
            if not mark:
                raise self._error("drops the last message, so it cannot be continued")
            return opened
        return self._render_any(turns, add_generation_prompt=add_generation_prompt)

    def _render_any(self, turns: list[Message], *, add_generation_prompt: bool) -> str:
        """The first form of the conversation that the template takes."""
        from jinja2.exceptions import TemplateError

        self._compile()
        assert self._sandbox is not None
        self._sandbox.budget.start(sum(len(turn.content) for turn in turns))
        refusal: TemplateError | None = None
        for form in _forms(turns):
            try:
                rendered = self._render(form, add_generation_prompt=add_generation_prompt)
            except TemplateError as error:
                refusal = refusal or error
                continue
            system = next((turn.content.strip() for turn in form if turn.role == "system"), "")
            if system in rendered:
                return rendered
        assert refusal is not None, "the folded form has no system message to drop"
        raise self._error(f"fails: {refusal.message or type(refusal).__name__}") from refusal

    def _render(self, turns: Sequence[Message], *, add_generation_prompt: bool) -> str:
        from jinja2.exceptions import TemplateError

        template = self._compile()
        assert self._sandbox is not None
        budget = self._sandbox.budget
        parts: list[str] = []
        try:
            for part in template.generate(
                messages=[{"role": turn.role, "content": turn.content} for turn in turns],
                add_generation_prompt=add_generation_prompt,
                tools=None,
                documents=None,
                bos_token=self.special_tokens.get("bos_token", ""),
                eos_token=self.special_tokens.get("eos_token", ""),
                **{
                    name: word
                    for name, word in self.special_tokens.items()
                    if name not in ("bos_token", "eos_token")
                },
            ):
                budget.spend(len(part))
                parts.append(part)
        except (TemplateError, TokenizerError):
            raise
        except Exception as error:
            raise TemplateError(f"{type(error).__name__}: {error}") from error
        return "".join(parts)

    def _compile(self) -> jinja2.Template:

        from quantchat.tokenizer.sandbox import environment

        if self._compiled is None:
            if len(self.text) > MAX_TEMPLATE_CHARS:
                raise self._error(f"has more than {MAX_TEMPLATE_CHARS} characters")
            sandbox = environment()
            try:
                words = sum(1 for _ in itertools.islice(sandbox.lex(self.text), MAX_TEMPLATE_WORDS))
                if words == MAX_TEMPLATE_WORDS:
                    raise self._error(f"has more than {MAX_TEMPLATE_WORDS} words")
                self._compiled = sandbox.from_string(self.text)
            except TokenizerError:
                raise
            except Exception as error:  # the compiler fails in many ways, all of them the text's
                raise self._error(f"is not valid: {error}") from error
            self._sandbox = sandbox
        return self._compiled

    def _error(self, problem: str) -> TokenizerError:
        return TokenizerError(
            self._path,
            f"its chat template {problem}",
            hint="try another conversion of the model, or one made for chat",
        )


def _forms(turns: list[Message]) -> list[list[Message]]:
    """The conversation as it is, with the system text folded in, and with equal roles joined."""
    folded = _fold_system(turns)
    forms = [turns, folded, _join_roles(turns), _join_roles(folded)]
    return [form for n, form in enumerate(forms) if form not in forms[:n]]


def _fold_system(turns: list[Message]) -> list[Message]:
    """System texts put in front of the first user message."""
    system = "\n\n".join(turn.content for turn in turns if turn.role == "system")
    rest = [turn for turn in turns if turn.role != "system"]
    for n, turn in enumerate(rest):
        if turn.role == "user" and system:
            rest[n] = Message("user", f"{system}\n\n{turn.content}")
            return rest
    return [Message("user", system), *rest] if system else rest


def _join_roles(turns: list[Message]) -> list[Message]:
    """Neighbouring turns of one role as one turn."""
    joined: list[Message] = []
    for turn in turns:
        if joined and joined[-1].role == turn.role:
            turn = Message(turn.role, f"{joined.pop().content}\n\n{turn.content}")
        joined.append(turn)
    return joined
