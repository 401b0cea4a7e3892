"""A byte-level BPE tokenizer of a few hundred tokens, as a Hugging Face folder and as GGUF keys.

Trained on the spot from a fixed text; the same for both containers, so ids must agree.
"""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

BOS, START, END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
BOS_ID, START_ID, EOS_ID = 0, 1, 2
VOCAB = 340

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)

TEXT = (
    "The sky is blue because air scatters short waves of light more than long ones.",
    "A model reads the prompt, then writes the answer, one token after another.",
    "In 1999 there were 365 days; 12345 seconds are not quite 3 and a half hours.",
    "Straße, naïve, 東京, Привет, 🙂: every character is a few bytes.",
    "def add(a, b):\n    return a + b\n\n\nprint(add(1, 22))\n",
    "I'm sure they're right, we've seen it, she'll say what he'd done.",
)

_WORDS = r"[^\r\n\p{L}\p{N}]?\p{L}+|%s| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|"
PATTERNS = {
    "llama-bpe": _CONTRACTIONS + _WORDS % r"\p{N}{1,3}",
    "qwen2": _CONTRACTIONS + _WORDS % r"\p{N}",
}


@functools.cache
def tokenizer_json(pre: str) -> str:
    """A trained tokenizer.json for a pre-tokenizer's GGUF name."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

    if pre == "gpt-2":
        splitter: Any = pre_tokenizers.ByteLevel(add_prefix_space=False)
    elif pre == "smollm":
        splitter = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Digits(individual_digits=True),
                pre_tokenizers.ByteLevel(add_prefix_space=False),
            ]
        )
    else:
        splitter = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(PATTERNS[pre]), "isolated"),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = splitter
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB,
        show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=[AddedToken(token, special=True) for token in (BOS, START, END)],
    )
    tokenizer.train_from_iterator(TEXT * 3, trainer)
    return str(tokenizer.to_str())


def write_hf(folder: Path, pre: str) -> None:
    """tokenizer.json and tokenizer_config.json."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer.json").write_text(tokenizer_json(pre), encoding="utf-8")
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": BOS,
        "eos_token": END,
        "pad_token": BOS,
        "clean_up_tokenization_spaces": False,
        "model_max_length": 256,
        "chat_template": CHAT_TEMPLATE,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")


def add_to_gguf(writer: Any, pre: str, vocab_size: int) -> None:
    """The `tokenizer.*` keys; ids past the tokenizer's are unused fillers, as converters write."""
    import gguf

    model = json.loads(tokenizer_json(pre))["model"]
    tokens = sorted(model["vocab"], key=model["vocab"].__getitem__)
    special = (BOS, START, END)
    types = [
        int(gguf.TokenType.CONTROL if token in special else gguf.TokenType.NORMAL)
        for token in tokens
    ]
    fillers = range(len(tokens), vocab_size)
    tokens += [f"[PAD{index}]" for index in fillers]
    types += [int(gguf.TokenType.UNUSED)] * len(fillers)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges([" ".join(pair) for pair in model["merges"]])
    writer.add_bos_token_id(BOS_ID)
    writer.add_eos_token_id(EOS_ID)
    writer.add_pad_token_id(BOS_ID)
    writer.add_add_bos_token(False)
    writer.add_chat_template(CHAT_TEMPLATE)
