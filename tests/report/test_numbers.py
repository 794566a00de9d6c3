"""Intervals, the exact test, and numbers as they are read."""

from __future__ import annotations

import math

import pytest

from forgetless.report.charts import axis, binned
from forgetless.report.numbers import Share, duration, memory, percent, plain, points, short


@pytest.mark.parametrize(
    ("count", "total", "low", "high"),
    [
        (0, 71, 0, 0.050629408),
        (7, 71, 0.0405661601, 0.192643868),
        (71, 71, 0.949370592, 1),
        (173, 192, 0.849781321, 0.939362724),
    ],
)
def test_the_interval_is_exact(count: int, total: int, low: float, high: float) -> None:
    """The values are those of Clopper and Pearson."""
    assert Share(count, total).interval == pytest.approx((low, high), abs=1e-8)


def test_a_share_of_nothing_has_no_value() -> None:
    assert Share(0, 0).share is None and Share(0, 0).interval is None


def test_percentages_never_round_to_all_or_nothing() -> None:
    assert [percent(v) for v in (0, 1, 0.0004, 0.9999, 0.996, 0.0986, 0.901, None, math.nan)] == [
        "0%",
        "100%",
        "<0.1%",
        "99.9%",
        "99.6%",
        "9.9%",
        "90%",
        "\N{EN DASH}",
        "\N{EN DASH}",
    ]


def test_numbers_as_they_are_read() -> None:
    assert [duration(v) for v in (0.04, 59.6, 151, 3840)] == ["0.0 s", "1 min 00 s", "2 min 31 s", "1 h 04 min"]
    assert [memory(v) for v in (512.4, 999_600, 2_314_000_000, None, math.nan)] == ["512 B", "1 MB", "2.3 GB", *["\N{EN DASH}"] * 2]
    assert [short(v) for v in (1e-16, -0.1234, 45.6)] == ["0", "-0.12", "46"]
    assert [plain(v) for v in (0, 3e-5, 0.1234, 12345.6, -2)] == ["0", "3.0e-05", "0.123", "12,346", "\N{MINUS SIGN}2"]
    assert [points(v) for v in (-0.071, 0.0001, 0.005)] == ["\N{MINUS SIGN}7.1", "0.0", "+0.5"]


def test_bins_keep_the_mean_and_show_a_diverged_loss() -> None:
    means, size = binned([(step, float(step)) for step in range(1000)], most=100)
    assert size == 10 and len(means) == 100 and means[0] == (4.5, 4.5)
    diverged, _ = binned([(1, 1.0), (2, math.nan), (3, 1.0), (4, 1.0)], most=2)
    assert math.isnan(diverged[0][1]) and diverged[1][1] == 1.0


def test_axes_have_round_ticks_that_cover_the_values() -> None:
    made = axis("x", [0.0, 0.387], percent, start=0.0)
    assert [round(tick, 6) for tick in made.ticks] == [0.0, 0.1, 0.2, 0.3, 0.4] and made.high == pytest.approx(0.4)
    assert axis("epoch", [0.0, 3.0], plain, whole=True, start=0.0).ticks == [0.0, 1.0, 2.0, 3.0]
    assert axis("flat", [0.0], percent, start=0.0).high > 0
