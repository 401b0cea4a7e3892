"""A template that opens the reasoning itself is known by the prompt that it writes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import tiny_tokenizer

from quantchat.engine.loading import reasoning_opening
from quantchat.tokenizer import from_folder


@pytest.mark.parametrize("opening", ["", "<think>\n", "[THINK]"])
def test_the_opening_is_what_the_prompt_ends_with(tmp_path: Path, opening: str) -> None:
    tiny_tokenizer.write_hf(tmp_path, "llama-bpe")
    path = tmp_path / "tokenizer_config.json"
    config = json.loads(path.read_text())
    config["chat_template"] = tiny_tokenizer.CHAT_TEMPLATE.replace(
        "assistant\n' }}{% endif %}", f"assistant\n{opening}' }}}}{{% endif %}}"
    )
    path.write_text(json.dumps(config))
    assert reasoning_opening(from_folder(tmp_path)) == opening


def test_a_template_that_fails_opens_nothing(tmp_path: Path) -> None:
    tiny_tokenizer.write_hf(tmp_path, "llama-bpe")
    path = tmp_path / "tokenizer_config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps({**config, "chat_template": "{{ raise_exception('no') }}"}))
    assert reasoning_opening(from_folder(tmp_path)) == ""
