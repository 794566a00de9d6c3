"""The alarm's arithmetic against sums written out, its false alarms by simulation, and the exact bounds."""

import math

import numpy
import pytest

from forgetless.guard.evidence import alarms, interval, level, needed, tail, upper, within


def slow_tail(count, total, share):
    return sum(math.comb(total, k) * share**k * (1 - share) ** (total - k) for k in range(count, total + 1))


@pytest.mark.parametrize(("count", "total", "share"), [(0, 5, 0.1), (1, 5, 0.1), (3, 40, 0.02), (40, 40, 0.5), (6, 90, 0.02)])
def test_the_tail_is_the_sum_of_its_terms(count, total, share):
    assert tail(count, total, share) == pytest.approx(slow_tail(count, total, share), rel=1e-9)


@pytest.mark.parametrize("hundredths", range(100))
def test_a_whole_number_of_items_is_within_its_own_share_however_products_round(hundredths):
    assert within(hundredths, 100, hundredths / 100) and not within(hundredths + 1, 100, hundredths / 100)


def test_the_levels_of_all_looks_sum_to_alpha():
    assert sum(level(look) for look in range(1, 100_000)) == pytest.approx(0.05, rel=1e-4)
    assert all(level(look + 1) < level(look) for look in range(1, 100))


def test_an_alarm_needs_more_than_the_budget_and_gets_harder_with_looks():
    assert not alarms(1, 100, 0.02, 1)
    least = [min(count for count in range(101) if alarms(count, 100, 0.02, look)) for look in (1, 10, 100)]
    assert least == sorted(least)
    assert least[0] > 2
    for look, count in zip((1, 10, 100), least, strict=True):
        assert slow_tail(count, 100, 0.02) <= level(look) < slow_tail(count - 1, 100, 0.02)


@pytest.mark.parametrize("renewed", [0.0, 0.1, 1.0], ids=["the same items turn", "a tenth turns anew", "others at every look"])
def test_a_share_within_the_budget_alarms_in_at_most_a_twentieth_of_runs(renewed):
    """However the looks depend on each other: 2,000 runs of 40 looks at 100 items, each forgotten with chance 0.02 at each look."""
    draw, alarmed, runs = numpy.random.default_rng(3), 0, 2000
    least = [next(count for count in range(101) if alarms(count, 100, 0.02, look)) for look in range(1, 41)]
    for _ in range(runs):
        state = draw.random(100) < 0.02
        for fewest in least:
            anew = draw.random(100) < renewed
            state = numpy.where(anew, draw.random(100) < 0.02, state)
            if state.sum() >= fewest:
                alarmed += 1
                break
    assert alarmed / runs <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / runs)


def test_a_share_far_beyond_the_budget_alarms_at_the_first_look_in_most_runs():
    draw = numpy.random.default_rng(4)
    found = [alarms(int(draw.binomial(100, 0.15)), 100, 0.02, 1) for _ in range(500)]
    assert sum(found) / 500 > 0.95


@pytest.mark.parametrize(("count", "total"), [(0, 71), (1, 50), (7, 20), (20, 20)])
def test_the_upper_bound_is_the_share_at_which_so_few_are_a_chance_of_one_in_twenty(count, total):
    bound = upper(count, total)
    if count == total:
        assert bound == 1.0
    else:
        assert 1 - slow_tail(count + 1, total, bound) == pytest.approx(0.05, rel=1e-6)


def test_the_two_sided_interval_leaves_a_fortieth_on_each_side():
    low, high = interval(4, 60)
    assert slow_tail(4, 60, low) == pytest.approx(0.025, rel=1e-6)
    assert 1 - slow_tail(5, 60, high) == pytest.approx(0.025, rel=1e-6)


@pytest.mark.parametrize("allowed", [0.01, 0.02, 0.1, 0.5])
def test_items_needed_is_the_least_number_of_which_none_forgotten_shows_the_budget(allowed):
    count = needed(allowed)
    assert upper(0, count) <= allowed < upper(0, count - 1)


def test_no_number_of_items_shows_that_nothing_at_all_is_forgotten():
    assert needed(0.0) is None
