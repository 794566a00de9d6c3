"""Runs that differ in the seed alone are one: means, intervals, charts and words are over seeds."""

from __future__ import annotations

import json
import statistics
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from scipy.stats import ttest_1samp, ttest_rel

from forgetless.report import read_run, verdict_sentences
from forgetless.report.figures import figures, labels
from forgetless.report.groups import grouped, level
from forgetless.report.numbers import percent
from forgetless.report.overview import board
from forgetless.report.page import run_charts
from forgetless.report.run import RETAIN_HELDOUT, Run
from forgetless.report.seeds import over_seeds
from forgetless.report.tables import Cell, Head
from forgetless.report.trajectories import frontier_table
from report.folders import write_run
from report.pages import guard


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
        low, high = ttest_1samp(values, 0.0).confidence_interval()
        assert cell.value == pytest.approx(statistics.fmean(values)) and cell.span == pytest.approx((max(low, 0.0), min(high, 1.0)))
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
    assert (one.low, one.high) == pytest.approx(tuple(ttest_rel(*lost).confidence_interval()))
    told = verdict_sentences(runs)
    assert told[0] == one.sentence("held-out items of the same kinds") and "over 3 common seeds" in told[0]
    assert any("few seeds are wide" in sentence for sentence in told)
    assert not any("with one seed" in sentence for sentence in told)


def test_without_common_seeds_runs_are_told_one_by_one(tmp_path: Path) -> None:
    made = [
        read_run(write_run(tmp_path / f"{m}{s}", method=m, seed=s, items=16)) for m, s in (("none", 0), ("none", 1), ("cpl", 2), ("cpl", 3))
    ]
    assert over_seeds(grouped(made, labels(made))) is None
    assert json.dumps(verdict_sentences(made))


def configured(folder: Path, *, files: dict[str, Any] | None = None, **more: Any) -> Run:
    """A run of 16 items a split with these settings in its ``config.yaml``; ``files``: of the inject set."""
    config = {key: more.pop(key) for key in [*more] if key not in ("seed", "method", "keep")}
    path = write_run(folder, items=16, **more) / "config.yaml"
    found = yaml.safe_load(path.read_text())
    found["files"]["inject"] |= files or {}
    path.write_text(yaml.safe_dump(found | config))
    return read_run(folder)


def test_groups_that_would_be_called_alike_are_told_apart(tmp_path: Path) -> None:
    runs = [
        configured(tmp_path / f"{refresh}{seed}", seed=seed, method_args={"cpl": {"refresh": refresh}}, batch_size=4 * refresh)
        for refresh in (2, 4)
        for seed in range(2)
    ] + [configured(tmp_path / f"none{seed}", seed=seed, method="none", keep=0.5) for seed in range(2)]
    groups = grouped(runs, labels(runs))
    assert [group.name for group in groups] == ["cpl batch_size=8 refresh=2", "cpl batch_size=16 refresh=4", "none"]
    assert "cpl batch_size=8 refresh=2, cpl batch_size=16 refresh=4 " in verdict_sentences(runs)[0]
    given = [configured(tmp_path / f"s{seed}", seed=seed, scorer=scorer) for seed, scorer in enumerate(["exact", "exact", None, None])]
    assert [group.name for group in grouped(given, labels(given))] == ["cpl scorer=exact", "cpl"]


def test_groups_that_no_setting_tells_apart_are_numbered(tmp_path: Path) -> None:
    runs = [configured(tmp_path / str(seed), seed=seed, files={"sha256": "ab"[seed % 2]}) for seed in range(4)]
    assert [(group.name, group.places) for group in grouped(runs, labels(runs))] == [("cpl #1", (0, 2)), ("cpl #2", (1, 3))]


@pytest.mark.parametrize(
    ("paths", "seeds", "count"),
    [
        (["med.jsonl", "law.jsonl"], [0, 1], 2),
        (["edits-24-0/inject.jsonl", "edits-24-1/inject.jsonl", "edits-24-24/inject.jsonl"], [0, 1, 24], 1),
        (["v1/icd10.jsonl"] * 3, [0, 1, 10], 1),
        (["edits-5/inject.jsonl", "edits-6/inject.jsonl"], [0, 1], 2),
        (["edits-0/inject.jsonl", "codes-1/inject.jsonl"], [0, 1], 2),
    ],
)
def test_runs_on_other_data_are_no_seeds_of_one_thing(tmp_path: Path, paths: list[str], seeds: list[int], count: int) -> None:
    runs = [configured(tmp_path / str(n), seed=seed, files={"path": path}) for n, (path, seed) in enumerate(zip(paths, seeds, strict=True))]
    assert len(grouped(runs, labels(runs))) == count


def test_a_file_is_known_by_its_content_where_that_is_known(tmp_path: Path) -> None:
    for n, (paths, hashes, count) in enumerate(((["a.jsonl", "b/a.jsonl"], "xx", 1), (["a.jsonl", "a.jsonl"], "xy", 2))):
        runs = [configured(tmp_path / f"{n}{s}", seed=s, files={"path": paths[s], "sha256": hashes[s]}) for s in range(2)]
        assert len(grouped(runs, labels(runs))) == count


def test_groups_on_other_data_are_called_after_it(tmp_path: Path) -> None:
    runs = [
        configured(tmp_path / f"{data}{seed}", seed=seed, files={"path": f"{data}-{seed}/inject.jsonl"})
        for data in ("law", "med")
        for seed in range(2)
    ]
    assert [group.name for group in grouped(runs, labels(runs))] == [f"cpl inject={data}-{{seed}}/inject.jsonl" for data in ("law", "med")]


def test_seeds_that_learned_different_items_are_not_compared(runs: list[Run]) -> None:
    def asked_other(run: Run) -> Run:
        return replace(run, items=tuple(replace(item, prompt=f"{item.prompt}!") for item in run.items))

    some = [*runs[:5], asked_other(runs[5])]
    found = over_seeds(grouped(some, labels(some)))
    assert found is not None and found[1][0].n == 2
    other = [*runs[:3], *map(asked_other, runs[3:])]
    assert over_seeds(grouped(other, labels(other))) is None
    assert "cannot be compared" in verdict_sentences(other)[0] and "seeds" not in verdict_sentences(other)[0]


def test_of_plain_groups_one_that_learned_the_same_items_is_the_baseline(runs: list[Run]) -> None:
    config = {**runs[0].config, "lr": 1e-5}
    other = [replace(run, config=config, items=tuple(replace(item, prompt="other") for item in run.items)) for run in runs[3:]]
    plain = [
        replace(run, summary=replace(run.summary, method="none"), config={**config, "method": "none", "method_args": {}})
        for run in other
        if run.summary is not None
    ]
    both = [*runs, *plain]
    found = over_seeds(grouped(both, labels(both)))
    assert found is not None and [one.baseline.runs for one in found[1]] == [tuple(runs[:3])]


def ends(runs: list[Run], id: str) -> tuple[str, list[str]]:
    """The summary of a chart of ``runs``, and what its points say."""
    chart = next(chart for chart, _ in run_charts(runs) if chart.id == id)
    return chart.summary, [mark.tip for line in chart.lines for mark in line.marks]


def guarded(folder: Path, **more: Any) -> Run:
    guard(write_run(folder, items=64, method="cpl", **more), kept=True)
    return read_run(folder)


def test_a_run_under_a_guard_is_drawn_to_what_it_left(tmp_path: Path) -> None:
    run = guarded(tmp_path / "run", keep=0.8)
    assert run.summary is not None
    learned, lost = figures(run).learned, figures(run).forgotten[RETAIN_HELDOUT]
    assert learned is not None and lost.count and lost.share
    told, tips = ends([run], "frontier-retain-heldout")
    end = f"cpl, at the end: learned {percent(learned.share)}, forgot {lost} ({percent(lost.share)})"
    assert len(tips) == 2 and tips[-1] == end and told.endswith(f"Last values: {end}.")
    assert ends([run], "forgotten-retain-heldout")[0].endswith(f"cpl, at the end: forgotten {lost} ({percent(lost.share)}).")
    last = frontier_table([run], ["cpl"], [RETAIN_HELDOUT]).rows[-1]
    assert list(last) == ["cpl", "at the end", f"{learned} ({percent(learned.share)})", f"{lost} ({percent(lost.share)})"]


def test_the_mean_over_guarded_seeds_is_that_of_what_they_left(tmp_path: Path) -> None:
    runs = [guarded(tmp_path / str(seed), seed=seed, keep=0.8, epochs=2 + seed) for seed in range(3)]
    mean = statistics.fmean(share.share or 0.0 for run in runs if (share := figures(run).forgotten[RETAIN_HELDOUT]))
    assert ends(runs, "frontier-retain-heldout")[1][-1].endswith(f"forgot {percent(mean)}")
    _, tips = ends(runs, "forgotten-retain-heldout")
    assert len(tips) == 2 and tips[1] == f"cpl, at the end: forgotten {percent(mean)} (mean of 3 seeds)"


def test_where_only_the_start_is_known_there_is_no_path(tmp_path: Path) -> None:
    begun, other = replace(guarded(tmp_path / "run"), summary=None), read_run(write_run(tmp_path / "none", method="none", items=64))
    assert ends([begun, other], "learned-inject")[1][0].startswith("cpl, epoch 0")
    for id in ("frontier-retain-heldout", "forgotten-retain-heldout"):
        assert all(tip.startswith("none, ") for tip in ends([begun, other], id)[1])


def test_what_a_method_did_after_its_last_epoch_counts(tmp_path: Path) -> None:
    run = read_run(write_run(tmp_path / "run", items=64, method="wise", keep=0.6))
    assert run.summary is not None
    run = replace(run, summary=replace(run.summary, learned=3, forgotten_heldout=1))
    told, tips = ends([run], "frontier-retain-heldout")
    assert len(tips) == len(run.epochs) + 1 and tips[-2].startswith("wise, epoch 4") and "wise, at the end" in told
    assert f"forgot {figures(run).forgotten[RETAIN_HELDOUT]} " in tips[-1] and str(figures(run).learned).startswith("3 of")
    learned = ends([run], "learned-inject")[1]
    assert len(learned) == len(run.epochs) and learned[-1].startswith("wise, at the end: learned 3 of")
    assert [row[1] for row in frontier_table([run], ["wise"], [RETAIN_HELDOUT]).rows][-2:] == ["4", "at the end"]
