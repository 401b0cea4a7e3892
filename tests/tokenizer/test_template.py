"""Chat templates: the model makers' environment, refusals worked around, hostile ones stopped."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from quantchat.errors import TokenizerError
from quantchat.requests import Message
from quantchat.tokenizer import ChatTemplate
from quantchat.tokenizer.fallback import choose_template

SYSTEM = Message("system", "Be brief.")
ASK = Message("user", "Hi")
ANSWER = Message("assistant", "Hello ")
WORDS = {"bos_token": "<s>", "eos_token": "</s>"}

GEMMA = """\
{{ bos_token }}{% if messages[0]['role'] == 'system' %}\
{{ raise_exception('System role not supported') }}{% endif %}\
{% for message in messages %}\
{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}\
{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}\
{% endif %}
<start_of_turn>{{ message['role'] }}
{{ message['content'] | trim }}<end_of_turn>
{% endfor %}
{% if add_generation_prompt %}<start_of_turn>model
{% endif %}"""

RICH = """\
{%- set found = namespace(n=0) -%}
{%- for message in messages -%}
    {%- if message.role == 'system' -%}{%- continue -%}{%- endif -%}
    {%- set found.n = found.n + 1 -%}
    {{ found.n }}:{{ message | tojson }}
    {%- generation -%}[{{ message.content[:2] }}]{%- endgeneration -%}
{%- endfor -%}
{%- if tools -%}tools{%- endif -%}
{{ strftime_now('%Y') }}{{ eos_token }}{{ '=' * 3 }}
"""


def own(text: str) -> ChatTemplate:
    return ChatTemplate(text, source="model", path=Path("m.gguf"), special_tokens=WORDS)


def render(text: str, *turns: Message, **options: Any) -> str:
    return own(text).render(turns, **{"add_generation_prompt": False, **options})


@pytest.mark.parametrize("prompt", [True, False])
@pytest.mark.parametrize("text", [GEMMA, RICH])
def test_renders_as_transformers_does(text: str, prompt: bool) -> None:
    from transformers.utils.chat_template_utils import render_jinja_template

    turns = [ASK, Message("assistant", "<b>'ö\"</b>"), Message("user", "  ok\n")]
    dicts = [{"role": turn.role, "content": turn.content} for turn in turns]
    oracle, _ = render_jinja_template(
        [dicts], chat_template=text, add_generation_prompt=prompt, **WORDS
    )
    assert render(text, *turns, add_generation_prompt=prompt) == oracle[0]


def test_year_of_now() -> None:
    assert str(datetime.now().year) in render(RICH, ASK)


def test_a_refused_system_message_goes_to_the_first_user() -> None:
    folded = render(GEMMA, Message("user", "Be brief.\n\nHi"), add_generation_prompt=True)
    assert render(GEMMA, SYSTEM, ASK, add_generation_prompt=True) == folded
    assert "Be brief.\n\nHi<end_of_turn>" in folded


def test_a_dropped_system_message_goes_to_the_first_user() -> None:
    assert "Be brief.\\n\\nHi" in render(RICH, SYSTEM, ASK)


def test_two_turns_of_a_role_are_joined_where_refused() -> None:
    joined = render(GEMMA, ASK, Message("user", "Again"))
    assert joined == render(GEMMA, Message("user", "Hi\n\nAgain"))
    both = render(GEMMA, SYSTEM, ASK, Message("user", "Again"))
    assert both == render(GEMMA, Message("user", "Be brief.\n\nHi\n\nAgain"))


def test_only_a_system_message() -> None:
    assert "user\nBe brief." in render(GEMMA, SYSTEM)


@pytest.mark.parametrize("content", ["Hello ", "end", "user\n", "a<end_of_turn>b", "x\n\n"])
def test_the_last_message_stays_open(content: str) -> None:
    turns = [ASK, Message("assistant", content)]
    opened = render(GEMMA, *turns, continue_last=True)
    assert opened == render(GEMMA, ASK) + f"<start_of_turn>assistant\n{content}"


def test_an_empty_last_message_is_opened() -> None:
    empty = [ASK, Message("assistant", "")]
    assert render(GEMMA, *empty, continue_last=True) == render(
        GEMMA, ASK, add_generation_prompt=True
    )


def test_a_template_that_loses_the_last_message() -> None:
    with pytest.raises(TokenizerError, match="cannot be continued"):
        render("{{ messages[0].content }}", ASK, ANSWER, continue_last=True)


HOSTILE = {
    "syntax": "{% for %}",
    "unknown tag": "{% quux %}",
    "file": "{% include '/etc/passwd' %}",
    "python": "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "mutation": "{% set _ = messages.append(1) %}{{ messages.clear() }}",
    "repetition": "{{ 'a' * 10000000000 }}",
    "power": "{{ 9 ** 999999999 }}",
    "division": "{{ 1 / 0 }}",
    "type": "{{ messages[0].content + 1 }}",
    "range": "{% for i in range(10 ** 9) %}a{% endfor %}",
    "length": "{% for i in range(90000) %}{{ 'a' * 100000 }}{% endfor %}",
    "recursion": "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
    "nesting": "{{ " + "(" * 5000 + ")" * 5000 + " }}",
    "size": "a" * (1 << 21),
    "raised": "{{ raise_exception('no') }}",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_templates_are_errors(name: str) -> None:
    with pytest.raises(TokenizerError, match=r"^m\.gguf: its chat template ") as caught:
        render(HOSTILE[name], ASK)
    assert caught.value.hint


FALLBACKS = {
    "chatml": (
        {"<|im_start|>", "<|im_end|>", "<s>", "</s>"},
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n"
        "<|im_start|>assistant\nHello <|im_end|>\n<|im_start|>user\nHi<|im_end|>\n"
        "<|im_start|>assistant\n",
    ),
    "llama3": (
        {"<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"},
        "<s><|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\nHello<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n",
    ),
    "llama2": (
        {"<s>", "</s>"},
        "<s>[INST] <<SYS>>\nBe brief.\n<</SYS>>\n\nHi [/INST] Hello  </s><s>[INST] Hi [/INST]",
    ),
    "transcript": (
        {"a"},
        "<s>Be brief.\n\nUser: Hi\nAssistant: Hello \nUser: Hi\nAssistant:",
    ),
}


@pytest.mark.parametrize("source", FALLBACKS)
def test_models_without_a_template(source: str) -> None:
    ids, expected = FALLBACKS[source]
    template = choose_template(None, path=Path("m"), ids=ids, special_tokens=WORDS)
    assert template.source == source
    turns = [SYSTEM, ASK, ANSWER, ASK]
    assert template.render(turns, add_generation_prompt=True) == expected
    opened = template.render([ASK, ANSWER], add_generation_prompt=False, continue_last=True)
    assert opened.endswith("Hello ")
    assert bool(template.stops) == (source == "transcript")
