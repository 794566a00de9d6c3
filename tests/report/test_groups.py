"""Runs that differ in the seed alone are one: means, intervals, charts and words are over seeds."""

from __future__ import annotations

import json
import statistics
from pathlib import Path

import pytest
from scipy.stats import ttest_rel

from forgetless.evaluation.paired import mean_interval
from forgetless.report import read_run, verdict_sentences
from forgetless.report.figures import figures, labels
from forgetless.report.groups import grouped, level
from forgetless.report.overview import board
from forgetless.report.page import run_charts
from forgetless.report.run import RETAIN_HELDOUT, Run
from forgetless.report.seeds import over_seeds
from forgetless.report.tables import Cell, Head
from report.folders import write_run


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Run]:
    folder = tmp_path_factory.mktemp("runs")
    return [
        read_run(write_run(folder / f"{method}-{seed}", method=method, seed=seed, keep=keep, items=64, epochs=4 - (seed == 2)))
        for method, keep in (("none", 0.6), ("cpl", 0.95))
        for seed in range(3)
    ]


def test_groups_are_called_without_the_seed(runs: list[Run]) -> None:
    groups = grouped(runs, labels(runs))
    assert [(group.name, group.places) for group in groups] == [("none", (0, 1, 2)), ("cpl", (3, 4, 5))]


def test_runs_with_the_same_seed_or_other_settings_stay_apart(tmp_path: Path) -> None:
    same = [read_run(write_run(tmp_path / name, seed=0, items=16)) for name in "ab"]
    assert len(grouped(same, labels(same))) == 2
    other = [read_run(write_run(tmp_path / "c", seed=1, items=16, model="another")), same[0]]
    assert len(grouped(other, labels(other))) == 2


def test_the_board_has_means_over_seeds(runs: list[Run]) -> None:
    groups = grouped(runs, labels(runs))
    table = board(groups)
    column = list(table.head).index("Forgotten, held out")
    for row, group in zip(table.rows, groups, strict=True):
        shares = [one.forgotten[RETAIN_HELDOUT] for one in group.found]
        values = [share.count / share.total for share in shares]
        cell, head = row[column], row[0]
        assert isinstance(cell, Cell) and isinstance(head, Head) and head.small == "3 seeds"
        assert cell.value == pytest.approx(statistics.fmean(values)) and cell.span == mean_interval(values)[1:]
    one = level([figures(runs[0]).learned])
    assert one is not None and one.share == figures(runs[0]).learned and one.n == 1


def test_a_run_that_stopped_counts_as_it_stopped(runs: list[Run]) -> None:
    charts = {chart.id: chart for chart, _ in run_charts(runs)}
    last = charts["learned-inject"].rows[4]
    assert last[1] == "4" and "%" in last[2]
    shares = [share for run in runs[:3] if (share := figures(run).learned)]
    expected = statistics.fmean(share.count / share.total for share in shares)
    assert abs(float(last[2].rstrip("%")) / 100 - expected) < 0.006
    assert last[3] != "", "it has an interval over seeds"


def test_the_words_compare_seed_by_seed(runs: list[Run]) -> None:
    found = over_seeds(grouped(runs, labels(runs)))
    assert found is not None and found[0] == RETAIN_HELDOUT
    (one,) = found[1]
    lost = [
        [share.count / share.total for run in part if (share := figures(run).forgotten[RETAIN_HELDOUT])] for part in (runs[3:], runs[:3])
    ]
    gaps = [a - b for a, b in zip(*lost, strict=True)]
    assert one.difference == pytest.approx(statistics.fmean(gaps)) and one.p == pytest.approx(ttest_rel(*lost).pvalue)
    assert (one.low, one.high) == mean_interval(gaps)[1:]
    told = verdict_sentences(runs)
    assert told[0] == one.sentence("held-out items of the same kinds") and "over 3 common seeds" in told[0]
    assert any("few seeds are too narrow" in sentence for sentence in told)
    assert not any("with one seed" in sentence for sentence in told)


def test_without_common_seeds_runs_are_told_one_by_one(tmp_path: Path) -> None:
    made = [
        read_run(write_run(tmp_path / f"{m}{s}", method=m, seed=s, items=16)) for m, s in (("none", 0), ("none", 1), ("cpl", 2), ("cpl", 3))
    ]
    assert over_seeds(grouped(made, labels(made))) is None
    assert json.dumps(verdict_sentences(made))
