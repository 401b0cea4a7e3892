"""Text that the model writes is its own, seeded, written once; a file's is spread over the file."""

from __future__ import annotations

import json
from pathlib import Path

import factory
import pytest
import torch
from decoders import CPU, float32_decoder, logits_in_chunks, make_pool

from quantchat.calibration import text
from quantchat.calibration.sampling import LIKELIEST_TOKENS, sample_text
from quantchat.calibration.settings import CalibrationSettings
from quantchat.calibration.text import calibration_ids, file_ids
from quantchat.calibration.topics import TOPICS
from quantchat.errors import Cancelled, UsageError
from quantchat.model.families import ModelSource, open_model
from quantchat.requests import Message
from quantchat.tokenizer import Tokenizer, from_folder

SETTINGS = CalibrationSettings(sequences=3, tokens=60)


@pytest.fixture(scope="module", params=["llama", "mistral_window", "qwen3"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return factory.write_hf(tmp_path_factory.mktemp("model") / "m", request.param)


def sampled(
    source: ModelSource, tokenizer: Tokenizer, *, seed: int = 1, tokens: int = 200
) -> torch.Tensor:
    return sample_text(
        source,
        tokenizer,
        sequences=3,
        tokens=tokens,
        seed=seed,
        device=CPU,
        dtype=torch.float32,
        on_progress=lambda done, total: None,
        cancelled=lambda: False,
    )


def test_answers_are_the_models_own(folder: Path) -> None:
    source, tokenizer = open_model(folder), from_folder(folder)
    ids = sampled(source, tokenizer, tokens=100)
    assert ids.shape == (3, 100) and ids.dtype == torch.int64
    assert torch.equal(ids, sampled(source, tokenizer, tokens=100))
    assert not torch.equal(ids, sampled(source, tokenizer, seed=2, tokens=100))
    decoder = float32_decoder(folder, context_tokens=100)
    for row, topic in zip(ids.tolist(), TOPICS, strict=False):
        question = tokenizer.encode_chat([Message("user", topic)])
        assert row[: len(question)] == question
        # What the whole sequence gives at once, through another attention.
        pool = make_pool(decoder, pages=8, page_tokens=16)
        logits = logits_in_chunks(decoder, pool, row, range(1, 8), [len(row)])
        start = len(question) - 1
        likeliest = logits[start : start + LIKELIEST_TOKENS].argmax(dim=-1).tolist()
        assert row[start + 1 : start + 1 + LIKELIEST_TOKENS] == likeliest
        drawn = logits[start + LIKELIEST_TOKENS : -1].argmax(dim=-1).tolist()
        assert row[start + 1 + LIKELIEST_TOKENS :] != drawn


def test_another_question_follows_an_answers_end(folder: Path) -> None:
    source, tokenizer = open_model(folder), from_folder(folder)
    # Tokens that random weights do draw.
    tokenizer.eos_ids = frozenset(range(100, 130))
    questions = [tokenizer.encode_chat([Message("user", topic)]) for topic in TOPICS]
    ended = 0
    for row in sampled(source, tokenizer).tolist():
        at = next(len(q) for q in questions if row[: len(q)] == q)
        while at < len(row):
            if row[at] in tokenizer.eos_ids:
                ended += 1
                rest = row[at + 1 :]
                question = next(q for q in questions if q[: len(rest)] == rest[: len(q)])
                at += len(question)
            at += 1
    assert ended > 3


def test_written_once(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUANTCHAT_HOME", str(tmp_path))
    source = open_model(folder)
    told: list[tuple[int, int]] = []

    def ids(settings: CalibrationSettings = SETTINGS) -> torch.Tensor:
        return calibration_ids(
            source,
            settings,
            tokenizer=lambda: from_folder(folder),
            device=CPU,
            dtype=torch.float32,
            on_progress=lambda done, total: told.append((done, total)),
            cancelled=lambda: False,
        )

    first = ids()
    assert told[-1] == (60, 60)
    (kept,) = (tmp_path / "cache" / "calibration").iterdir()
    with monkeypatch.context() as patched:
        patched.setattr(text, "sample_text", None)
        assert torch.equal(ids(), first)
    whole = kept.read_text()
    for damaged in ("", "[[1, 2]]", "{}", "[" * 100000, whole.replace("1", "9999"), "[[null]]"):
        kept.write_text(damaged)
        assert torch.equal(ids(), first)
        assert json.loads(kept.read_text()) == first.tolist()


def test_cancelled_between_tokens(folder: Path) -> None:
    told: list[int] = []
    with pytest.raises(Cancelled):
        sample_text(
            open_model(folder),
            from_folder(folder),
            sequences=2,
            tokens=50,
            seed=1,
            device=CPU,
            dtype=torch.float32,
            on_progress=lambda done, total: told.append(done),
            cancelled=lambda: len(told) == 3,
        )
    assert told == [1, 2, 3]


def test_a_file_is_cut_all_over(folder: Path, tmp_path: Path) -> None:
    tokenizer = from_folder(folder)
    file = tmp_path / "text.txt"
    file.write_text(" ".join(str(n) for n in range(30000)))
    ids = file_ids(file, tokenizer, 4, 50)
    assert ids.shape == (4, 50)
    assert (ids[:, 0] == tokenizer.bos_id).all() == tokenizer.adds_bos
    starts = [tokenizer.decode(row) for row in ids.tolist()]
    assert "29" in starts[-1] and len(set(starts)) == 4
    file.write_text("The sky is blue because air scatters short waves. " * 12)
    few = file_ids(file, tokenizer, 400, 30)
    assert 1 <= few.shape[0] < 400 and few.shape[1] == 30
    file.write_text("Short.")
    with pytest.raises(UsageError, match="shorter than one sequence of 30 tokens"):
        file_ids(file, tokenizer, 4, 30)
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match="is not UTF-8"):
        file_ids(file, tokenizer, 4, 30)
