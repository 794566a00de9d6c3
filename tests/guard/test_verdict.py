"""The verdict on a promise, in numbers and in words."""

import pytest

from forgetless.errors import InputError
from forgetless.guard.evidence import interval, upper
from forgetless.guard.verdict import promise


def asked(known, lost, unknown=3):
    return [True] * known + [False] * unknown, [False] * lost + [True] * (known - lost) + [True, False, False][:unknown]


def test_only_items_known_before_count():
    found = promise(*asked(50, 1), 0.02)
    assert (found.total, found.forgotten, found.kept) == (50, 1, True)
    assert (found.low, found.high) == interval(1, 50)
    assert found.upper == upper(1, 50)


@pytest.mark.parametrize(("known", "lost", "kept"), [(100, 2, True), (100, 3, False), (50, 1, True), (49, 1, False), (30, 0, True)])
def test_kept_is_the_share_at_most_the_budget(known, lost, kept):
    assert promise(*asked(known, lost), 0.02).kept is kept


def test_the_sentence_says_what_is_proved_and_what_is_not():
    sure = promise(*asked(149, 0), 0.02).sentence()
    assert sure.startswith("The promise was kept (budget 2%): 0 of 149")
    assert "at most 1.99% with 95% confidence" in sure
    unsure = promise(*asked(60, 1), 0.02).sentence()
    assert unsure.startswith("The promise was kept on the sample")
    assert "it takes 149 items or more" in unsure
    broken = promise(*asked(100, 4), 0.02).sentence()
    assert broken.startswith("The promise was broken (budget 2%): 4 of 100")
    assert "; at most" in broken
    proved = promise(*asked(100, 20), 0.02).sentence()
    assert "with 95% confidence it is more than that" in proved


def test_a_budget_of_nothing_is_never_proved():
    assert "no number of items could" in promise(*asked(100, 0), 0.0).sentence()


def test_nothing_known_is_no_verdict():
    with pytest.raises(InputError, match="nothing to keep"):
        promise([False, False], [True, False], 0.1)
