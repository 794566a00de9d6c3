"""Ids made from content, duplicates within a file, overlap between two files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from forgetless.data.identity import has_auto_id
from forgetless.data.question import Question
from forgetless.data.reading import check_disjoint, check_text, check_unique, read_questions
from forgetless.errors import InputError
from forgetless.files import write_jsonl

FOUR = ["red", "green", "blue", "grey"]
Q: dict[str, Any] = {"question": "Which colour has the sky?", "choices": FOUR, "answer": 2}


def jsonl(path: Path, *rows: Any) -> Path:
    write_jsonl(path, rows)
    return path


def test_ids_made_from_content_are_the_same_in_every_file(tmp_path: Path) -> None:
    a = read_questions(jsonl(tmp_path / "a.jsonl", {"text": "one"}, {"text": "two"}, {"text": "one"}, {"text": "one"}))
    b = read_questions(jsonl(tmp_path / "b.jsonl", {"text": "zero"}, {"text": "two"}))
    assert a[2].id == f"{a[0].id}-2"
    assert a[3].id == f"{a[0].id}-3"
    assert a[1].id == b[1].id
    assert all(has_auto_id(q) for q in [*a, *b])
    assert len({q.id for q in [*a, *b]}) == 5


def test_an_id_made_does_not_meet_one_given(tmp_path: Path) -> None:
    (made,) = read_questions(jsonl(tmp_path / "a.jsonl", {"text": "one"}))
    ids = [q.id for q in read_questions(jsonl(tmp_path / "b.jsonl", {"text": "one"}, {"text": "one", "id": made.id}))]
    assert ids == [f"{made.id}-2", made.id]


def test_check_unique_names_both_lines(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "q.jsonl", {"id": 1, "text": "a"}, {"id": "2", "text": "b"}, {"id": "1", "text": "c"}, {"id": 2, "text": "d"})
    with pytest.raises(InputError) as caught:
        read_questions(path)
    assert str(caught.value).startswith(f"{path}:3: the id '1' stands twice, first at {path}:1 (and 1 more)")
    with pytest.raises(InputError, match=r"^memory: the id 'x' stands twice"):
        check_unique([Question("x", "text", "a"), Question("x", "text", "b")], "memory")
    check_unique([Question("x", "text", "a"), Question("y", "text", "a")], "memory")


def disjoint(tmp_path: Path, a: list[Any], b: list[Any]) -> None:
    sides = [read_questions(jsonl(tmp_path / f"{name}.jsonl", *rows)) for name, rows in (("retain", a), ("inject", b))]
    check_disjoint(*sides, names=("retain.jsonl", "inject.jsonl"))


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ([{"text": "a"}, {"text": "b"}], [{"text": "c"}, {"text": "d"}]),
        ([{"text": "a"}, {"text": "a"}], [{"text": "c"}, {"text": "c"}]),
        ([{"id": 1, "text": "a"}], [{"id": 2, "text": "a"}]),  # ids that the user gave are believed
        ([Q], [Q | {"choices": [*FOUR, "black"]}]),
        ([{"prompt": "What is it?", "answer": "a", "image": "a.png"}], [{"prompt": "What is it?", "answer": "b", "image": "b.png"}]),
    ],
)
def test_different_questions_do_not_overlap(tmp_path: Path, a: list[Any], b: list[Any]) -> None:
    disjoint(tmp_path, a, b)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ([{"id": "7", "text": "a"}], [{"id": 7, "text": "b"}]),
        ([{"text": "x"}, {"text": "a"}], [{"text": "a"}]),
        ([{"text": "a"}], [{"id": 1, "text": "a"}]),
        ([{"id": 1, "text": "a"}], [{"text": "a"}]),
        ([Q], [Q | {"answer": 1, "subject": "sky"}]),
    ],
)
def test_overlap_is_an_error_that_names_both_files(tmp_path: Path, a: list[Any], b: list[Any]) -> None:
    with pytest.raises(InputError) as caught:
        disjoint(tmp_path, a, b)
    message = str(caught.value)
    assert message.startswith("1 question stands in both retain.jsonl and inject.jsonl: ")
    assert f"{tmp_path / 'retain.jsonl'}:{len(a)} and {tmp_path / 'inject.jsonl'}:1" in message
    assert "\n" not in message


def test_a_large_overlap_names_a_few() -> None:
    questions = [Question(str(n), "text", str(n)) for n in range(9)]
    with pytest.raises(InputError, match=r"^--inject: 9 questions stand in both a and b: '0', '1', '2', \.\.\.\. Keep"):
        check_disjoint(questions, questions, names=("a", "b"), where="--inject")


def test_questions_with_images_are_refused_where_images_are_not_looked_at() -> None:
    check_text([Question("x", "text", "a")], "memory")
    with pytest.raises(InputError, match=r"memory.*image.*\(and 1 more\)"):
        check_text([Question("x", "text", "a"), *(Question(name, "text", "a", image=f"{name}.png") for name in "yz")], "memory")
