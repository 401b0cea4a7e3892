"""How text is cut into words before byte-level merges, by GGUF's `tokenizer.ggml.pre` name.

Owns a literal table. Each rule is a row of patterns: every pattern cuts what the one before left,
at its matches; then bytes become GPT-2's alphabet. Checked in the tests against llama.cpp and against
the tokenizer.json of the families.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_GAPS = r"\s*[\r\n]+|\s+(?!\S)|\s+"
_UPPER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]"
_LOWER = r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_LEAD = r"[^\r\n\p{L}\p{N}]?"
_SYMBOLS = r" ?[^\s\p{L}\p{N}]+"

_GPT2 = r"'(?:s|t|re|ve|m|ll|d)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_DIGIT = r"\p{N}"
_LLAMA3 = rf"{_CONTRACTIONS}|{_LEAD}\p{{L}}+|\p{{N}}{{1,3}}|{_SYMBOLS}[\r\n]*|{_GAPS}"
_QWEN2 = rf"{_CONTRACTIONS}|{_LEAD}\p{{L}}+|\p{{N}}|{_SYMBOLS}[\r\n]*|{_GAPS}"
_TEKKEN = rf"{_LEAD}{_UPPER}*{_LOWER}+|{_LEAD}{_UPPER}+{_LOWER}*|\p{{N}}|{_SYMBOLS}[\r\n/]*|{_GAPS}"
_GPT4O = (
    rf"{_LEAD}{_UPPER}*{_LOWER}+{_CONTRACTIONS}?|{_LEAD}{_UPPER}+{_LOWER}*{_CONTRACTIONS}?"
    rf"|\p{{N}}{{1,3}}|{_SYMBOLS}[\r\n/]*|{_GAPS}"
)
_DEEPSEEK3 = (
    r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+"""
    r"|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*"
    rf"|{_GAPS}"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PreTokenizer:
    """One rule for cutting text into words."""

    patterns: tuple[str, ...]
    """Oniguruma regular expressions, applied in order."""
    after: tuple[str, ...] = ()
    """As `patterns`, applied to GPT-2's alphabet: Falcon's digits, and bytes that look like some."""
    whole_words: bool = False
    """A word that is in the vocabulary is taken whole, whatever the merges say."""
    adds_bos: bool = False
    """BOS in front unless the file says otherwise."""
    nfc: bool = False
    """Text is put into Unicode normal form C first."""


_DIGITS_GPT2 = PreTokenizer(patterns=(_DIGIT, _GPT2))
_PLAIN_GPT2 = PreTokenizer(patterns=(_GPT2,))
_LLAMA_BPE = PreTokenizer(patterns=(_LLAMA3,), whole_words=True, adds_bos=True)
_THREE_DIGITS = PreTokenizer(patterns=(_LLAMA3,))
_ONE_DIGIT = PreTokenizer(patterns=(_QWEN2,))

PRETOKENIZERS: Mapping[str, PreTokenizer] = MappingProxyType(
    {
        "default": PreTokenizer(
            patterns=(r"[\p{P}\$\+<=>\^~\|]+", _GPT2, r"\p{N}+", r"[0-9][0-9][0-9]")
        ),
        "gpt-2": _PLAIN_GPT2,
        "phi-2": _PLAIN_GPT2,
        "mpt": _PLAIN_GPT2,
        "olmo": _PLAIN_GPT2,
        "jais": _PLAIN_GPT2,
        "exaone4": _PLAIN_GPT2,
        "trillion": _PLAIN_GPT2,
        "smollm": _DIGITS_GPT2,
        "starcoder": _DIGITS_GPT2,
        "refact": _DIGITS_GPT2,
        "command-r": _DIGITS_GPT2,
        "codeshell": _DIGITS_GPT2,
        "exaone": _DIGITS_GPT2,
        "minerva-7b": _DIGITS_GPT2,
        "falcon": PreTokenizer(
            patterns=(r"[\p{P}\$\+<=>\^~\|`]+", _GPT2),
            after=(r"[0-9²³¹¼½¾]+", r"[0-9][0-9][0-9]"),
        ),
        "llama-bpe": _LLAMA_BPE,
        "llama3": _LLAMA_BPE,
        "llama-v3": _LLAMA_BPE,
        "falcon3": _LLAMA_BPE,
        "pixtral": _LLAMA_BPE,
        "lfm2": _LLAMA_BPE,
        "dbrx": _THREE_DIGITS,
        "smaug-bpe": _THREE_DIGITS,
        "glm4": _THREE_DIGITS,
        "chatglm-bpe": _THREE_DIGITS,
        "qwen2": PreTokenizer(patterns=(_QWEN2,), nfc=True),
        "deepseek-r1-qwen": _ONE_DIGIT,
        "megrez": _ONE_DIGIT,
        "stablelm2": _ONE_DIGIT,
        "hunyuan": _ONE_DIGIT,
        "tekken": PreTokenizer(patterns=(_TEKKEN,), whole_words=True, adds_bos=True),
        "gpt-4o": PreTokenizer(patterns=(_GPT4O,)),
        "llama4": PreTokenizer(patterns=(_GPT4O,)),
        "deepseek-coder": PreTokenizer(
            patterns=(
                r"[\r\n]",
                r"\s?\p{L}+",
                r"\s?\p{P}+",
                r"[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+",
                _DIGIT,
            )
        ),
        "deepseek-v3": PreTokenizer(
            patterns=(
                r"\p{N}{1,3}",
                r"[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+",
                _DEEPSEEK3,
            )
        ),
    }
)
