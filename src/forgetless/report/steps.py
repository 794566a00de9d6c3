"""What runs recorded step by step: loss, conflicting share, signs that turned."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from forgetless.report.charts import Chart, Point, Series, axis, binned, draw
from forgetless.report.groups import Group, averaged
from forgetless.report.numbers import percent, plain
from forgetless.report.run import Step
from forgetless.report.trajectories import last_values


def step_charts(groups: Sequence[Group]) -> list[Chart]:
    """Loss, conflicting share and sign flips over steps; those that no run recorded are left out."""
    charts = []
    for id, title, label, read, text in (
        ("loss", "Training loss", "mean loss on new items", lambda step: step.loss, plain),
        ("conflicting", "Conflicting share of parameters", "conflicting, % of parameters", lambda step: step.conflicting_fraction, percent),
        ("sign-flips", "Reference signs that flipped at a refresh", "flipped, % of signs", lambda step: step.sign_flips, percent),
    ):
        chart = _over_steps(groups, id, title, label, read, text)
        if chart is not None:
            charts.append(chart)
    return charts


def _over_steps(
    groups: Sequence[Group],
    id: str,
    title: str,
    label: str,
    read: Callable[[Step], float | None],
    text: Callable[[float | None], str],
) -> Chart | None:
    series, widest = [], 1
    for index, group in enumerate(groups):
        pairs = averaged(group.runs, lambda run: {step.step: value for step in run.steps if (value := read(step)) is not None})
        means, size = binned(pairs)
        widest = max(widest, size)
        points = [Point(x, y, f"{group.name}, step {plain(x)}: {text(y)}") for x, y in means]
        if points:
            series.append(Series(index, points))
    if not series:
        return None
    last = float(max(step.step for group in groups for run in group.runs for step in run.steps))
    x = axis("step", [], plain, whole=True, start=0.0, end=last)
    y = axis(label, [point.y for one in series for point in one.points], text, start=0.0)
    notes = [f"Each point is the mean of up to {widest} steps"] if widest > 1 else []
    notes += ["Mean over seeds"] if any(len(group.runs) > 1 for group in groups) else []
    return draw(id, title, x, y, series, last_values(title, series), ". ".join(notes) or None)
