"""What watched runs recorded: drift from the start, movement and turned signs by layer, circuits, predicted against real change."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from forgetless.analysis.correlation import correlation
from forgetless.report.charts import Chart, Point, Series, axis, draw
from forgetless.report.figures import figures
from forgetless.report.numbers import percent, plain
from forgetless.report.run import INJECT, Epoch, Run

MOST_STEPS = 200
"""Steps of a run drawn one by one; of more, this many are taken at even distances, and the chart says so."""
ENOUGH = 3
"""Runs from which on drift is drawn against forgetting."""


def watch_charts(runs: Sequence[Run], names: Sequence[str]) -> list[Chart]:
    """The charts of what any run recorded."""
    samples = list(dict.fromkeys(sample for run in runs for epoch in run.epochs for sample in epoch.kl))
    found = [
        _by_epoch(
            runs, names, f"kl-{sample}", f"Drift from the start, {sample} questions", "KL(start || now), nats a token", _kl(sample), plain
        )
        for sample in samples
    ]
    found.append(
        _by_epoch(runs, names, "circuit", "Circuits: rank correlation with the start", "rank correlation", lambda e: e.circuit, plain)
    )
    found.append(_by_layer(runs, names, "moved", "How far each layer has moved", "movement, % of the layer's norm", lambda e: e.moved))
    found.append(_by_layer(runs, names, "flips", "Signs turned at a refresh, by layer", "turned, % of signs", lambda e: e.flips))
    found += [_first_order(runs, names), _drift(runs, names)]
    return [chart for chart in found if chart is not None]


def _kl(sample: str) -> Callable[[Epoch], float | None]:
    return lambda epoch: epoch.kl[sample][0] if sample in epoch.kl else None


def _by_epoch(
    runs: Sequence[Run],
    names: Sequence[str],
    id: str,
    title: str,
    label: str,
    read: Callable[[Epoch], float | None],
    text: Callable[[float | None], str],
) -> Chart | None:
    series = []
    for index, run in enumerate(runs):
        pairs = [(epoch.epoch, value) for epoch in run.epochs if (value := read(epoch)) is not None]
        if pairs:
            series.append(Series(index, [Point(x, y, f"{names[index]}, epoch {x}: {text(y)}") for x, y in pairs]))
    if not series:
        return None
    values = [point.y for one in series for point in one.points]
    x = axis("epoch", [point.x for one in series for point in one.points], plain, whole=True, start=1.0)
    y = axis(label, [*values, 0.0], text)
    return draw(id, title, x, y, series, f"{title}. Last values: " + "; ".join(one.points[-1].tip for one in series))


def _by_layer(
    runs: Sequence[Run], names: Sequence[str], id: str, title: str, label: str, read: Callable[[Epoch], Mapping[str, float]]
) -> Chart | None:
    """The values of the last epoch that has some, by numbered layer."""
    series = []
    for index, run in enumerate(runs):
        last = next((read(epoch) for epoch in reversed(run.epochs) if read(epoch)), {})
        layers = sorted(int(name) for name in last if name.isdigit())
        if layers:
            points = [Point(layer, last[str(layer)], f"{names[index]}, layer {layer}: {percent(last[str(layer)])}") for layer in layers]
            series.append(Series(index, points))
    if not series:
        return None
    points = [point for one in series for point in one.points]
    x = axis("layer", [], plain, whole=True, start=0.0, end=max(1.0, *(point.x for point in points)))
    y = axis(label, [point.y for point in points], percent, start=0.0)
    return draw(id, title, x, y, series, f"{title}, in the last epoch")


def _first_order(runs: Sequence[Run], names: Sequence[str]) -> Chart | None:
    series, left_out = [], False
    for index, run in enumerate(runs):
        known = [(step.step, step.predicted, step.real) for step in run.steps if step.predicted is not None and step.real is not None]
        if len(known) > MOST_STEPS:
            known, left_out = [known[n * len(known) // MOST_STEPS] for n in range(MOST_STEPS)], True
        series += [Series(index, [Point(p, r, f"{names[index]}, step {s}: predicted {plain(p)}, real {plain(r)}")]) for s, p, r in known]
    if not series:
        return None
    x = axis("predicted, nats", [one.points[0].x for one in series], _short)
    y = axis("real, nats", [one.points[0].y for one in series], _short)
    title = "Change of the retain loss by each step"
    note = f"{MOST_STEPS} steps of each run, at even distances." if left_out else None
    return draw("first-order", title, x, y, series, f"{title}: predicted to first order against real", note)


def _drift(runs: Sequence[Run], names: Sequence[str]) -> Chart | None:
    """Forward KL on the inject sample against everything forgotten, one point a run."""
    series, pairs = [], []
    for index, run in enumerate(runs):
        last = next((epoch.kl[INJECT][0] for epoch in reversed(run.epochs) if INJECT in epoch.kl), None)
        lost = figures(run).forgotten
        if last is not None and lost:
            count = sum(share.count for share in lost.values())
            pairs.append((last, float(count)))
            series.append(Series(index, [Point(last, count, f"{names[index]}: KL {plain(last)}, forgot {count}")]))
    if len(pairs) < ENOUGH:
        return None
    found = correlation([kl for kl, _ in pairs], [count for _, count in pairs])
    rank = "not defined" if found.spearman is None else f"{found.spearman:.2f}"
    if found.spearman_low is not None and found.spearman_high is not None:
        rank += f" (95% interval {found.spearman_low:.2f} to {found.spearman_high:.2f})"
    note = f"Rank correlation {rank}, n = {found.n} runs."
    x = axis("KL(start || end) on the inject questions, nats a token", [0.0, *(kl for kl, _ in pairs)], _short, start=0.0)
    y = axis("questions forgotten, all sets", [0.0, *(count for _, count in pairs)], plain, start=0.0)
    return draw("drift", "Drift from the start against forgetting", x, y, series, note, note)


def _short(value: float) -> str:
    return "0" if abs(value) < 1e-15 else f"{value:.2g}"
