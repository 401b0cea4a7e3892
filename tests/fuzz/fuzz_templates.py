"""Chat templates that lie in wait: sound ones damaged, and ones grown from a grammar of traps."""

from __future__ import annotations

from random import Random

import fuzz_bytes
import tiny_tokenizer

SOUND = (
    tiny_tokenizer.CHAT_TEMPLATE,
    """\
{{- bos_token }}{%- set ns = namespace(system='', n=0) %}
{%- if messages[0]['role'] == 'system' %}{% set ns.system = messages[0]['content'] | trim %}\
{% set messages = messages[1:] %}{%- endif %}
{%- if tools is not none %}{{ tools | tojson(indent=4) }}{%- endif %}
{%- for message in messages %}
    {%- if (message.role == 'user') != (loop.index0 % 2 == 0) %}
        {{- raise_exception('Conversation roles must alternate') }}
    {%- endif %}
    {%- set content = message.content.split('</think>')[-1].lstrip('\\n') %}
    {{- '<|im_start|>' + message.role + '\\n' + content | trim + '<|im_end|>\\n' }}
    {%- set ns.n = ns.n + 1 %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}
""",
    """\
{%- macro turn(role, content='', depth=0) -%}
    {{ '<' ~ role ~ '>' }}{% if content is string %}{{ content }}{% else %}
    {%- for part in content %}{{ part['text'] }}{% endfor %}{% endif %}
{%- endmacro -%}
{% for m in messages if m.role != 'tool' %}{{ turn(m['role'], content=m['content']) }}
{% else %}{{ strftime_now('%d %b %Y') }}{% endfor %}
{% set words = messages | map(attribute='role') | join(', ') %}{{ words | upper | replace('A', 'b') }}
{% generation %}{{ messages[-1].content[:5] }}{% endgeneration %}
{{ messages | selectattr('role', 'equalto', 'user') | list | length }}{{ {'a': [1, 2.5]} | tojson }}
""",
)

ATOMS = (
    *("messages", "s", "n", "l", "bos_token", "messages[0].content", "messages[0]", "'ab'", "'%s'"),
    *("1", "10 ** 6", "99999", "range(99999)", "range(9)", "[1, 2, 3]", "{'a': 1}", "none", "1.5"),
    *(
        "self",
        "loop",
        "m(n)",
        "m",
        "'a' * 99999",
        "namespace",
        "dict",
        "lipsum",
        "cycler",
        "joiner",
    ),
    *(
        "strftime_now('%Y')",
        "strftime_now('%' ~ s)",
        "''.__class__",
        "s.__class__",
        "undefined_name",
    ),
    *(
        "'{:>999999999}'",
        "'%999999999d'",
        "caller",
        "2 ** 64",
        "-1",
        "0",
        "'\\x00'",
        "'\U0001f642'",
    ),
)
FILTERS = (
    *("list", "length", "join", "tojson", "trim", "upper", "string", "int", "float", "sort", "sum"),
    *(
        "reverse",
        "first",
        "last",
        "unique",
        "items",
        "abs",
        "safe",
        "e",
        "pprint",
        "urlize",
        "wordcount",
    ),
    *("tojson(indent=999999999)", "indent(999999999)", "center(999999999)", "replace('a', s)"),
    *("replace('', s)", "join(s)", "batch(999999999, 'x')", "slice(999999999)", "format(1, 2)"),
    *("map('upper')", "select", "truncate(9)", "wordwrap(1)", "round(999999999)", "default('x')"),
    *(
        "groupby('role')",
        "dictsort",
        "xmlattr",
        "filesizeformat",
        "random",
        "striptags",
        "map(attribute='a')",
    ),
)
METHODS = (
    *(
        "ljust(999999999)",
        "zfill(999999999)",
        "center(999999999)",
        "replace('', s)",
        "join(messages)",
    ),
    *(
        "format(1)",
        "format(s)",
        "expandtabs(999999999)",
        "split('')",
        "split('a')",
        "encode('utf-8')",
    ),
    *(
        "upper()",
        "strip()",
        "items()",
        "append(1)",
        "update({})",
        "count('a')",
        "get('role')",
        "title()",
    ),
    *(
        "__class__",
        "__init__",
        "format_map({})",
        "translate({97: s})",
        "maketrans('a', 'b')",
        "splitlines()",
    ),
)
NESTS = (
    ("{% if 1 %}", "{% endif %}"),
    ("{% for a in [1] %}", "{% endfor %}"),
    ("{% macro a() %}", "{% endmacro %}"),
    ("{% raw %}", "{% endraw %}"),
    ("{{ (", ") }}"),
    ("[", "]"),
    ("{{", "}}"),
    ("{#", "#}"),
)
OPERATORS = (
    "+",
    "*",
    "**",
    "~",
    "-",
    "/",
    "//",
    "%",
    "in",
    "==",
    "<",
    "and",
    "or",
    "is sameas",
    "is in",
)


def grown(random: Random, depth: int = 3) -> str:
    """A template out of the grammar."""
    return "".join(_statement(random, depth) for _ in range(random.randint(1, 5)))


def damaged(random: Random) -> str:
    """A sound template with bytes, words or nests changed."""
    text = random.choice(SOUND)
    what = random.random()
    if what < 0.4:
        return fuzz_bytes.mutated(random, text.encode()).decode("utf-8", "replace")
    if what < 0.6:
        at = random.randrange(len(text))
        return text[:at] + grown(random, 2) + text[at:]
    if what < 0.8:
        words = text.split(" ")
        for _ in range(3):
            words[random.randrange(len(words))] = random.choice(
                [random.choice(words), _value(random, 1)]
            )
        return " ".join(words)
    count = random.choice([3, 50, 300, 3000])
    opened, closed = random.choice(NESTS)
    return opened * count + text + closed * random.choice([count, 0, count - 1])


def _value(random: Random, depth: int) -> str:
    what = random.random()
    if depth <= 0 or what < 0.2:
        return random.choice(ATOMS)
    inner = _value(random, depth - 1)
    if what < 0.45:
        return f"({inner} {random.choice(OPERATORS)} {_value(random, depth - 1)})"
    if what < 0.65:
        return f"({inner}) | {random.choice(FILTERS)}"
    if what < 0.8:
        return f"({inner}).{random.choice(METHODS)}"
    if what < 0.9:
        return f"[{inner}, {_value(random, depth - 1)}]"
    return f"({inner})[{random.choice(['0', ':9', '-1', 's', '::2'])}]"


def _statement(random: Random, depth: int) -> str:
    value = _value(random, 2)
    what = random.random()
    if depth <= 0 or what < 0.25:
        return f"{{{{ {value} }}}}"
    body = "".join(_statement(random, depth - 1) for _ in range(random.randint(1, 2)))
    if what < 0.5:
        loop = random.choice(["range(99999)", "range(30)", "messages", "s", "l", value])
        return f"{{% for a in {loop}{random.choice([' recursive', ' if a', '', ''])} %}}{body}{{% endfor %}}"
    if what < 0.65:
        name = random.choice(["s", "n", "l"])
        grow = random.choice([f"{name} ~ {name}", f"{name} + {name}", f"[{name}, {name}]", value])
        return f"{{% set {name} = {grow} %}}{body}"
    if what < 0.75:
        return f"{{% set s %}}{body}{{{{ s }}}}{{{{ s }}}}{{% endset %}}"
    if what < 0.85:
        return f"{{% macro m(n) %}}{body}{{{{ m(n) }}}}{{{{ m(n) }}}}{{% endmacro %}}{{{{ m(1) }}}}"
    if what < 0.93:
        return f"{{% if {value} %}}{body}{{% else %}}{body}{{% endif %}}"
    return f"{{% filter {random.choice(FILTERS)} %}}{body}{{% endfilter %}}"
