"""Intervals over seeds and tests by seed and by item, against slow twins and scipy."""

from __future__ import annotations

import itertools
import random

import numpy
import pytest
from scipy.stats import binomtest, ttest_1samp, ttest_rel

from forgetless.comparison.intervals import AMOUNT, SHARE, item_difference, over_seeds, seed_difference, sign_flip


@pytest.mark.parametrize("count", [2, 3, 5])
def test_the_interval_over_seeds_is_that_of_the_t_test(count):
    draw = random.Random(count)
    values = [draw.random() for _ in range(count)]
    found, interval = over_seeds(values), ttest_1samp(values, 0.0).confidence_interval(0.95)
    assert found["mean"] == pytest.approx(sum(values) / count) and found["n"] == count
    assert (found["low"], found["high"]) == pytest.approx((interval.low, interval.high))


def test_the_interval_over_five_seeds_covers_the_mean_in_95_of_100_cases():
    draws = numpy.random.default_rng(0).normal(0.3, 0.1, size=(4000, 5))
    found = [over_seeds(list(map(float, values))) for values in draws]
    assert numpy.mean([one["low"] <= 0.3 <= one["high"] for one in found]) == pytest.approx(0.95, abs=0.01)


def test_an_interval_ends_where_no_value_can_be():
    low, high = ttest_1samp([0.0, 0.1], 0.0).confidence_interval()
    assert low < 0 < high < 1
    assert over_seeds([0.0, 0.1], SHARE) == {"mean": 0.05, "low": 0.0, "high": pytest.approx(high), "n": 2}
    assert over_seeds([1.0, 0.9], SHARE) == {"mean": 0.95, "low": pytest.approx(1 - high), "high": 1.0, "n": 2}
    assert over_seeds([10.0, 50.0], AMOUNT) == {"mean": 30.0, "low": 0.0, "high": pytest.approx(30 + 20 * 12.7062, rel=1e-5), "n": 2}


def test_equal_values_have_an_interval_without_width():
    assert over_seeds([0.3] * 3) == {"mean": pytest.approx(0.3), "low": pytest.approx(0.3), "high": pytest.approx(0.3), "n": 3}
    found = over_seeds([0.1 + 0.2, 0.3])
    assert found["low"] == found["high"] == found["mean"]


@pytest.mark.parametrize("count", [2, 3, 5, 8])
def test_the_interval_of_a_difference_leaves_out_0_exactly_where_p_is_below_5_percent(count):
    draws = numpy.random.default_rng(count).normal(0.1, 0.1, size=(300, 2, count))
    certain = 0
    for one, other in draws - [[[0.1], [0.0]]]:
        found = seed_difference(list(map(float, one)), list(map(float, other)))
        assert (found["low"] > 0 or found["high"] < 0) == (found["p"] < 0.05)
        certain += found["p"] < 0.05
    assert 0 < certain < 300


def test_one_seed_has_no_interval_and_none_has_no_mean():
    assert over_seeds([0.25, None]) == {"mean": 0.25, "low": None, "high": None, "n": 1}
    assert over_seeds([None, None]) is None and over_seeds([]) is None


def test_the_difference_by_seed_is_a_paired_t_test():
    one, other = [0.3, 0.25, 0.35, 0.2], [0.1, 0.2, 0.15, 0.18]
    found = seed_difference(one, other)
    assert found["difference"] == pytest.approx(numpy.mean(numpy.subtract(one, other)))
    assert found["p"] == pytest.approx(ttest_rel(one, other).pvalue) and found["n"] == 4
    assert found["low"] < found["difference"] < found["high"]


@pytest.mark.parametrize(
    "one, other, p", [([0.2], [0.1], None), ([0.2, 0.3], [0.1, 0.2], None), ([0.2, 0.3], [0.2, 0.3], 1.0), ([], [], None)]
)
def test_seeds_that_cannot_show_noise_give_no_small_p(one, other, p):
    assert seed_difference(one, other)["p"] == p


@pytest.mark.parametrize("seed", range(12))
def test_the_sign_flip_test_counts_all_signs(seed):
    draw = random.Random(seed)
    differences = [draw.randrange(-3, 4) for _ in range(draw.randrange(1, 11))]
    sums = [
        sum(sign * value for sign, value in zip(signs, differences, strict=True))
        for signs in itertools.product((-1, 1), repeat=len(differences))
    ]
    assert sign_flip(differences) == pytest.approx(sum(abs(one) >= abs(sum(differences)) for one in sums) / len(sums))


def test_with_one_seed_the_test_by_item_is_mcnemars():
    draw = random.Random(3)
    one, other = [draw.random() < 0.4 for _ in range(50)], [draw.random() < 0.2 for _ in range(50)]
    found = item_difference([dict(enumerate(one))], [dict(enumerate(other))])
    worse, better = sum(a and not b for a, b in zip(one, other, strict=True)), sum(b and not a for a, b in zip(one, other, strict=True))
    assert (found["worse"], found["better"], found["n"]) == (worse, better, 50)
    assert found["p"] == pytest.approx(binomtest(worse, worse + better).pvalue)
    assert found["difference"] == pytest.approx((worse - better) / 50)


def test_repeating_a_seed_adds_no_evidence():
    draw = random.Random(4)
    one, other = ({index: draw.random() < chance for index in range(40)} for chance in (0.4, 0.2))
    assert item_difference([one] * 5, [other] * 5)["p"] == pytest.approx(item_difference([one], [other])["p"])
