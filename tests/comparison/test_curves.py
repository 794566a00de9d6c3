"""Values at equal learning, areas and frontiers, against slow obvious twins."""

from __future__ import annotations

import random

import pytest

from forgetless.comparison.curves import area, at_level, frontier


def slow_at(learned, values, level):
    """Walk along the straight lines between scorings in a million small steps until the level is reached."""
    for index in range(1, len(learned)):
        for step in range(10_001):
            share = step / 10_000
            if learned[index - 1] + share * (learned[index] - learned[index - 1]) >= level:
                return values[index - 1] + share * (values[index] - values[index - 1])
    return None


def course(seed):
    draw = random.Random(seed)
    count = draw.randrange(1, 8)
    return [0.0, *(draw.random() for _ in range(count))], [0.0, *(draw.random() for _ in range(count))]


@pytest.mark.parametrize("seed", range(40))
def test_the_value_at_a_level_is_that_of_a_slow_walk_to_its_first_moment(seed):
    learned, values = course(seed)
    for level in (0.1, 0.5, 0.8, 1.0):
        found, slow = at_level(learned, values, level), slow_at(learned, values, level)
        assert (found is None) == (slow is None)
        if found is not None:
            assert found == pytest.approx(slow, abs=2e-3)


@pytest.mark.parametrize("seed", range(40))
def test_the_area_is_the_mean_of_the_values_at_many_levels(seed):
    learned, values = course(seed)
    for top in (0.3, 0.9):
        found = area(learned, values, top)
        levels = [top * (index + 0.5) / 2000 for index in range(2000)]
        slow = [at_level(learned, values, level) for level in levels]
        assert (found is None) == (at_level(learned, values, top) is None)
        if found is not None:
            assert found == pytest.approx(sum(slow) / len(slow), abs=2e-3)


def test_a_level_that_is_met_exactly_and_one_that_is_not():
    assert at_level([0, 0.5, 1.0], [0, 0.2, 0.6], 0.5) == pytest.approx(0.2)
    assert at_level([0, 0.5, 1.0], [0, 0.2, 0.6], 0.75) == pytest.approx(0.4)
    assert at_level([0, 0.5], [0, 0.2], 0.6) is None and area([0, 0.5], [0, 0.2], 0.6) is None
    assert area([0, 0.5, 1.0], [0, 0.2, 0.6], 1.0) == pytest.approx(0.5 * 0.1 + 0.5 * 0.4)


def test_learning_that_falls_back_counts_at_its_first_moment():
    learned, values = [0, 0.6, 0.3, 0.9], [0, 0.1, 0.2, 0.4]
    assert at_level(learned, values, 0.5) == pytest.approx(0.1 * 5 / 6)
    assert at_level(learned, values, 0.75) == pytest.approx(0.2 + 0.2 * 0.75)


@pytest.mark.parametrize("seed", range(20))
def test_the_frontier_keeps_just_the_points_that_none_beats(seed):
    draw = random.Random(seed)
    points = [(draw.randrange(6) / 5, draw.randrange(6) / 5, index) for index in range(12)]
    kept = frontier(points)
    for learned, lost, _ in points:
        assert any(a >= learned and b <= lost for a, b, _ in kept)
    for index, (learned, lost, _) in enumerate(kept):
        assert not [1 for at, (a, b, _) in enumerate(kept) if at != index and a >= learned and b <= lost]
