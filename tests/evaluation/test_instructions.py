"""Every check passes what it should and fails what it should not; malformed checks are refused."""

from __future__ import annotations

from typing import Any

import pytest

from forgetless.data.question import Question
from forgetless.errors import InputError
from forgetless.evaluation.instructions import CHECKS, follows, read_checks

CASES: list[tuple[dict[str, Any], str, str]] = [
    ({"type": "words", "at_most": 3}, "well-known old man's", "one two three four"),
    ({"type": "words", "at_least": 2, "at_most": 2}, "two words", "one"),
    ({"type": "characters", "at_most": 5}, " 12345 ", "123456"),
    ({"type": "sentences", "at_least": 2}, "One. Two!", "Just 3.5 of one."),
    ({"type": "paragraphs", "at_least": 2}, "a\n\nb", "a\nb"),
    ({"type": "lines", "at_most": 2}, "a\n\nb", "a\nb\nc"),
    ({"type": "bullets", "at_least": 3}, "- a\n* b\n3. c", "- a\n-b\nc"),
    ({"type": "json"}, '{"a": [1]}', "{'a': 1}"),
    ({"type": "json"}, "```json\n[1]\n```", "Here it is: [1]"),
    ({"type": "json", "keys": ["name", "age"]}, '{"name": 1, "age": 2}', '[{"name": 1, "age": 2}]'),
    ({"type": "keywords", "all": ["red", "blue"]}, "Blue and RED.", "blue and reddish"),
    ({"type": "keywords", "any": ["red", "blue"], "none": ["green"]}, "a red one", "red and green"),
    ({"type": "upper-case"}, "YES, 3!", "Yes"),
    ({"type": "lower-case"}, "yes", "123"),
    ({"type": "starts-with", "text": "Dear"}, "Dear you", "My Dear"),
    ({"type": "ends-with", "text": "The end."}, "so. The end.\n", "The end. No"),
    ({"type": "matches", "pattern": r"\d{4}-\d\d"}, "2024-05", "on 2024-05"),
    ({"type": "no-commas"}, "a and b", "a, b"),
]


@pytest.mark.parametrize(("check", "good", "bad"), CASES, ids=lambda value: value.get("type") if isinstance(value, dict) else None)
def test_a_check_tells_good_from_bad(check: dict[str, Any], good: str, bad: str) -> None:
    assert read_checks(Question("1", "open", "p", row={"checks": [check]})) == [check]
    assert follows(good, [check]) == [True]
    assert follows(bad, [check]) == [False]
    assert follows("  ", [check]) == [False]


def test_every_check_has_a_case() -> None:
    assert {check["type"] for check, _, _ in CASES} == set(CHECKS)


@pytest.mark.parametrize(
    ("checks", "message"),
    [
        (None, "no list of checks"),
        ([], "no list of checks"),
        ("words", "no list of checks"),
        (["words"], "check 1 is 'words'"),
        ([{"type": "magic"}], "check 1"),
        ([{"type": "words"}], "at least one of at_least, at_most"),
        ([{"type": "words", "at_most": True}], "at_most is True"),
        ([{"type": "words", "at_most": -1}], "at_most is -1"),
        ([{"type": "words", "at_least": 5, "at_most": 4}], "above"),
        ([{"type": "json"}, {"type": "json", "key": "a"}], "check 2, json"),
        ([{"type": "keywords", "all": "red"}], "all is 'red'"),
        ([{"type": "matches", "pattern": "("}], "no regular expression"),
    ],
)
def test_malformed_checks_are_refused(checks: object, message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        read_checks(Question("1", "open", "p", row={"checks": checks}, where="f.jsonl:3"))
    assert str(error.value).startswith("f.jsonl:3: ")
