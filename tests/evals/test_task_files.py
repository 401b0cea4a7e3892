"""Task files as people bring them: what is read, and the line that errors name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from quantchat.errors import UsageError
from quantchat.evals import task_files
from quantchat.evals.task_files import read_task


def jsonl(path: Path, *rows: Any) -> Path:
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows))
    return path


def choice(answer: Any = 0, **changes: Any) -> dict[str, Any]:
    return {"question": "Which?", "choices": ["red", "blue", "C"], "answer": answer, **changes}


def test_answers_are_numbers_letters_or_the_choice_itself(tmp_path: Path) -> None:
    rows = [choice(1), choice("b"), choice("blue"), choice("C"), choice("A")]
    task = read_task(jsonl(tmp_path / "t.jsonl", *rows, ""), shots=0, limit=None)
    assert (task.name, task.kind) == ("t.jsonl", "choices")
    assert [question.right for question in task.questions] == [1, 1, 1, 2, 0]
    assert task.questions[1].where == "t.jsonl, line 2"


def test_gsm8k_rows_give_their_final_number(tmp_path: Path) -> None:
    rows = [{"question": "How many?", "answer": "3 and 4 are 7.\n#### 1,007"}] * 3
    task = read_task(jsonl(tmp_path / "g.jsonl", *rows), shots=1, limit=None)
    assert task.kind == "exact" and len(task.questions) == 2 and len(task.examples) == 1
    assert task.questions[0].final == "1,007"


def test_a_folder_of_csv_files_keeps_each_files_examples_apart(tmp_path: Path) -> None:
    for name in ("law", "art"):
        rows = [f'"{name}, {i}?",a,"b ""b""",c,"d\nd",{"ABCD"[i % 4]}' for i in range(5)]
        (tmp_path / f"{name}.csv").write_text("question,A,B,C,D,answer\n" + "\n".join(rows) + "\n")
    (tmp_path / "notes.txt").write_text("x")
    task = read_task(tmp_path, shots=2, limit=4)
    assert task.kind == "letters" and len(task.examples) == 4
    assert [question.text for question in task.questions] == [
        "art, 2?",
        "art, 3?",
        "law, 2?",
        "law, 3?",
    ]
    first = task.questions[0]
    assert first.choices == ("a", 'b "b"', "c", "d\nd") and first.right == 2
    assert [example.text for example in task.examples_of(first)] == ["art, 0?", "art, 1?"]
    assert task.digest != read_task(tmp_path, shots=1, limit=4).digest


def test_a_letter_in_a_csv_file_is_a_place_even_where_a_choice_reads_like_it(
    tmp_path: Path,
) -> None:
    (tmp_path / "x.csv").write_text("Vitamin?,B,A,D,C,A\nVitamin?,B,A,D,K,K\n")
    task = read_task(tmp_path / "x.csv", shots=0, limit=None)
    assert [question.right for question in task.questions] == [0, 3]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("{", "line 2: is not valid JSON"),
        ("[" * 100_000, "line 2: is not valid JSON"),
        ('{"question": 1' + "1" * 10_000 + "}", "line 2: is not valid JSON"),
        ("[1]", "line 2: is not a JSON object"),
        (choice(question=""), "line 2: question is no text"),
        (choice(question=3), "line 2: question is no text"),
        (choice(question="x" * 70_000), "line 2: question has more than"),
        (choice(choices=["a"]), "line 2: choices is no list"),
        (choice(choices=["a"] * 27), "line 2: choices is no list"),
        (choice(choices=["a", None]), "line 2: a choice is no text"),
        (choice(3), "line 2: answer names none of the 3 choices"),
        (choice(-1), "line 2: answer names none"),
        (choice(True), "line 2: answer names none"),
        (choice("D"), "line 2: answer names none"),
        ({"question": "q", "answer": "7"}, "line 2: has neither choices nor"),
        ({"question": "q", "answer": "7 ####"}, "line 2: has neither choices nor"),
        ({"question": "q", "answer": "#### seven"}, "line 2: has neither choices nor"),
        ({"question": "q", "answer": "#### 7"}, "line 2 is of another kind than t.jsonl, line 1"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: Any, problem: str) -> None:
    with pytest.raises(UsageError, match=r"^t\.jsonl, ") as caught:
        read_task(jsonl(tmp_path / "t.jsonl", choice(), line), shots=0, limit=None)
    assert problem in caught.value.message


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("q,a,b,c,d,A\nq,a,b,c,A\n", "line 2: has 5 fields"),
        ("q,a,b,c,d,A\nq,a,b,c,d,E\n", "line 2: answer names none"),
        ("q,a,b,c,d,A\nq,,b,c,d,A\n", "line 2: a field is no text"),
        ('q,a,b,c,d,A\n"q,a,b,c,d,A\n', "line 2: is not CSV"),
        ('q,a,b,c,d,A\n"q"x,a,b,c,d,A\n', "line 2: is not CSV"),
        ("q,a,b,c,d,A\nq," + "x" * 200_000 + ",b,c,d,A\n", "line 2: is not CSV: field larger"),
    ],
)
def test_a_bad_row_is_named(tmp_path: Path, text: str, problem: str) -> None:
    (tmp_path / "x.csv").write_text(text)
    with pytest.raises(UsageError, match=r"^x\.csv, line 2: ") as caught:
        read_task(tmp_path, shots=0, limit=None)
    assert problem in caught.value.message


def test_files_that_are_no_text_or_too_large_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "t.jsonl"
    path.write_bytes(b'{"question": "a"\n\xff')
    with pytest.raises(UsageError, match="line 2: is not UTF-8"):
        read_task(path, shots=0, limit=None)
    with pytest.raises(UsageError, match="cannot be read"):
        read_task(tmp_path / "none.jsonl", shots=0, limit=None)
    with pytest.raises(UsageError, match="holds no CSV files"):
        read_task(tmp_path, shots=0, limit=None)
    with pytest.raises(UsageError, match="no questions after 2 examples"):
        read_task(jsonl(path, choice(), choice()), shots=2, limit=None)
    monkeypatch.setattr(task_files, "MAX_QUESTIONS", 1)
    with pytest.raises(UsageError, match="more than 1 questions"):
        read_task(path, shots=0, limit=None)
    monkeypatch.setattr(task_files, "MAX_FILE_BYTES", 8)
    with pytest.raises(UsageError, match="larger than"):
        read_task(path, shots=0, limit=None)
