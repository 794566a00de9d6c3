"""Correlations against scipy, the coefficient of determination against its definition."""

from __future__ import annotations

import pytest
from scipy.stats import pearsonr, spearmanr

from forgetless.analysis.correlation import correlation, determination, spearman

X, Y = [1.0, 4.0, 2.0, 2.0, 9.0, 5.5, -1.0], [0.5, 3.0, 2.5, 1.0, 3.0, 8.0, 0.0]


def test_both_correlations_are_scipys_and_lie_in_their_intervals() -> None:
    found = correlation(X, Y)
    assert found.spearman == pytest.approx(spearmanr(X, Y).statistic) == spearman(X, Y)
    assert found.pearson == pytest.approx(pearsonr(X, Y).statistic)
    assert found.spearman_low < found.spearman < found.spearman_high <= 1 + 1e-12
    assert found.pearson_low < found.pearson < found.pearson_high and found.n == 7


def test_too_few_or_constant_values_have_none() -> None:
    assert correlation([1, 2], [1, 2]).spearman is None and correlation([], []).n == 0
    assert correlation([1, 1, 1], [1, 2, 3]).pearson is None and spearman([1, 1, 1], [1, 2, 3]) is None
    with pytest.raises(ValueError, match="same length"):
        correlation([1, 2, 3], [1, 2])


def test_determination_judges_size_and_order() -> None:
    assert determination([1, 2, 3], [1, 2, 3]) == 1
    assert determination([2, 2, 2], [1, 2, 3]) == 0
    assert determination([2, 4, 6], [1, 2, 3]) == 1 - 14 / 2
    assert determination([1, 2], [5, 5]) is None
