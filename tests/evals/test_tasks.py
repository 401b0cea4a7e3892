"""Tasks on tiny models: choices by their likelihood, answers by their number."""

from __future__ import annotations

import json
import math
from decimal import Decimal
from pathlib import Path
from typing import Any

import factory
import pytest
import torch
from click.testing import CliRunner
from rich.console import Console

from quantchat.cli.eval import command
from quantchat.engine.loading import build_pool
from quantchat.errors import PlanError, UsageError
from quantchat.evals import solving
from quantchat.evals.choosing import choose, prompted
from quantchat.evals.logprobs import chunk_batch, log_softmax
from quantchat.evals.solving import last_number, number
from quantchat.evals.statistics import share
from quantchat.evals.subject import Subject, open_subject
from quantchat.evals.task_files import Question, Task, read_task
from quantchat.evals.task_report import line
from quantchat.evals.task_study import TaskRow
from quantchat.intervals import wilson
from quantchat.model.decoder import Decoder

QUESTIONS = [
    {"question": "Why is the sky blue?", "choices": ["air", "short waves of light", "a model"]},
    {"question": "What reads the prompt?", "choices": ["365 days", "A model", "one token", "3"]},
    {"question": "Seconds?", "choices": ["12345", "1", "half hours and hours"]},
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tasks") / "tiny"
    return factory.write_hf(path, "qwen3", max_position_embeddings=512)


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return path


def float32(subject: Subject) -> tuple[Decoder, Any]:
    plan = subject.plan("fp16", "16bit", "cpu", 512)
    return subject.float32_decoder(plan, lambda *words: None, lambda: False), plan


def expected(decoder: Decoder, plan: Any, ids: tuple[int, ...], first: int) -> float:
    """Log-likelihood of ids[first:] from one pass over all of them."""
    with torch.inference_mode():
        pool = build_pool(decoder, plan)
        hidden = decoder.forward(chunk_batch(ids, 0, len(ids), pool), pool)
        rows = log_softmax(decoder.logits(hidden))
    return sum(float(rows[i - 1, ids[i]]) for i in range(first, len(ids)))


@pytest.mark.parametrize("chunk", [3, 256])
def test_the_likeliest_choice_is_that_of_whole_passes(subject: Subject, chunk: int) -> None:
    questions = tuple(
        Question(where="", text=row["question"], choices=tuple(row["choices"])) for row in QUESTIONS
    )
    task = Task(name="t", kind="choices", questions=questions, examples=(), digest="")
    decoder, plan = float32(subject)
    pool = build_pool(decoder, plan)
    items = prompted(task, subject.tokenizer)
    assert len(items) == 3
    for item in items:
        sums = [expected(decoder, plan, *pair) for pair in zip(item.ids, item.firsts, strict=True)]
        sizes = [len(choice.encode()) for choice in item.question.choices]
        means = [total / size for total, size in zip(sums, sizes, strict=True)]
        for right in range(len(sums)):
            asked = Question(
                where="", text=item.question.text, choices=item.question.choices, right=right
            )
            found = choose(
                decoder,
                pool,
                type(item)(asked, item.ids, item.firsts, item.lengths),
                chunk_tokens=chunk,
                cancelled=lambda: False,
            )
            assert found.plain == (sums.index(max(sums)) == right)
            assert found.normalised == (means.index(max(means)) == right)


def test_choices_longer_than_a_chunk_are_scored_in_16_bits(subject: Subject) -> None:
    plan = subject.plan("fp16", "16bit", "cpu", 512)
    decoder = subject.decoder(plan, lambda *words: None, lambda: False).decoder
    question = Question(where="", text="Why?", choices=tuple(QUESTIONS[0]["choices"]))
    task = Task(name="t", kind="choices", questions=(question,), examples=(), digest="")
    (item,) = prompted(task, subject.tokenizer)
    pool = build_pool(decoder, plan)
    found = [
        choose(decoder, pool, item, chunk_tokens=chunk, cancelled=lambda: False)
        for chunk in (2, 256)
    ]
    assert all(each.plain for each in found)


def test_a_prompt_holds_examples_choices_and_the_answer_alone_is_scored(subject: Subject) -> None:
    solved = Question(where="", text="1 + 1?", choices=("1", "2", "3", "4"), right=1, group="m")
    other = Question(where="", text="Colour?", choices=("a", "b", "c", "d"), right=0, group="n")
    asked = Question(where="", text="2 + 2?", choices=("1", "2", "3", "4"), right=3, group="m")
    task = Task(name="t", kind="letters", questions=(asked,), examples=(solved, other), digest="")
    (item,) = prompted(task, subject.tokenizer)
    shown = "1 + 1?\nA. 1\nB. 2\nC. 3\nD. 4\nAnswer: B\n\n2 + 2?\nA. 1\nB. 2\nC. 3\nD. 4\nAnswer: D"
    assert subject.tokenizer.decode(item.ids[3]) == shown
    for ids, first, letter in zip(item.ids, item.firsts, "ABCD", strict=True):
        assert subject.tokenizer.decode(ids[first:]) == f" {letter}"


def run(folder: Path, *words: str) -> Any:
    torch.set_num_threads(1)
    options = ("--model", str(folder), "--device", "cpu", "--kv", "16bit", *words)
    return CliRunner().invoke(command, options, catch_exceptions=False)


def test_rows_count_hits_with_their_errors(folder: Path, tmp_path: Path) -> None:
    """The 16-bit model's own choices, given as the right ones, make it the best."""
    rows = [{**row, "answer": 0} for row in QUESTIONS]
    path = write(tmp_path / "t.jsonl", rows)
    found = json.loads(run(folder, "--task", str(path), "--schemes", "fp16,int8", "--json").stdout)
    assert (found["kind"], found["questions"]) == ("choices", 3)
    for row in found["rows"]:
        hits = round(3 * row["acc"])
        assert row["acc"] == pytest.approx(hits / 3) and row["questions"] == 3
        assert row["acc_se"] == pytest.approx((row["acc"] * (1 - row["acc"]) / 2) ** 0.5)
        low, high = wilson(hits, 3) or (0.0, 0.0)
        assert (row["acc_low"], row["acc_high"]) == (low, high)
        assert 0 <= row["acc_norm_low"] <= row["acc_norm"] <= row["acc_norm_high"] <= 1
    assert found["interval"] == "95 % (Wilson)"
    table = run(folder, "--task", str(path), "--schemes", "fp16,stored", "--limit", "2").stdout
    assert "2 questions" in table and "normalised %" in table and "not run: stored" in table


def test_a_few_right_answers_of_as_many_prove_little() -> None:
    both = share(torch.tensor([True, True]))
    row = TaskRow(
        scheme="fp16",
        kv="16bit",
        detail="",
        device="",
        weight_bytes=1,
        bits_per_weight=16,
        questions=2,
        first=both,
        second=share(torch.tensor([False, False])),
        seconds=1,
    )
    assert "accuracy % 100.0 (34.2-100.0), normalised % 0.0 (0.0-65.8)" in line("choices", row)


@pytest.mark.parametrize(("columns", "table"), [(80, True), (40, False)])
def test_a_narrow_terminal_cuts_no_figure(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, columns: int, table: bool
) -> None:
    monkeypatch.setattr("rich.console.Console", lambda width: Console(width=columns))
    path = write(tmp_path / "t.jsonl", [{**row, "answer": 0} for row in QUESTIONS])
    said = run(folder, "--task", str(path), "--schemes", "fp16,int8").stdout
    assert "…" not in said and ("┃" in said) == table
    assert "int8" in said and said.count("(") == 5
    assert all(len(row) <= columns for row in said.splitlines())


def test_answers_in_words_are_judged_by_their_number(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [{"question": f"{i} + 1?", "answer": f"It is so.\n#### {i + 1}"} for i in range(4)]
    path = write(tmp_path / "g.jsonl", rows)
    words = ("--task", str(path), "--schemes", "fp16", "--max-tokens", "5", "--json")
    found = json.loads(run(folder, *words, "--shots", "1").stdout)
    assert (found["kind"], found["questions"], found["examples"]) == ("exact", 3, 1)
    assert found["rows"][0]["exact"] == 0
    said = iter(["so it is #### 1", "2", "#### 99 no, 3.0", "$4 it is"])
    monkeypatch.setattr(
        "quantchat.tokenizer.tokenizer.Tokenizer.decode", lambda self, ids, **words: next(said)
    )
    found = json.loads(run(folder, *words).stdout)
    assert found["rows"][0]["exact"] == 0.25
    assert found["rows"][0]["exact_flexible"] == 1


def test_answers_side_by_side_are_those_written_alone(
    subject: Subject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [{"question": "word " * (3 * i) + "?", "answer": "#### 1"} for i in range(5)]
    task = read_task(write(tmp_path / "g.jsonl", rows), shots=0, limit=None)
    decoder, plan = float32(subject)
    items = solving.asked(task, subject.tokenizer)
    texts = []
    for side_by_side in (4, 1):
        monkeypatch.setattr(solving, "ROWS", side_by_side)
        answers = solving.solve(
            decoder, plan, items, subject.tokenizer, max_tokens=9, cancelled=lambda: False
        )
        texts.append([(answer.text, answer.tokens) for answer in answers])
    assert texts[0] == texts[1] and len(texts[0]) == 5
    assert all(0 < tokens <= 9 for _, tokens in texts[0])


def test_numbers_are_found_as_people_write_them() -> None:
    assert number(" $1,234.50 each") == Decimal("1234.5")
    assert number("-7.") == -7 and number("none") is None
    assert number("$.50") == Decimal("0.5") and last_number("see 1.2.3") == 3
    assert last_number("3 apples and 4.") == 4 and last_number("it is no.5") == 5
    assert last_number("9" * 100) is None


def test_what_cannot_run_says_which_question(folder: Path, tmp_path: Path) -> None:
    rows = [{"question": "word " * 400, "choices": ["a", "b"], "answer": 0}]
    path = write(tmp_path / "long.jsonl", [{**QUESTIONS[0], "answer": 1}, *rows])
    with pytest.raises(UsageError, match=r"long.jsonl, line 2: needs \d+ tokens"):
        run(folder, "--task", str(path))
    short = write(tmp_path / "t.jsonl", [{**QUESTIONS[0], "answer": 1}])
    with pytest.raises(PlanError):
        run(folder, "--task", str(short), "--schemes", "stored")


@pytest.mark.parametrize("kind", ["choices", "exact"])
def test_a_model_that_gives_no_numbers_has_no_accuracy(
    kind: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = {
        "choices": [{**row, "answer": 0} for row in QUESTIONS],
        "exact": [{"question": "1 + 1?", "answer": "#### 2"}],
    }
    logits = Decoder.logits

    def broken(self: Decoder, hidden: torch.Tensor) -> torch.Tensor:
        of_int8 = type(self.layers[0].qkv) is not type(dense)
        return logits(self, hidden) * math.nan if of_int8 else logits(self, hidden)

    opened = open_subject(str(folder))
    dense = float32(opened)[0].layers[0].qkv
    opened.close()
    monkeypatch.setattr(Decoder, "logits", broken)
    path = write(tmp_path / "t.jsonl", rows[kind])
    words = ("--task", str(path), "--schemes", "fp16,int8", "--max-tokens", "4", "--json")
    found = json.loads(run(folder, *words).stdout)
    assert [row["scheme"] for row in found["rows"]] == ["fp16"]
    assert found["refused"] == ["int8 with 16bit KV: the model gives numbers that are not finite"]
