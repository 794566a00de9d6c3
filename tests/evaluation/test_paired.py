"""The exact test and the intervals against hand-made ones."""

from __future__ import annotations

import json
import math
import tracemalloc

import numpy
import pytest

from forgetless.evaluation.paired import compare, mean_interval, seed_interval, share_interval


def verdicts(both: int, learned: int, forgotten: int, neither: int) -> tuple[list[bool], list[bool]]:
    before = [True] * both + [False] * learned + [True] * forgotten + [False] * neither
    after = [True] * both + [True] * learned + [False] * forgotten + [False] * neither
    return before, after


@pytest.mark.parametrize(("learned", "forgotten"), [(0, 1), (1, 0), (0, 4), (3, 3), (1, 9), (12, 4), (40, 22)])
def test_mcnemar_is_the_two_sided_binomial(learned: int, forgotten: int) -> None:
    n, least = learned + forgotten, min(learned, forgotten)
    tail = sum(math.comb(n, k) for k in range(least + 1)) / 2**n
    found = compare(*verdicts(7, learned, forgotten, 5))
    assert found.p_value == pytest.approx(min(1.0, 2 * tail), rel=1e-9)
    assert (found.n, found.learned, found.forgotten) == (n + 12, learned, forgotten)
    assert (found.before, found.after) == (7 + forgotten, 7 + learned)
    assert found.difference == pytest.approx((learned - forgotten) / (n + 12))


def test_mcnemar_by_hand() -> None:
    assert compare(*verdicts(0, 1, 9, 0)).p_value == pytest.approx(22 / 1024)


def test_the_interval_is_that_of_resampled_items() -> None:
    before, after = verdicts(30, 14, 5, 31)
    found = compare(before, after)
    changes = numpy.array(after, dtype=int) - numpy.array(before, dtype=int)
    generator = numpy.random.default_rng(1)
    means = [changes[generator.integers(0, len(changes), len(changes))].mean() for _ in range(4000)]
    low, high = numpy.quantile(means, [0.025, 0.975])
    assert found.low == pytest.approx(low, abs=0.013)  # an item is 0.0125
    assert found.high == pytest.approx(high, abs=0.013)
    assert found.low < found.difference < found.high


@pytest.mark.parametrize(("before", "after", "difference"), [(True, True, 0), (False, True, 1), (True, False, -1), (False, False, 0)])
def test_one_item(before: bool, after: bool, difference: int) -> None:
    found = compare([before], [after])
    assert (found.difference, found.low, found.high, found.p_value) == (difference, difference, difference, 1.0)


def test_nothing_changed() -> None:
    found = compare(*verdicts(40, 0, 0, 31))
    assert (found.p_value, found.difference, found.low, found.high) == (1.0, 0.0, 0.0, 0.0)
    assert json.loads(json.dumps(found.to_dict()))["n"] == 71


def test_the_same_seed_gives_the_same_interval() -> None:
    assert compare(*verdicts(9, 3, 2, 9), seed=4) == compare(*verdicts(9, 3, 2, 9), seed=4)


def test_items_must_be_the_same() -> None:
    for before, after in (([True], []), ([], [])):
        with pytest.raises(ValueError, match="the same items"):
            compare(before, after)


def test_none_of_71_may_still_be_five_in_a_hundred() -> None:
    low, high = share_interval(0, 71)
    assert low == 0
    assert high == pytest.approx(1 - 0.025 ** (1 / 71))  # the share with which 0 of 71 still has a chance of 2.5%
    assert high == pytest.approx(0.0506, abs=1e-4)
    assert share_interval(71, 71) == pytest.approx((1 - high, 1.0))
    assert share_interval(5, 10) == pytest.approx((0.1871, 0.8129), abs=1e-4)


def test_the_mean_of_paired_differences() -> None:
    data = numpy.random.default_rng(0).normal(2, 3, size=200)
    mean, low, high = mean_interval(list(data))
    assert mean == pytest.approx(data.mean())
    error = data.std() / math.sqrt(200)
    assert low == pytest.approx(mean - 1.96 * error, abs=0.15 * error)
    assert high == pytest.approx(mean + 1.96 * error, abs=0.15 * error)


def test_the_mean_of_one_value_and_of_none() -> None:
    assert mean_interval([0.5]) == (0.5, 0.5, 0.5)
    with pytest.raises(ValueError, match="no values"):
        mean_interval([])


def test_one_training_has_no_interval_over_seeds() -> None:
    with pytest.raises(ValueError, match="two are needed"):
        seed_interval([0.5])


def test_parts_of_the_resampling_join_to_the_same_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    values = list(numpy.random.default_rng(0).normal(size=101))
    whole = mean_interval(values)
    monkeypatch.setattr("forgetless.evaluation.paired.DRAWN", 1010)
    assert mean_interval(values) == whole


def test_many_items_take_little_memory() -> None:
    tracemalloc.start()
    mean_interval([0.0, 1.0] * 5_000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100e6


@pytest.mark.parametrize(("learned", "forgotten"), [(0, 5), (3, 3), (2, 9), (40, 22)])
def test_mcnemar_is_that_of_statsmodels(learned: int, forgotten: int) -> None:
    from statsmodels.stats.contingency_tables import mcnemar

    expected = mcnemar([[30, forgotten], [learned, 8]], exact=True).pvalue
    assert compare(*verdicts(30, learned, forgotten, 8)).p_value == pytest.approx(float(expected))
