"""What watched runs recorded: drift from the start, movement and turned signs by layer, circuits, predicted against real change."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from forgetless.analysis.correlation import correlation
from forgetless.report.charts import Chart, Point, Series, axis, draw
from forgetless.report.figures import figures
from forgetless.report.groups import Group, averaged
from forgetless.report.numbers import percent, plain, short
from forgetless.report.run import INJECT, Epoch

MOST_STEPS = 200
"""Steps of a run drawn one by one; of more, this many are taken at even distances, and the chart says so."""
ENOUGH = 3
"""Runs from which on drift is drawn against forgetting."""


def watch_charts(groups: Sequence[Group]) -> list[Chart]:
    """The charts of what any run recorded; means over the seeds of a group."""
    samples = list(dict.fromkeys(sample for group in groups for run in group.runs for epoch in run.epochs for sample in epoch.kl))
    found = [
        _by_epoch(groups, f"kl-{sample}", f"Drift from the start, {sample} questions", "KL(start || now), nats a token", _kl(sample))
        for sample in samples
    ]
    found.append(_by_epoch(groups, "circuit", "Circuits: rank correlation with the start", "rank correlation", lambda e: e.circuit))
    found.append(_by_layer(groups, "moved", "How far each layer has moved", "movement, % of the layer's norm", lambda e: e.moved))
    found.append(_by_layer(groups, "flips", "Signs turned at a refresh, by layer", "turned, % of signs", lambda e: e.flips))
    found += [_first_order(groups), _drift(groups)]
    return [chart for chart in found if chart is not None]


def _kl(sample: str) -> Callable[[Epoch], float | None]:
    return lambda epoch: epoch.kl[sample][0] if sample in epoch.kl else None


def _by_epoch(groups: Sequence[Group], id: str, title: str, label: str, read: Callable[[Epoch], float | None]) -> Chart | None:
    series = []
    for index, group in enumerate(groups):
        pairs = averaged(group.runs, lambda run: {epoch.epoch: value for epoch in run.epochs if (value := read(epoch)) is not None})
        if pairs:
            series.append(Series(index, [Point(x, y, f"{group.name}, epoch {x}: {plain(y)}") for x, y in pairs]))
    if not series:
        return None
    values = [point.y for one in series for point in one.points]
    x = axis("epoch", [point.x for one in series for point in one.points], plain, whole=True, start=1.0)
    y = axis(label, [*values, 0.0], plain)
    return draw(id, title, x, y, series, f"{title}. Last values: " + "; ".join(one.points[-1].tip for one in series))


def _by_layer(groups: Sequence[Group], id: str, title: str, label: str, read: Callable[[Epoch], Mapping[str, float]]) -> Chart | None:
    """The values of the last epoch that has some, by numbered layer."""
    series = []
    for index, group in enumerate(groups):
        pairs = averaged(
            group.runs,
            lambda run: {
                int(name): value
                for name, value in next((read(epoch) for epoch in reversed(run.epochs) if read(epoch)), {}).items()
                if name.isdigit()
            },
        )
        if pairs:
            series.append(Series(index, [Point(layer, y, f"{group.name}, layer {layer}: {percent(y)}") for layer, y in pairs]))
    if not series:
        return None
    points = [point for one in series for point in one.points]
    x = axis("layer", [], plain, whole=True, start=0.0, end=max(1.0, *(point.x for point in points)))
    y = axis(label, [point.y for point in points], percent, start=0.0)
    return draw(id, title, x, y, series, f"{title}, in the last epoch")


def _first_order(groups: Sequence[Group]) -> Chart | None:
    series, left_out = [], False
    for index, group in enumerate(groups):
        for run in group.runs:
            known = [(step.step, step.predicted, step.real) for step in run.steps if step.predicted is not None and step.real is not None]
            if len(known) > MOST_STEPS:
                known, left_out = [known[n * len(known) // MOST_STEPS] for n in range(MOST_STEPS)], True
            points = [Point(p, r, f"{group.name}, step {s}: predicted {plain(p)}, real {plain(r)}") for s, p, r in known]
            if points:
                series.append(Series(index, points, joined=False))
    if not series:
        return None
    x = axis("predicted, nats", [point.x for one in series for point in one.points], short)
    y = axis("real, nats", [point.y for one in series for point in one.points], short)
    title = "Change of the retain loss by each step"
    note = f"{MOST_STEPS} steps of each run, at even distances" if left_out else None
    return draw("first-order", title, x, y, series, f"{title}: predicted to first order against real", note)


def _drift(groups: Sequence[Group]) -> Chart | None:
    """Forward KL on the inject sample against everything forgotten, one point a run."""
    series, pairs = [], []
    for index, group in enumerate(groups):
        for run in group.runs:
            last = next((epoch.kl[INJECT][0] for epoch in reversed(run.epochs) if INJECT in epoch.kl), None)
            lost = figures(run).forgotten
            if last is not None and lost:
                count = sum(share.count for share in lost.values())
                pairs.append((last, float(count)))
                series.append(Series(index, [Point(last, count, f"{group.name}: KL {plain(last)}, forgot {count}")]))
    if len(pairs) < ENOUGH:
        return None
    found = correlation([kl for kl, _ in pairs], [count for _, count in pairs])
    rank = "not defined" if found.spearman is None else f"{found.spearman:.2f}"
    if found.spearman_low is not None and found.spearman_high is not None:
        rank += f" (95% interval {found.spearman_low:.2f} to {found.spearman_high:.2f})"
    note = f"Rank correlation {rank}, n = {found.n} runs"
    x = axis("KL(start || end) on the inject questions, nats a token", [0.0, *(kl for kl, _ in pairs)], short, start=0.0)
    y = axis("questions forgotten, all sets", [0.0, *(count for _, count in pairs)], plain, start=0.0)
    return draw("drift", "Drift from the start against forgetting", x, y, series, f"{note}.", note)
