"""The table of facts and languages, and what crosses."""

from __future__ import annotations

import math

import pytest

from forgetless.data.question import Question
from forgetless.errors import InputError
from forgetless.evaluation.languages import check_language, crossing, fact_table, in_languages


def asked(fact: str, lang: str) -> Question:
    return Question(f"{fact}/{lang}", "open", "p", ("a",), lang=lang, row={"fact": fact})


# learned in en: a b c; of those learned in de: a b; learned in de without en: d; lost in both: g
CHANGES = {
    "a": ((0, 1), (0, 1)),
    "b": ((0, 1), (0, 1)),
    "c": ((0, 1), (0, 0)),
    "d": ((0, 0), (0, 1)),
    "e": ((0, 0), (0, 0)),
    "f": ((1, 1), (0, 0)),
    "g": ((1, 0), (1, 0)),
    "h": ((1, 1), (1, 1)),
    "i": ((0, 1), (1, 1)),
}


def table() -> list[dict[str, object]]:
    questions = [asked(fact, lang) for fact in CHANGES for lang in ("en", "de")]
    cells = [pair for pairs in CHANGES.values() for pair in pairs]
    return fact_table(questions, [bool(b) for b, _ in cells], [bool(a) for _, a in cells])


def test_a_row_for_each_fact() -> None:
    rows = table()
    assert [row["fact"] for row in rows] == list(CHANGES)
    assert rows[2]["languages"] == {"en": [False, True], "de": [False, False]}


def test_what_was_learned_crosses_by_counting() -> None:
    learned = crossing(table(), "en")["de"]["learned"]
    assert (learned["with_source"]["count"], learned["with_source"]["n"]) == (2, 3)
    assert (learned["without_source"]["count"], learned["without_source"]["n"]) == (1, 3)
    # Fisher's exact test by hand: 3 of 6 learned, 3 of 6 with the source; P(k) = C(3, k) C(3, 3 - k) / C(6, 3)
    chances = [math.comb(3, k) * math.comb(3, 3 - k) / math.comb(6, 3) for k in range(4)]
    assert learned["p_value"] == pytest.approx(sum(chance for chance in chances if chance <= chances[2] + 1e-12))


def test_what_was_lost_crosses_by_counting() -> None:
    lost = crossing(table(), "en")["de"]["lost"]
    assert (lost["with_source"]["count"], lost["with_source"]["n"]) == (1, 1)
    assert (lost["without_source"]["count"], lost["without_source"]["n"]) == (0, 2)


@pytest.mark.parametrize("tag", ["en", "pt-BR", "yue", "zh-Hant-TW"])
def test_languages(tag: str) -> None:
    assert check_language(tag, "x") == tag


@pytest.mark.parametrize("tag", ["xx", "klingon", "EN", "", 3, None, "e"])
def test_unknown_languages(tag: object) -> None:
    with pytest.raises(InputError, match="unknown language"):
        check_language(tag, "x")


def test_a_language_that_no_row_has() -> None:
    rows = [asked("a", "en"), asked("a", "de")]
    assert in_languages(rows, ["de"], "x") == rows[1:]
    with pytest.raises(InputError, match="no question has lang 'fr'"):
        in_languages(rows, ["de", "fr"], "x")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([Question("1", "open", "p", ("a",), lang="en")], "no fact"),
        ([Question("1", "open", "p", ("a",), row={"fact": "f"})], "no lang"),
        ([asked("f", "en"), asked("f", "en")], "twice in en"),
    ],
)
def test_rows_that_do_not_fit_a_table(rows: list[Question], message: str) -> None:
    with pytest.raises(InputError, match=message):
        fact_table(rows, [True] * len(rows), None)
