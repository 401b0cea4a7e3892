"""Chat templates for models that bring none, chosen by the special tokens they know.

ChatML, Llama 3 and Llama 2 [INST] as their makers published the formats; for a model that knows
no turn tokens a plain transcript, whose speaker labels are stop strings.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from quantchat.tokenizer.template import ChatTemplate, TemplateSource


@dataclass(frozen=True, slots=True, kw_only=True)
class _Fallback:
    source: TemplateSource
    needs: frozenset[str]
    text: str
    stops: tuple[str, ...] = ()


_CHATML = """\
{%- for message in messages -%}
{{ '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\\n' }}{%- endif -%}
"""

_LLAMA3 = """\
{{- bos_token -}}
{%- for message in messages -%}
{{ '<|start_header_id|>' + message.role + '<|end_header_id|>\\n\\n' }}
{{- message.content | trim + '<|eot_id|>' }}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif -%}
"""

_LLAMA2 = """\
{%- set ns = namespace(system='') -%}
{%- for message in messages -%}
{%- if message.role == 'system' -%}
{%- set ns.system = '<<SYS>>\\n' + message.content + '\\n<</SYS>>\\n\\n' -%}
{%- elif message.role == 'user' -%}
{{ bos_token + '[INST] ' + ns.system + message.content + ' [/INST]' }}
{%- set ns.system = '' -%}
{%- else -%}
{{ ' ' + message.content + ' ' + eos_token }}
{%- endif -%}
{%- endfor -%}
"""

_TRANSCRIPT = """\
{{- bos_token -}}
{%- for message in messages -%}
{%- if message.role == 'system' -%}{{ message.content + '\\n\\n' }}
{%- elif message.role == 'user' -%}{{ 'User: ' + message.content + '\\n' }}
{%- else -%}{{ 'Assistant: ' + message.content + '\\n' }}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ 'Assistant:' }}{%- endif -%}
"""

_FALLBACKS = (
    _Fallback(source="chatml", needs=frozenset({"<|im_start|>", "<|im_end|>"}), text=_CHATML),
    _Fallback(
        source="llama3",
        needs=frozenset({"<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"}),
        text=_LLAMA3,
    ),
    _Fallback(source="llama2", needs=frozenset({"<s>", "</s>"}), text=_LLAMA2),
    _Fallback(
        source="transcript", needs=frozenset(), text=_TRANSCRIPT, stops=("\nUser:", "\nAssistant:")
    ),
)


def choose_template(
    text: str | None, *, path: Path, ids: Iterable[str], special_tokens: Mapping[str, str]
) -> ChatTemplate:
    """The model's own template, or the first fallback whose special tokens are all in `ids`."""
    if text is not None and text.strip():
        return ChatTemplate(text, source="model", path=path, special_tokens=special_tokens)
    known = frozenset(ids)
    fallback = next(entry for entry in _FALLBACKS if entry.needs <= known)
    return ChatTemplate(
        fallback.text,
        source=fallback.source,
        path=path,
        special_tokens=special_tokens,
        stops=fallback.stops,
    )
