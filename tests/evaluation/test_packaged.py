"""Questions out of packages: all there, each once, the same every time."""

from __future__ import annotations

import pytest

from forgetless.data.identity import check_unique
from forgetless.errors import InputError
from forgetless.evaluation.languages import check_language, fact_table
from forgetless.evaluation.packaged import CODE_PROMPTS, PACKAGED, packaged

COUNTS = {
    "country-codes": 600,
    "capitals": 100,
    "capitals-by-language": 360,
    "airports": 100,
    "easy-vqa": 9673,
    "harmful": 963,
    "benign": 40,
    "borderline": 40,
}


@pytest.mark.parametrize("name", PACKAGED)
def test_questions_are_there_once_and_the_same_every_time(name: str) -> None:
    questions, folder = packaged(name)
    assert len(questions) == COUNTS[name]
    check_unique(questions, name)
    again, _ = packaged(name)
    assert again == questions
    assert all((folder / str(question.image)).is_file() for question in questions[:50] if question.image)
    for question in questions:
        if question.kind == "choice":
            assert len(set(question.choices)) == 4 and question.choices[question.label or 0] == question.answers[0]


@pytest.mark.parametrize("name", ["country-codes", "capitals-by-language"])
def test_facts_stand_once_in_every_language(name: str) -> None:
    questions, _ = packaged(name)
    table = fact_table(questions, [True] * len(questions), None)
    assert all(set(row["languages"]) == set(CODE_PROMPTS) for row in table)
    assert all(check_language(question.lang, name) for question in questions)
    assert not [q.id for q in questions if q.answers[0].lower() in q.prompt.lower()]


def test_a_subject_and_a_limit() -> None:
    taught, _ = packaged("country-codes", 7, subject="taught")
    assert {q.subject for q in taught} == {"taught"} and len(taught) == 7 * 6
    control = {q.row["fact"] for q in packaged("country-codes", subject="control")[0]}
    assert len(control) == 50 and not control & {q.row["fact"] for q in taught}
    with pytest.raises(InputError, match="no packaged questions 'magic'"):
        packaged("magic")
