"""Halving what is known and what is not, and writing it whole."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path

import pytest

from forgetless.data.question import Question
from forgetless.data.reading import check_disjoint, read_questions
from forgetless.data.rows import content_key
from forgetless.errors import InputError
from forgetless.evaluation.score import Verdict
from forgetless.evaluation.split import check_new, counts, halve, split, write_split

SUBJECTS = ("law", "art", "maths", None)


def rows(n: int) -> list[dict[str, object]]:
    """Questions of four subjects of different sizes; every ninth content comes twice, the second time under another subject."""
    made: list[dict[str, object]] = []
    for i in range(n):
        row: dict[str, object] = {"prompt": f"prompt {i} \u2028 é is", "answer": f"a{i}"}
        made.append(row | {"subject": SUBJECTS[i % 7 % 4]} if SUBJECTS[i % 7 % 4] else row)
        if i % 9 == 0:
            made.append({"prompt": row["prompt"], "answer": "another", "subject": SUBJECTS[i % 3]})
    return made


@pytest.fixture
def questions(tmp_path: Path) -> list[Question]:
    file = tmp_path / "all.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows(101)), "utf-8")
    return read_questions(file)


def verdicts(questions: list[Question], seed: int = 0) -> list[Verdict]:
    draw = random.Random(seed)
    return [Verdict(draw.random() < 0.5, 0.0) for _ in questions]


def test_halves_are_alike_in_every_subject(questions: list[Question]) -> None:
    single = [question for n, question in enumerate(questions) if content_key(question) not in set(map(content_key, questions[:n]))]
    for seed in range(5):
        one, two = (Counter(question.subject for question in half) for half in halve(single, seed))
        assert all(abs(one[subject] - two[subject]) <= 1 for subject in SUBJECTS)
        assert abs(one.total() - two.total()) <= 1
        assert one.total() + two.total() == len(single)


def test_the_same_content_stays_together(questions: list[Question]) -> None:
    one, two = halve(questions, 3)
    assert len(one) + len(two) == len(questions)
    assert not set(map(content_key, one)) & set(map(content_key, two))
    assert abs(len(one) - len(two)) <= 3
    check_disjoint(one, two, names=("one", "two"))


def test_a_lopsided_subject_does_not_tilt_the_others() -> None:
    lopsided = [Question(f"a{n}", "open", "again" if n < 5 else "once", ("x",), subject="a") for n in range(6)]
    even = [Question(f"b{n}", "open", f"b{n}", ("x",), subject="b") for n in range(4)]
    for half in halve(lopsided + even, 0):
        assert sum(question.subject == "b" for question in half) == 2


def test_the_seed_decides_and_nothing_else(questions: list[Question]) -> None:
    assert halve(questions, 1) == halve(questions, 1)
    assert halve(questions, 1) != halve(questions, 2)


def test_subjects_of_one_question_each_are_halved_at_random() -> None:
    questions = [Question(f"{n}", "open", f"p{n}", ("a",), subject=f"subject {n:02}") for n in range(40)]
    first = {tuple(sorted(question.id for question in halve(questions, seed)[0])) for seed in range(4)}
    assert len(first) == 4
    assert {len(ids) for ids in first} == {20}


def test_parts_hold_what_is_known_and_what_is_not(questions: list[Question]) -> None:
    found = verdicts(questions)
    parts = split(questions, found, 0)
    assert list(parts) == ["retain", "retain-heldout", "inject", "inject-heldout"]
    assert sorted(q.id for part in parts.values() for q in part) == sorted(q.id for q in questions)
    right = {question.id for question, verdict in zip(questions, found, strict=True) if verdict.right}
    assert {q.id for q in parts["retain"] + parts["retain-heldout"]} <= right
    wrong = {content_key(q) for q in questions if q.id not in right}
    assert all(q.id not in right or content_key(q) in wrong for q in parts["inject"] + parts["inject-heldout"])


@pytest.mark.parametrize("right", [True, False])
def test_all_or_nothing_known(right: bool) -> None:
    questions = [Question(f"{n}", "open", f"p{n}", ("a",)) for n in range(3)]
    parts = split(questions, [Verdict(right, 0.0)] * 3, 0)
    assert [len(part) for part in parts.values()] == ([2, 1, 0, 0] if right else [0, 0, 2, 1])


@pytest.mark.parametrize(("heldout", "names"), [("retain", ["retain", "retain-heldout", "inject"]), ("none", ["retain", "inject"])])
def test_what_is_not_halved_stands_whole(questions: list[Question], heldout: str, names: list[str]) -> None:
    found = verdicts(questions)
    both, parts = split(questions, found, 3), split(questions, found, 3, heldout)
    assert list(parts) == names
    unknown = {question.id for name in ("inject", "inject-heldout") for question in both[name]}
    assert [question.id for question in parts["inject"]] == [question.id for question in questions if question.id in unknown]
    known = {question.id for name in ("retain", "retain-heldout") for question in both[name]}
    assert known == {question.id for name in names[:-1] for question in parts[name]} and known
    if heldout == "retain":
        assert (parts["retain"], parts["retain-heldout"]) == (both["retain"], both["retain-heldout"])


def test_an_unknown_way_to_hold_out_is_refused() -> None:
    with pytest.raises(InputError, match=r"'inject' is not allowed\. Give one of both, retain, none"):
        split([], [], 0, "inject")


def test_without_right_and_wrong_there_is_no_split() -> None:
    with pytest.raises(InputError, match="no right from wrong"):
        split([Question("1", "text", "a b")], [Verdict(None, 3.0)], 0)


def test_counts(questions: list[Question]) -> None:
    found = verdicts(questions)
    about = counts(questions, found)
    assert about["known"] == sum(bool(verdict.right) for verdict in found) == sum(own["known"] for own in about["subjects"].values())
    assert about["total"] == len(questions) == sum(own["total"] for own in about["subjects"].values())
    assert about["low"] < about["known_share"] < about["high"]


def test_the_files_read_back_as_disjoint_questions(questions: list[Question], tmp_path: Path) -> None:
    parts = split(questions, verdicts(questions), 0)
    out = tmp_path / "new" / "split"
    write_split(out, parts, {"model": "m", "seed": 0})
    assert sorted(file.name for file in out.iterdir()) == sorted([*(f"{name}.jsonl" for name in parts), "split.json"])
    assert [file.name for file in out.parent.iterdir()] == ["split"]
    again = {name: read_questions(out / f"{name}.jsonl") for name in parts}
    assert again == parts
    names = list(again)
    for n, one in enumerate(names):
        for other in names[n + 1 :]:
            check_disjoint(again[one], again[other], names=(one, other))
    about = json.loads((out / "split.json").read_text("utf-8"))
    assert about["model"] == "m" and about["retain"] == len(parts["retain"])


def test_a_folder_that_holds_something_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    for out, message in ((tmp_path, "not empty"), (tmp_path / "mine.txt", "it is a file")):
        with pytest.raises(InputError, match=message):
            write_split(out, {"retain": []}, {})
    assert [file.name for file in tmp_path.iterdir()] == ["mine.txt"]
    check_new(tmp_path / "other")


def test_an_empty_folder_may_be_filled(tmp_path: Path) -> None:
    write_split(tmp_path, {"retain": [Question("1", "open", "p", ("a",))]}, {})
    assert (tmp_path / "split.json").is_file()


def test_a_failure_in_the_middle_leaves_nothing(tmp_path: Path) -> None:
    bad = Question("1", "open", "p", ("a",), row={"prompt": "p", "answer": "a", "extra": {1, 2}})
    with pytest.raises(TypeError):
        write_split(tmp_path / "out", {"retain": [Question("0", "open", "q", ("a",))], "inject": [bad]}, {})
    assert list(tmp_path.iterdir()) == []
