"""The columns of data sets that people train on, as their cards give them, with the types that the library stores."""

from __future__ import annotations

import json

import pytest

from forgetless.data.hub import _rows
from forgetless.data.reading import read_questions
from forgetless.data.rows import question_from_row, to_row
from forgetless.errors import InputError

MEDQA = {
    "question": "A 3-month-old baby died suddenly at night. Which precaution could have prevented it?",
    "answer": "Placing the infant in a supine position",
    "options": {
        "A": "Placing the infant in a supine position",
        "B": "Keeping the infant covered",
        "C": "A pacifier",
        "D": "Keeping the infant covered",
    },
    "meta_info": "step2&3",
    "answer_idx": "A",
    "metamap_phrases": ["month old baby"],
}
ARC = {
    "id": "Mercury_7175875",
    "question": "Which effect is most likely?",
    "choices": {"text": ["density decreases", "years become longer", "days become shorter"], "label": ["1", "2", "3"]},
    "answerKey": "3",
}
CSQA = {
    "id": "075e483d21c29a511267ef62bedc0461",
    "question": "The sanctions seemed to what the efforts to change?",
    "question_concept": "punishing",
    "choices": {"label": ["A", "B", "C", "D", "E"], "text": ["ignore", "enforce", "authoritarian", "yell at", "avoid"]},
    "answerKey": "B",
}
MMLU = {"question": "Find the degree.", "subject": "abstract_algebra", "choices": ["0", "4", "2", "6"], "answer": 1}
RIGHT = {"medqa": (MEDQA, 0, 4), "arc": (ARC, 2, 3), "csqa": (CSQA, 1, 5), "mmlu": (MMLU, 1, 4)}


@pytest.mark.parametrize("name", RIGHT)
def test_rows_as_the_hub_stores_them(name):
    datasets = pytest.importorskip("datasets")
    row, label, count = RIGHT[name]
    table = datasets.Dataset.from_list([row])
    if name == "mmlu":
        table = table.cast_column("answer", datasets.ClassLabel(names=["A", "B", "C", "D"]))
    (record,) = _rows(table, None)
    question = question_from_row(record.row)
    assert (question.kind, question.label, len(question.choices)) == ("choice", label, count)
    assert question.answers == (question.choices[label],) and question.prompt == row["question"]
    assert question_from_row(to_row(question)) == question


@pytest.mark.parametrize("name", RIGHT)
def test_the_same_rows_in_a_file_of_ones_own(name, tmp_path):
    row, label, _ = RIGHT[name]
    (tmp_path / "rows.jsonl").write_text(json.dumps(row) + "\n", "utf-8")
    (question,) = read_questions(tmp_path / "rows.jsonl")
    assert question.label == label


def test_medqa_rows_need_no_text_of_the_answer_and_refuse_a_contradiction(tmp_path):
    assert question_from_row({**MEDQA, "answer": None, "answer_idx": "D"}).label == 3  # B has the same text
    with pytest.raises(InputError, match="answer and answer_idx mean two different options"):
        question_from_row({**MEDQA, "answer_idx": "C"})
    with pytest.raises(InputError, match="is the text of 2 choices"):
        question_from_row({key: value for key, value in MEDQA.items() if key != "answer_idx"} | {"answer": "Keeping the infant covered"})


def test_options_as_a_list_and_beside_choices():
    row = {"question": "Which?", "options": ["one", "two"], "answer": "B"}
    assert question_from_row(row).choices == ("one", "two") and question_from_row(row).label == 1
    beside = {"question": "Which?", "choices": ["x", "y"], "options": {"A": "one", "B": "two"}, "answer": "y", "answer_idx": "A"}
    assert (question_from_row(beside).choices, question_from_row(beside).label) == (("x", "y"), 1)
