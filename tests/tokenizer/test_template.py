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


_NS = "{% set ns = namespace(s='ab') %}"
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
    "loops": "{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}",
    "loops over loops": "{% set l = range(9999) | list %}"
    "{% for a in l %}{% for b in l %}{% if b in l %}{% endif %}{% endfor %}{% endfor %}",
    "calls": "{% macro m(n) %}{% if n %}{{ m(n - 1) }}{{ m(n - 1) }}{% endif %}{% endmacro %}{{ m(60) }}",
    "own loop": "{% for a in [1, 1] recursive %}{{ loop([1, 1]) if loop.depth < 60 }}{% endfor %}",
    "doubled by joining": _NS + "{% for i in range(99) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}",
    "doubled by adding": _NS + "{% for i in range(99) %}{% set ns.s = ns.s + ns.s %}{% endfor %}",
    "doubled by capturing": _NS
    + "{% for i in range(99) %}{% set ns.s %}{{ ns.s }}{{ ns.s }}{% endset %}{% endfor %}",
    "doubled lists": _NS
    + "{% for i in range(99) %}{% set ns.s = [ns.s, ns.s] %}{% endfor %}{{ ns.s }}",
    "doubled tables": _NS
    + "{% for i in range(99) %}{% set ns.s = dict(a=ns.s, b=ns.s) %}{% endfor %}{{ ns.s | tojson }}",
    "doubled by filters": _NS
    + "{% for i in range(99) %}{% set ns.s = [1, 2] | map('attr', 'x') | map('default', ns.s) | list %}"
    "{% endfor %}{{ ns.s }}",
    "squared numbers": "{% set ns = namespace(n=9) %}{% for i in range(99) %}{% set ns.n = ns.n * ns.n %}"
    "{% endfor %}{{ ns.n }}",
    "replaced": "{% set s = 'a' * 90000 %}{{ s.replace('a', s) }}",
    "replaced by the filter": "{% set s = 'a' * 90000 %}{{ s | replace('a', s) }}",
    "joined": "{% set s = 'a' * 90000 %}{{ s | join(s) }}",
    "joined by the method": "{% set s = 'a' * 90000 %}{{ s.join(s) }}",
    "wide by a method": "{{ 'a'.ljust(10 ** 10) }}",
    "wide by a filter": "{{ 'a' | indent(10 ** 10, true) }}",
    "unknown filter": "{{ 'a' | center(10 ** 10) }}",
    "wide by a format": "{{ '%9999999999d' % 1 }}",
    "wide by braces": "{{ '{:>9999999999}'.format(1) }}",
    "wide by an argument": "{{ '{:>{}}'.format(1, 10 ** 10) }}",
    "wide json": "{{ messages | tojson(indent=10 ** 10) }}",
    "wide date": "{{ strftime_now('%9999999999d') }}",
    "many digits": "{{ 1.5 | round(10 ** 10, 'ceil') }}",
    "sum of lists": "{{ [[1]] | sum(start=[]) }}",
    "translated": "{{ 'a'.translate({97: 'b'}) }}",
    "lorem ipsum": "{{ lipsum(10 ** 10) }}",
    "words": "{{ a+a+a+a+a+a }}" * 3800,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_templates_are_errors(name: str) -> None:
    with pytest.raises(TokenizerError, match=r"^m\.gguf: its chat template ") as caught:
        render(HOSTILE[name], ASK)
    assert caught.value.hint


CAREFUL = """\
{%- set ns = namespace(n=0, texts=[], rest=messages[1:]) -%}
{%- for message in messages if message.role != 'tool' -%}
    {%- set text = message.content.split('</think>')[-1] | trim -%}
    {%- if loop.first %}{% set text = 'first: ' ~ text %}{% endif -%}
    {%- set ns.texts = ns.texts + [text.replace('a', '[a]')] -%}
    {%- set ns.n = ns.n + (text | length) * 2 -%}
    {{ '%s|%d' % (message.role, loop.revindex) }}{{ '\n' if not loop.last }}
{%- endfor %}
{{ ns.texts | join(' / ') }} {{ ns.n }} {{ ns.rest | map(attribute='role') | list }}
{{ {'a': [1, 2.5, none], 'b': 'ü'} | tojson(indent=2) }} {{ ', '.join(['x', 'y']) }}
{{ messages | selectattr('role', 'equalto', 'user') | list | length }} {{ 'ab'[::-1] }} {{ 7 % 4 }}
{%- for key, value in {'k': 1}.items() %} {{ key }}={{ value }}{{ loop.length }}{% endfor %}
{%- set marks = ['<', '>'] %}{{ marks[0] ~ 1 ~ marks[1] }}{{ ('a', 'b') | last | upper }}
"""


def test_what_is_counted_is_what_it_was() -> None:
    from transformers.utils.chat_template_utils import render_jinja_template

    turns = [ASK, Message("assistant", "<think>a</think> banana\n"), Message("user", " ok\n")]
    dicts = [{"role": turn.role, "content": turn.content} for turn in turns]
    oracle, _ = render_jinja_template([dicts], chat_template=CAREFUL, **WORDS)
    assert render(CAREFUL, *turns) == oracle[0]


def test_a_long_conversation_has_room() -> None:
    turns = [ASK, ANSWER] * 1500
    assert render(GEMMA, *turns).count("<start_of_turn>") == 3000
    long = Message("user", "word " * 200_000)
    assert len(render(GEMMA, long)) > 999_000


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
