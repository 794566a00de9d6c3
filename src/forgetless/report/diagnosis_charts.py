"""The charts of a diagnosis."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from forgetless.report.charts import Axis, Chart, Point, Series, axis, draw
from forgetless.report.numbers import percent, plain, short

WORST, BEST = "most harmful", "least harmful"
_FLOOR = -1.0  # the lowest R² drawn


def layer_chart(report: Mapping[str, Any]) -> Chart:
    """The conflicting share of each layer."""
    rows = [row for row in report["conflict"]["by_layer"] if row["name"] != "outside"] or report["conflict"]["by_layer"]
    points = [
        Point(float(n), row["share"], f"layer {row['name']}: {100 * row['share']:.1f}% of {row['weights']:,} weights")
        for n, row in enumerate(rows)
    ]
    x = axis("layer", [0, len(rows) - 1], plain, whole=True, start=0, end=max(1, len(rows) - 1))
    y = axis("conflicting, % of weights", [point.y for point in points], lambda value: f"{100 * value:.1f}%")
    return draw(
        "conflict-by-layer",
        "Conflicting share by layer",
        x,
        y,
        [Series(0, points)],
        f"From {percent(min(p.y for p in points))} to {percent(max(p.y for p in points))}",
    )


def histogram_charts(report: Mapping[str, Any]) -> list[Chart]:
    """How many weights have a product of which size, and how much of the sum they carry, by powers of ten."""
    rows = [row for row in report["histogram"] if row["from"] > 0]
    if not rows:
        return []
    powers = [math.log10(row["from"]) for row in rows]
    charts = []
    for key, title, label in (
        ("", "Weights by size of |s|", "share of the weights"),
        ("_sum", "Who carries the sum of |s|", "share of the sum of |s|"),
    ):
        whole = math.fsum(row[f"below{key}"] + row[f"above{key}"] for row in rows)
        series = []
        for index, (side, name) in enumerate((("below", "conflicting"), ("above", "collaborative"))):
            values = [row[f"{side}{key}"] / whole for row in rows]
            points = [
                Point(p, v, f"{name}, |s| from {row['from']:g}: {percent(v)}") for p, v, row in zip(powers, values, rows, strict=True)
            ]
            series.append(Series(index, points))
        y = axis(label, [point.y for one in series for point in one.points], percent, start=0)
        id = "histogram-sums" if key else "histogram-counts"
        charts.append(draw(id, title, _powers("|s|, powers of ten", powers), y, series, f"{title}, by powers of ten"))
    return charts


def item_chart(report: Mapping[str, Any]) -> Chart:
    """The predicted change of the retain loss by rank."""
    items = report["items"]
    points = [
        Point(item["rank"], item["predicted_change"], f"{item['rank']}. {item['prompt']}: {plain(item['predicted_change'])}")
        for item in items
    ]
    x = axis("rank, the most harmful first", [1, len(items)], plain, whole=True, start=1, end=max(2, len(items)))
    y = axis("predicted change of the retain loss, nats", [0.0, *(point.y for point in points)], short)
    against = f"{report['against']} of {len(items)} above zero"
    return draw("harm-ranking", "What one step on each question does to the retain loss", x, y, [Series(0, points)], against)


def curve_charts(report: Mapping[str, Any]) -> list[tuple[Chart, list[str]]]:
    """R² by learning rate, and predicted against real change at the largest trustworthy rate, with the names of their series."""
    curve = {step: points for step, points in report["curve"].items() if points}
    if not curve:
        return []
    series = []
    for index, (step, points) in enumerate(curve.items()):
        known = [point for point in points if point["r2"] is not None]
        marks = [Point(math.log10(p["rate"]), max(p["r2"], _FLOOR), f"{step}, lr {p['rate']:g}: R² {plain(p['r2'])}") for p in known]
        series.append(Series(index, marks))
    rates = [math.log10(point["rate"]) for points in curve.values() for point in points]
    y = axis(f"R² (below {_FLOOR:g} drawn at {_FLOOR:g})", [_FLOOR, 1.0], plain, start=_FLOOR, end=1.0)
    trusted = ", ".join(f"{step} up to {'no rate' if rate is None else format(rate, 'g')}" for step, rate in report["trusted"].items())
    title = "Where the first-order story breaks"
    found = [
        (
            draw("curve", title, _powers("learning rate, powers of ten", rates), y, series, f"{title}: trustworthy for {trusted}"),
            list(curve),
        )
    ]
    return [*found, *(_scatter(step, points, report["trusted"].get(step)) for step, points in curve.items())]


def validation_charts(report: Mapping[str, Any]) -> list[tuple[Chart, list[str]]]:
    """Loss of the retain set after training on the two ends of the ranking, seed by seed."""
    found = []
    for optimizer, measures in report.get("validation", {}).get("compared", {}).items():
        row = measures["loss_change A"]
        series = [
            Series(n, [Point(seed, value, f"seed {seed}, {which}: {plain(value)}") for seed, value in enumerate(row[which]["values"])])
            for n, which in enumerate((WORST, BEST))
        ]
        values = [0.0, *(point.y for one in series for point in one.points)]
        x = axis("seed", [0, row["seeds"] - 1], plain, whole=True, start=0, end=max(1, row["seeds"] - 1))
        title = f"Retain loss after training by {optimizer}"
        summary = f"More after the most harmful questions in {row['more']} of {row['seeds']} seeds"
        chart = draw(f"validation-{optimizer}", title, x, axis("change of the retain loss, nats", values, short), series, summary)
        found.append((chart, [WORST, BEST]))
    return found


def drift_charts(report: Mapping[str, Any]) -> list[tuple[Chart, list[str]]]:
    """KL to the base against forgetting over runs, where there are any."""
    found = []
    for way, row in report.get("drift", {}).items():
        found.append(scatter_of_runs(f"drift-{way}", f"{way.capitalize()} KL against forgetting", row))
    return found


def scatter_of_runs(id: str, title: str, row: Mapping[str, Any]) -> tuple[Chart, list[str]]:
    """Runs as points; ``row`` is a correlation with ``points`` of ``{"kl", "forgotten", "optimizer"}``."""
    groups = list(dict.fromkeys(point["optimizer"] for point in row["points"]))
    series = [
        Series(
            groups.index(point["optimizer"]),
            [Point(point["kl"], point["forgotten"], f"{point['optimizer']}: KL {plain(point['kl'])}, forgot {point['forgotten']}")],
        )
        for point in row["points"]
    ]
    x = axis("KL to the base on the new task, nats a token", [0.0, *(p["kl"] for p in row["points"])], short, start=0)
    y = axis("questions forgotten", [0.0, *(p["forgotten"] for p in row["points"])], plain, start=0)
    rank = "not defined" if row["spearman"] is None else f"{row['spearman']:.2f}"
    if row["spearman_low"] is not None:
        rank += f" (95% interval {row['spearman_low']:.2f} to {row['spearman_high']:.2f})"
    note = f"Rank correlation {rank}, n = {row['n']}"
    return draw(id, title, x, y, series, note, note), groups


def _scatter(step: str, points: Sequence[Mapping[str, Any]], trusted: float | None) -> tuple[Chart, list[str]]:
    """Predicted (x) against real (y) at the largest trustworthy rate, or at the best one."""
    known = [point for point in points if point["r2"] is not None] or list(points)
    chosen = next((p for p in known if p["rate"] == trusted), max(known, key=lambda p: -math.inf if p["r2"] is None else p["r2"]))
    pairs = [(p, r) for p, r in zip(chosen["predicted"], chosen["real"], strict=True) if r is not None]
    series = [Series(0, [Point(p, r, f"predicted {plain(p)}, real {plain(r)}")]) for p, r in pairs]
    ends = [value for pair in pairs for value in pair] or [0.0]
    low, high = min(ends), max(ends)
    if high > low:
        series.append(Series(1, [Point(low, low, "as predicted"), Point(high, high, "as predicted")]))
    x, y = axis("predicted, nats", ends, short), axis("real, nats", ends, short)
    title = f"Predicted and real change, {step} at {chosen['rate']:g}"
    return draw(f"curve-{step}", title, x, y, series, f"{title}: R² {plain(chosen['r2'])}"), ["one step on one question", "as predicted"]


def _powers(label: str, values: Sequence[float]) -> Axis:
    return axis(label, values, lambda value: f"1e{value:g}", whole=True)
