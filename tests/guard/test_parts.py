"""Who sees which items."""

import random

from forgetless.data.question import Question
from forgetless.guard.parts import divide


def questions(count, subject="s", start=0):
    return [Question(id=f"{n}", kind="open", prompt=f"{subject} {n}", answers=("x",), subject=subject) for n in range(start, start + count)]


def ids(items):
    return [item.prompt for item in items]


def test_every_question_stands_in_exactly_one_part():
    retain = questions(53)
    parts = divide(retain, None, 0)
    dealt = ids(parts.reference) + ids(parts.probe) + ids(parts.promise)
    assert sorted(dealt) == sorted(ids(retain))
    assert (len(parts.reference), len(parts.probe), len(parts.promise)) == (21, 16, 16)


def test_a_held_out_set_is_the_promise_and_the_probe_comes_from_the_rest():
    retain, heldout = questions(40), questions(9, start=100)
    parts = divide(retain, heldout, 0)
    assert parts.promise == heldout
    assert (len(parts.reference), len(parts.probe)) == (24, 16)


def test_the_parts_depend_on_seed_and_content_and_not_on_the_order_of_the_file():
    retain = questions(60)
    mixed = random.Random(5).sample(retain, len(retain))
    one, other = divide(retain, None, 0), divide(mixed, None, 0)
    assert {*ids(one.probe)} == {*ids(other.probe)}
    assert {*ids(one.promise)} == {*ids(other.promise)}
    assert {*ids(divide(retain, None, 1).probe)} != {*ids(one.probe)}


def test_every_subject_is_dealt_alike():
    retain = [question for subject in ("a", "b", "c") for question in questions(30, subject)]
    parts = divide(retain, None, 3)
    for subject in ("a", "b", "c"):
        shares = [sum(q.subject == subject for q in part) for part in (parts.reference, parts.probe, parts.promise)]
        assert all(abs(found - wanted) <= 1 for found, wanted in zip(shares, (12, 9, 9), strict=True))


def test_questions_of_the_same_content_stay_together():
    retain = [question for question in questions(20) for _ in range(2)]
    parts = divide(retain, None, 0)
    assert not {*ids(parts.reference)} & {*ids(parts.probe)}
    assert not {*ids(parts.probe)} & {*ids(parts.promise)}
