"""The trial that is chosen, against a slow twin."""

from __future__ import annotations

import random

import pytest

from forgetless.comparison.choice import Candidate, choose

LEVELS = (0.5, 0.8, 0.9)


def slow(candidates):
    """Sort all candidates by what counts, level by level, and take the first."""
    complete = [one for one in candidates if one.complete] or candidates
    for level in (0.9, 0.8, 0.5):
        order = sorted((one.objective[level], one.steps[level], one.trial) for one in complete if one.objective[level] is not None)
        if order:
            return order[0][2], level
    return sorted((-one.learned, one.trial) for one in complete)[0][1], None


@pytest.mark.parametrize("seed", range(60))
def test_the_choice_is_that_of_a_sorted_list(seed):
    draw = random.Random(seed)
    candidates = []
    for trial in range(draw.randrange(1, 7)):
        reached = draw.randrange(4)
        objective = {level: draw.randrange(4) / 4 if index < reached else None for index, level in enumerate(LEVELS)}
        steps = {level: float(draw.randrange(3)) for level in LEVELS}
        candidates.append(Candidate(trial, draw.random() < 0.8, objective, steps, draw.randrange(5) / 5))
    found = choose(candidates)
    assert (found.trial, found.level) == slow(candidates)


def test_without_candidates_there_is_no_choice():
    assert choose([]) is None


def test_the_reason_says_the_level_and_how_many_reach_it():
    one = Candidate(0, True, {0.5: 0.1, 0.9: None}, {0.5: 3.0, 0.9: 0.0}, 0.7)
    other = Candidate(1, True, {0.5: None, 0.9: None}, {0.5: 0.0, 0.9: 0.0}, 0.4)
    assert choose([one, other]).why == "least forgotten on validation items at 50% learned: 10.0%, of 1 of 2 trials that reach it"
    assert "no trial reaches a level" in choose([other]).why
