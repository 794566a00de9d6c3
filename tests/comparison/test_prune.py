"""Successive halving: which trials are stopped, against a slow twin, whatever runs at a time."""

from __future__ import annotations

import random

import pytest

from forgetless.comparison.choice import Candidate, choose
from forgetless.comparison.prune import behind, standing, stopped
from forgetless.comparison.result import Curve


def slow(courses):
    """After 1, 2, 4, ... epochs a trial goes on if so many as half of those before it that came so far, itself included, are not better."""
    rungs, found = {}, []
    for values in courses:
        at = None
        for epoch, value in enumerate(values, 1):
            if epoch & (epoch - 1):
                continue
            reached = rungs.setdefault(epoch, [])
            reached.append(value)
            if sum(other > value for other in reached) >= max(1, len(reached) // 2):
                at = epoch
                break
        found.append(at)
    return found


@pytest.mark.parametrize("seed", range(8))
def test_the_stopped_trials_are_those_of_the_rule(seed):
    draw = random.Random(seed)
    courses = [[draw.random() for _ in range(draw.choice([3, 6]))] for _ in range(6)]
    assert stopped([(values, True) for values in courses]) == slow(courses)


def test_a_trial_is_not_judged_before_those_ahead_of_it_in_the_plan():
    early = [([0.5], False), ([0.1], False), ([0.0], True)]
    assert stopped(early) == [None, None, None]
    assert stopped([([0.5, 0.6], True), ([0.1], False), ([0.0], True)]) == [None, 1, 1]


def test_a_trial_that_failed_before_any_scoring_holds_nobody_up():
    assert stopped([([], True), ([0.3], True), ([0.2], True)]) == [None, None, 1]


def candidate(trial, forgotten, *, learned=0.95):
    return Candidate(trial, True, {0.9: forgotten}, {0.9: 10.0}, learned)


def test_of_trials_that_ended_the_worse_half_gets_no_further_seeds():
    trials = [candidate(0, 0.3), candidate(1, None, learned=0.8), candidate(2, 0.1), candidate(3, 0.2), candidate(4, 0.2)]
    assert behind(trials) == {0, 1}, "three of five go on; one below the level is last"
    assert behind(trials[3:]) == {4}, "of equal ones the earlier goes on"
    assert behind(trials[:1]) == set() == behind([])


@pytest.mark.parametrize("seed", range(8))
def test_the_trial_that_would_be_chosen_at_the_end_of_the_first_seed_always_goes_on(seed):
    draw = random.Random(seed)
    trials = [candidate(trial, draw.choice([None, draw.random()]), learned=draw.random()) for trial in range(draw.randrange(1, 7))]
    assert choose(trials).trial not in behind(trials)


def test_what_is_compared_is_learning_minus_forgetting_of_b_and_c():
    curve = Curve([0, 1, 2], [0, 5, 10], [0, 0.5, 1.0], {"A": [0, 0.9, 0.9], "B": [0, 0.1, 0.3], "C": [0, 0.3, 0.5]}, None)
    assert standing(curve) == pytest.approx([0.5 - 0.2, 1.0 - 0.4])
    alone = Curve([0, 1], [0, 5], [0, 0.5], {"A": [0, 0.2], "B": None, "C": None}, None)
    assert standing(alone) == pytest.approx([0.3])
