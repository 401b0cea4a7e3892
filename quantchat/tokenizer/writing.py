"""A tokenizer as the files of a Hugging Face folder, which `folder` reads again.

A folder's own files are copied; one that came out of a GGUF file is written anew, with the same
ids, special tokens and chat template.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from quantchat.errors import TokenizerError
from quantchat.tokenizer.tokenizer import Tokenizer

COPIED = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "generation_config.json",
    "chat_template.jinja",
    "chat_template.json",
    "tokenizer.model",
    "spiece.model",
    "vocab.json",
    "merges.txt",
)
MAX_COPY_BYTES = 256 << 20


def copy_tokenizer(source: Path, folder: Path) -> None:
    """Copy a folder's tokenizer files. Raises TokenizerError for ones of an absurd size."""
    for name in COPIED:
        file = source / name
        if not file.is_file():
            continue
        if file.stat().st_size > MAX_COPY_BYTES:
            raise TokenizerError(file, f"is larger than {MAX_COPY_BYTES >> 20} MiB")
        shutil.copyfile(file, folder / name)


def write_tokenizer(tokenizer: Tokenizer, folder: Path) -> None:
    """tokenizer.json, tokenizer_config.json, generation_config.json and chat_template.jinja."""
    (folder / "tokenizer.json").write_text(tokenizer.to_json(), encoding="utf-8")
    template = tokenizer.template
    config: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "add_bos_token": tokenizer.adds_bos,
        "clean_up_tokenization_spaces": False,
    }
    words = dict.fromkeys(("bos_token", "eos_token", "unk_token", "pad_token"))
    _write(folder / "tokenizer_config.json", config | words | dict(template.special_tokens))
    ends = sorted(tokenizer.eos_ids)
    _write(folder / "generation_config.json", {"eos_token_id": ends})
    if template.source == "model":
        (folder / "chat_template.jinja").write_text(template.text, encoding="utf-8")


def _write(file: Path, table: dict[str, Any]) -> None:
    file.write_text(json.dumps(table, indent=1, ensure_ascii=False), encoding="utf-8")
