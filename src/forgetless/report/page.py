"""The page on runs: one HTML file with everything in it, that opens offline and asks nothing of any network."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from forgetless.errors import InputError
from forgetless.files import write_text
from forgetless.report.budget import budget_views
from forgetless.report.charts import Chart
from forgetless.report.figures import disagreements, figures, labels
from forgetless.report.frame import render_page, script_json
from forgetless.report.groups import group_of, grouped
from forgetless.report.items import of_runs
from forgetless.report.layers import layer_grid
from forgetless.report.numbers import plain
from forgetless.report.overview import board, figure_table
from forgetless.report.read_run import read_run
from forgetless.report.reproduce import command, paired_table, settings_table
from forgetless.report.run import Run
from forgetless.report.steps import step_charts
from forgetless.report.trajectories import epoch_charts, epoch_table, frontier_charts, frontier_table, kept_splits
from forgetless.report.verdict import verdict, verdict_sentences
from forgetless.report.watch_charts import watch_charts

__all__ = ["verdict_sentences", "write_report"]


def write_report(runs: Sequence[Path], out: Path, *, title: str | None = None) -> Path:
    """Write the page on the run folders ``runs`` to the file ``out`` and return it.

    Runs that differ in nothing but the seed are shown as one, with the mean over seeds and its interval.

    Raises:
        InputError: no folder is given, or one is no run folder.
    """
    write_text(out, render(read_runs(runs), title=title))
    return out


def read_runs(folders: Sequence[Path]) -> list[Run]:
    """The runs in ``folders``.

    Raises:
        InputError: none is given, or one is no run folder.
    """
    if not folders:
        raise InputError("no run folder is given", where="runs", mend="Give at least one folder that `forgetless train` wrote")
    return [read_run(folder) for folder in folders]


def render(runs: Sequence[Run], *, title: str | None = None) -> str:
    """The page on ``runs`` as HTML."""
    names = labels(runs)
    groups = grouped(runs, names)
    styles = group_of(groups)
    frontier, epochs = frontier_charts(groups), epoch_charts(groups)
    steps = [*step_charts(groups), *watch_charts(groups)]
    grids = [grid for index, run in enumerate(runs) if (grid := layer_grid(styles[index], names[index], run))]
    grid_names = [names[index] for index, run in enumerate(runs) if layer_grid(styles[index], names[index], run)]
    budgets, items = budget_views(runs, names), of_runs(runs, names, styles)
    parts: list[tuple[str, str, object]] = [
        ("frontier", "Frontier", frontier),
        ("figures", "Figures", True),
        ("budget", "Budget", budgets),
        ("epochs", "Epochs", epochs),
        ("items", "Items", items.count),
        ("layers", "Conflict", grids),
        ("steps", "Steps", steps),
        ("settings", "Reproduce", True),
    ]
    return render_page(
        "page.html.j2",
        title=title or f"{', '.join(group.name for group in groups)}: what was learned, what was forgotten",
        sections=[(id, name) for id, name, there in parts if there],
        scripts=["items.js"],
        names=names,
        group_names=[group.name for group in groups],
        styles=styles,
        runs=runs,
        verdict=verdict(runs),
        warnings=_warnings(runs, names),
        board=board(groups),
        table=figure_table([figures(run) for run in runs]),
        models=list(dict.fromkeys(run.model for run in runs)),
        budgets=budgets,
        epochs=epochs,
        epoch_table=epoch_table(runs, names),
        frontier=frontier,
        frontier_table=frontier_table(runs, names, kept_splits(groups)),
        steps=steps,
        paired=paired_table(runs, names),
        grids=list(zip(grids, grid_names, strict=True)),
        differing=settings_table(runs, names, differing=True) if len(runs) > 1 else None,
        settings=settings_table(runs, names, differing=False),
        commands=commands(runs),
        items=items,
        data=script_json(items.data),
    )


def run_charts(runs: Sequence[Run]) -> list[tuple[Chart, Sequence[str]]]:
    """Every chart of the page, each with the names of its series."""
    names = labels(runs)
    groups = grouped(runs, names)
    own = [wide for wide, _ in frontier_charts(groups)] + epoch_charts(groups) + step_charts(groups) + watch_charts(groups)
    return [(chart, [group.name for group in groups]) for chart in own] + [(one.chart, one.series) for one in budget_views(runs, names)]


def commands(runs: Sequence[Run]) -> str:
    """The commands that make the runs and this page again."""
    lines = [command(run.config, str(run.folder)) for run in runs]
    report = shlex.join(["forgetless", "report", *(str(run.folder) for run in runs), "--out", "report.html"])
    return "\n".join([*(line for line in lines if line is not None), report])


def _warnings(runs: Sequence[Run], names: Sequence[str]) -> list[str]:
    found = []
    for run, name in zip(runs, names, strict=True):
        found += [f"{name}: {note}" for note in (*run.notes, *disagreements(run))]
        found += [f"{name}, epoch {epoch.epoch}: {warning}" for epoch in run.epochs for warning in epoch.warnings]
        if run.summary is not None and run.summary.constraint_violation:
            found.append(
                f"{name}: a weight said to be frozen moved by {plain(run.summary.constraint_violation)}. Do not rely on its protection."
            )
    return found
