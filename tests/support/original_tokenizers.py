"""Tokenizers as their makers published them, for vocabularies that a GGUF file holds.

Owns how each family's tokenizer.json cuts text, written out from those files, and SentencePiece models
trained on the spot with what converters make of them. Shares nothing with the readers under test.
"""

from __future__ import annotations

import functools
import io
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import multilingual
from tokenizer_files import Vocabulary, byte_level_vocabulary
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers

VOCAB = 1200
SPM_VOCAB = 1800
TRAINING_LINES = 600

_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_TAIL = r"\s*[\r\n]+|\s+(?!\S)|\s+"
_CL100K = (
    _CONTRACTIONS
    + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_QWEN2 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|"
    + _TAIL
)
_NEMO = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_O200K = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_DEEPSEEK3 = (
    r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"
    r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def _bytes(*, regex: bool) -> Any:
    return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=regex)


def _split(pattern: str) -> Any:
    return pre_tokenizers.Split(Regex(pattern), "isolated")


def _tiktoken(pattern: str) -> Any:
    return pre_tokenizers.Sequence([_split(pattern), _bytes(regex=False)])


def _digits() -> Any:
    return pre_tokenizers.Digits(individual_digits=True)


def _falcon() -> Any:
    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Punctuation(behavior="contiguous"),
            _bytes(regex=True),
            pre_tokenizers.Digits(individual_digits=False),
            _split("[0-9][0-9][0-9]"),
        ]
    )


def _deepseek_coder() -> Any:
    cuts = (r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", "[一-龥ࠀ-一가-\ud7ff]+")
    return pre_tokenizers.Sequence([*map(_split, cuts), _digits(), _bytes(regex=False)])


def _deepseek3() -> Any:
    cuts = (r"\p{N}{1,3}", "[一-龥぀-ゟ゠-ヿ]+", _DEEPSEEK3)
    return pre_tokenizers.Sequence([*map(_split, cuts), _bytes(regex=False)])


PUBLISHED: Mapping[str, Callable[[], Any]] = MappingProxyType(
    {
        "gpt-2": lambda: _bytes(regex=True),  # GPT-2, Phi-2
        "smollm": lambda: pre_tokenizers.Sequence([_digits(), _bytes(regex=True)]),
        "refact": lambda: pre_tokenizers.Sequence([_digits(), _bytes(regex=True)]),  # Granite
        "llama-bpe": lambda: _tiktoken(_CL100K),
        "dbrx": lambda: _tiktoken(_CL100K),  # OLMo 2
        "qwen2": lambda: _tiktoken(_QWEN2),
        "falcon": _falcon,
        "tekken": lambda: _tiktoken(_NEMO),
        "gpt-4o": lambda: _tiktoken(_O200K),  # Phi-4-mini
        "deepseek-coder": _deepseek_coder,
        "deepseek-v3": _deepseek3,
    }
)
"""By GGUF's word, the pre-tokenizer of the families' tokenizer.json."""
WHOLE_WORDS = frozenset({"llama-bpe", "tekken"})
NFC = frozenset({"qwen2"})


def published(pre: str, vocabulary: Vocabulary) -> Tokenizer:
    """What a family's tokenizer.json would be with this vocabulary."""
    assert vocabulary.merges is not None
    ids = {token: n for n, token in enumerate(vocabulary.tokens)}
    merges = [(left, right) for left, _, right in (m.partition(" ") for m in vocabulary.merges)]
    backend = Tokenizer(models.BPE(ids, merges, ignore_merges=pre in WHOLE_WORDS))
    backend.pre_tokenizer = PUBLISHED[pre]()
    if pre in NFC:
        backend.normalizer = normalizers.NFC()
    special = [t for t, kind in zip(vocabulary.tokens, vocabulary.types, strict=True) if kind == 3]
    backend.add_special_tokens([AddedToken(token, normalized=False) for token in special])
    return backend


@functools.cache
def byte_level() -> Vocabulary:
    """Merges across word borders of the very lines, so that any wrong cut changes the ids."""
    text = "".join(multilingual.lines()[:TRAINING_LINES])
    return byte_level_vocabulary(size=VOCAB, sample=text)


@functools.cache
def trained_sentencepiece(*, prefix: bool) -> tuple[Any, Vocabulary]:
    """A SentencePiece BPE model with Llama's settings, or with Gemma's where there is no `prefix`;
    and its vocabulary as a converter writes it."""
    import sentencepiece

    made = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter((*multilingual.PHRASES, *multilingual.CODE) * 4),
        model_writer=made,
        model_type="bpe",
        vocab_size=SPM_VOCAB,
        byte_fallback=True,
        character_coverage=0.99,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        add_dummy_prefix=prefix,
        allow_whitespace_only_pieces=True,
        split_digits=True,
        user_defined_symbols=["<tool>", "<end_of_turn>"],
        num_threads=1,
        minloglevel=2,
    )
    model = sentencepiece.SentencePieceProcessor(model_proto=made.getvalue())
    count = model.get_piece_size()
    return model, Vocabulary(
        model="llama",
        tokens=[model.id_to_piece(n) for n in range(count)],
        scores=[model.get_score(n) for n in range(count)],
        types=[_type(model, n) for n in range(count)],
        bos=model.bos_id(),
        eos=model.eos_id(),
        flags={"add_space_prefix": prefix},
    )


def _type(model: Any, token_id: int) -> int:
    """Token types of the format."""
    if model.is_unknown(token_id):
        return 2
    if model.is_control(token_id):
        return 3
    if model.id_to_piece(token_id) in ("<tool>", "<end_of_turn>"):
        return 4
    return 6 if model.is_byte(token_id) else 1
