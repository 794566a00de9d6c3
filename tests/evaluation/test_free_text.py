"""Normalised exact match and token F1 against SQuAD's official script, written out."""

from __future__ import annotations

import collections
import re
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forgetless.evaluation.free_text import exact_match, normalised, token_f1, tokens


def official_normalize(s: str) -> str:
    """``normalize_answer`` of the official evaluation script for SQuAD 2.0."""
    s = s.lower()
    s = "".join(ch for ch in s if ch not in set(string.punctuation))
    s = re.sub(re.compile(r"\b(a|an|the)\b", re.UNICODE), " ", s)
    return " ".join(s.split())


def official_f1(gold: str, pred: str) -> float:
    gold_toks, pred_toks = official_normalize(gold).split(), official_normalize(pred).split()
    common = collections.Counter(gold_toks) & collections.Counter(pred_toks)
    num_same = sum(common.values())
    if len(gold_toks) == 0 or len(pred_toks) == 0:
        return int(gold_toks == pred_toks)
    if num_same == 0:
        return 0
    precision, recall = 1.0 * num_same / len(pred_toks), 1.0 * num_same / len(gold_toks)
    return (2 * precision * recall) / (precision + recall)


WORDS = st.lists(
    st.sampled_from(["the", "An", "a", "Paris", "paris,", "U.S.", "New", "York", "-", "x-y", "\n", "Zürich", "'s"]), max_size=7
)
TEXT = st.one_of(WORDS.map(" ".join), st.text(max_size=12))


@given(TEXT, st.lists(TEXT, min_size=1, max_size=3))
def test_english_is_the_official_script(said: str, golds: list[str]) -> None:
    assert normalised(said) == official_normalize(said)
    assert exact_match(said, golds) == any(official_normalize(said) == official_normalize(gold) for gold in golds)
    assert token_f1(said, golds) == pytest.approx(max(official_f1(gold, said) for gold in golds))
    assert token_f1(said, golds, "en-GB") == token_f1(said, golds)


@pytest.mark.parametrize(
    ("said", "golds", "right", "f1"),
    [
        ("The Eiffel Tower.", ["eiffel tower"], True, 1.0),
        ("in Paris, France", ["Paris"], False, 0.5),
        ("Lyon", ["Paris", "LYON!"], True, 1.0),
        ("the", ["a"], True, 1.0),
        ("", ["Paris"], False, 0.0),
    ],
)
def test_by_hand(said: str, golds: list[str], right: bool, f1: float) -> None:
    assert exact_match(said, golds) is right
    assert token_f1(said, golds) == pytest.approx(f1)


def test_other_languages_keep_their_articles_and_lose_all_punctuation() -> None:
    assert normalised("«L’Italie»", "fr") == "litalie"
    assert not exact_match("a Itália", ["Itália"], "pt") and exact_match("a Italia", ["Italia"], "en")
    assert exact_match("Itália", ["Ita\u0301lia"], "pt")


def test_scripts_without_spaces_are_compared_by_character() -> None:
    assert tokens("北京市。", "zh") == ["北", "京", "市"]
    assert token_f1("北京市", ["北京"], "zh") == pytest.approx(2 * (2 / 3) / (2 / 3 + 1))


def test_no_accepted_answer_is_an_error() -> None:
    for score in (exact_match, token_f1):
        with pytest.raises(ValueError, match="no accepted answer"):
            score("x", [])
