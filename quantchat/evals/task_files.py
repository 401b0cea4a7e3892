"""Questions with known answers, from files that people bring: bounded, errors with file and line.

Three kinds are read: JSONL of question, choices and answer; a folder of MMLU's CSV files (question,
A, B, C, D, answer); and JSONL of GSM8K's kind (question, answer that ends in "#### 42").
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from quantchat.errors import UsageError

TaskKind: TypeAlias = Literal["choices", "letters", "exact"]
"""choices: each choice's text is scored; letters: its letter, the choices standing in the prompt;
exact: answered in words, the number after #### is compared."""

MAX_FILE_BYTES = 64 << 20
MAX_FILES = 256
MAX_QUESTIONS = 100_000
MAX_CHOICES = 26
MAX_TEXT_CHARS = 1 << 16
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
FINAL = "####"


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One question; `where` is its file and line."""

    where: str
    text: str
    choices: tuple[str, ...] = ()
    right: int = 0
    """Index of the right choice."""
    solution: str = ""
    """How an exact question is solved, with the number after ####."""
    group: str = ""
    """File of a folder."""

    @property
    def final(self) -> str:
        """What stands after ####."""
        return self.solution.rpartition(FINAL)[2].strip()


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """Questions of one kind, and solved examples that stand before each."""

    name: str
    kind: TaskKind
    questions: tuple[Question, ...]
    examples: tuple[Question, ...]
    """In a folder, those of all files; a question sees its own file's."""
    digest: str

    def examples_of(self, question: Question) -> list[Question]:
        """The examples that stand before a question."""
        return [example for example in self.examples if example.group == question.group]


def read_task(path: Path, *, shots: int, limit: int | None) -> Task:
    """The task in a file or folder; the first `shots` questions of each file become examples.

    Raises UsageError naming file and line.
    """
    files = _csv_files(path) if path.is_dir() else [path]
    questions: list[Question] = []
    examples: list[Question] = []
    kinds: dict[TaskKind, str] = {}
    sha = hashlib.sha256(f"{shots}|{limit}".encode())
    for file in files:
        data = _read(file)
        sha.update(hashlib.sha256(data).digest())
        lines = _csv_lines(file, data) if file.suffix == ".csv" else _json_lines(file, data)
        found: list[Question] = []
        for kind, question in lines:
            kinds.setdefault(kind, question.where)
            if len(kinds) > 1:
                first, second = kinds.values()
                raise UsageError(
                    f"{second} is of another kind than {first}",
                    hint="questions with choices and questions with numbers go into two files",
                )
            found.append(question)
            if len(questions) + len(found) > MAX_QUESTIONS:
                raise UsageError(f"{file.name} has more than {MAX_QUESTIONS} questions")
        examples += found[:shots]
        questions += found[shots:]
    if not questions:
        raise UsageError(
            f"{path.name} holds no questions" + (f" after {shots} examples" if shots else ""),
            hint="JSONL of question, choices and answer; JSONL of GSM8K's kind; MMLU's CSV files",
        )
    (kind,) = kinds
    return Task(
        name=path.name,
        kind=kind,
        questions=_spread(questions, limit),
        examples=tuple(examples),
        digest=sha.hexdigest()[:20],
    )


def _spread(questions: list[Question], limit: int | None) -> tuple[Question, ...]:
    """At most `limit` questions, evenly from the whole, so that no file of a folder is left out."""
    if limit is None or limit >= len(questions):
        return tuple(questions)
    return tuple(questions[i * len(questions) // limit] for i in range(limit))


def _csv_files(folder: Path) -> list[Path]:
    try:
        files = sorted(path for path in folder.iterdir() if path.suffix == ".csv")
    except OSError as error:
        raise UsageError(
            f"{folder} cannot be read: {error.strerror}", hint="check the path"
        ) from None
    if not files:
        raise UsageError(f"{folder.name} holds no CSV files", hint="MMLU's test folder, or a file")
    if len(files) > MAX_FILES:
        raise UsageError(
            f"{folder.name} holds {len(files)} CSV files, at most {MAX_FILES} are read"
        )
    return files


def _read(file: Path) -> bytes:
    try:
        if file.exists() and not file.is_file():
            raise UsageError(f"{file} is no regular file")
        with file.open("rb") as handle:
            data = handle.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise UsageError(
            f"{file} cannot be read: {error.strerror}", hint="check the path"
        ) from None
    if len(data) > MAX_FILE_BYTES:
        raise UsageError(f"{file.name} is larger than {MAX_FILE_BYTES >> 20} MiB")
    return data


def _decoded(file: Path, data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UsageError(f"{file.name}, line {line}: is not UTF-8 text") from None


def _json_lines(file: Path, data: bytes) -> Iterator[tuple[TaskKind, Question]]:
    for number, line in enumerate(_decoded(file, data).split("\n"), 1):
        if not line.strip():
            continue
        where = f"{file.name}, line {number}"
        try:
            table = json.loads(line)
        except (ValueError, RecursionError):
            raise UsageError(
                f"{where}: is not valid JSON", hint="one object on each line"
            ) from None
        if not isinstance(table, dict):
            raise UsageError(f"{where}: is not a JSON object", hint="one object on each line")
        text = _text(table.get("question"), "question", where)
        if "choices" in table:
            choices = _choices(table["choices"], where)
            right = _right(table.get("answer"), choices, where)
            yield "choices", Question(where=where, text=text, choices=choices, right=right)
            continue
        solution = _text(table.get("answer"), "answer", where)
        question = Question(where=where, text=text, solution=solution)
        if FINAL not in solution or not any(map(str.isdecimal, question.final)):
            raise UsageError(
                f"{where}: has neither choices nor an answer that ends in {FINAL} and a number"
            )
        yield "exact", question


def _csv_lines(file: Path, data: bytes) -> Iterator[tuple[TaskKind, Question]]:
    rows = csv.reader(io.StringIO(_decoded(file, data), newline=""), strict=True)
    while True:
        where = f"{file.name}, line {rows.line_num + 1}"
        try:
            row = next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            raise UsageError(f"{where}: is not CSV: {error}") from None
        if not row:
            continue
        if len(row) != 6:
            raise UsageError(f"{where}: has {len(row)} fields, not question, A, B, C, D, answer")
        if row[1:] == ["A", "B", "C", "D", "answer"]:
            continue
        for field in row:
            _text(field, "a field", where)
        # A letter names its place even where it is some choice's text as well.
        right = _letter(row[5], row[1:5])
        if right is None:
            right = _right(row[5].strip(), tuple(row[1:5]), where)
        yield (
            "letters",
            Question(
                where=where, text=row[0], choices=tuple(row[1:5]), right=right, group=file.name
            ),
        )


def _text(value: Any, name: str, where: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise UsageError(f"{where}: {name} is no text")
    if len(value) > MAX_TEXT_CHARS:
        raise UsageError(f"{where}: {name} has more than {MAX_TEXT_CHARS} characters")
    return value


def _choices(value: Any, where: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not 2 <= len(value) <= MAX_CHOICES:
        raise UsageError(f"{where}: choices is no list of 2 to {MAX_CHOICES} texts")
    return tuple(_text(choice, "a choice", where) for choice in value)


def _right(value: Any, choices: tuple[str, ...], where: str) -> int:
    """Index of the right choice: a number from 0, a letter, or the choice itself."""
    if type(value) is int and 0 <= value < len(choices):
        return value
    if isinstance(value, str):
        if value in choices:
            return choices.index(value)
        place = _letter(value, choices)
        if place is not None:
            return place
    raise UsageError(
        f"{where}: answer names none of the {len(choices)} choices",
        hint="an index from 0, a letter from A, or the choice's text",
    )


def _letter(value: str, choices: Sequence[str]) -> int | None:
    """Index of the choice that a letter from A stands for."""
    letter = value.strip().upper()
    known = len(letter) == 1 and letter in LETTERS[: len(choices)]
    return LETTERS.index(letter) if known else None
