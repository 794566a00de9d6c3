"""The charts of a comparison: frontier, trajectories, differences to the baselines, quality beside cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from forgetless.report.charts import SMALL, WIDE, Axis, Chart, Event, Frame, Point, Series, axis, categories, draw
from forgetless.report.comparison_tables import setup
from forgetless.report.comparison_words import KINDS, chosen_trial
from forgetless.report.numbers import MINUS, duration, memory, percent, plain, points
from forgetless.report.trajectories import ceiling, last_values

Entry = Mapping[str, Any]
NARROW = replace(SMALL, height=310.0)
WIDEST = 2.0
"""How far an axis of costs follows intervals: to so much of the largest mean."""


def frontier_charts(entries: Sequence[Entry], names: Sequence[str], place: int) -> list[tuple[Chart, Chart]]:
    """Learned against forgotten for every trial of every method: held out first, then other kinds, then the reference.

    A path is the mean over seeds by epoch, as far as all of them came; its end has the interval over seeds both ways. The chosen trial
    is drawn strong, the others thin.
    """
    found = []
    for kind, title in KINDS.items():
        series = _paths(entries, names, kind)
        if not series:
            continue
        values = [value for one in series for p in one.points for value in (p.y, p.high or 0.0)]
        x = axis("learned, % of new items", [0.0, 1.0], percent, start=0.0, end=1.0)
        y = axis("forgotten, % of items", values, percent, start=0.0, end=ceiling(values))
        name = f"Learned against forgotten: {title}"
        summary = last_values(name, [one for one in series if not one.faint] or series)
        note = "Strong: the trial chosen for each method; thin: its other trials"
        beside = {names.index(entry["label"]): entry["label"] for entry in entries}
        charts = [
            draw(f"frontier-{kind}-{place}", name, x, y, series, summary, note, frame=frame, names=beside if frame is WIDE else None)
            for frame in (WIDE, NARROW)
        ]
        found.append((charts[0], charts[1]))
    return found


def trajectory_charts(entries: Sequence[Entry], names: Sequence[str], place: int) -> list[Chart]:
    """The chosen trials by epoch: learned, and forgotten of each kind."""
    charts = []
    ends = [point["epoch"] for entry in entries if (trial := chosen_trial(entry)) for point in trial["trajectory"]]
    x = axis("epoch (0 = before training)", [], plain, whole=True, start=0.0, end=float(max(ends, default=1)))
    for key, title in {"learned": "Learned: new items", **{kind: f"Forgotten: {words}" for kind, words in KINDS.items()}}.items():
        series = []
        for entry in entries:
            trial = chosen_trial(entry)
            pairs = [(p["epoch"], p[key]) for p in trial["trajectory"] if p[key] is not None] if trial else []
            marks = [Point(at, value, f"{entry['label']}, epoch {at}: {percent(value)}") for at, value in pairs]
            if marks:
                series.append(Series(names.index(entry["label"]), marks))
        if series:
            values = [point.y for one in series for point in one.points]
            label = "learned, % of items" if key == "learned" else "forgotten, % of items"
            y = axis(label, values, percent, start=0.0, end=1.0 if key == "learned" else ceiling(values))
            charts.append(
                draw(f"by-epoch-{key}-{place}", title, x, y, series, last_values(title, series), "Means over the seeds that came so far")
            )
    return charts


def against_charts(entries: Sequence[Entry], names: Sequence[str], baselines: Sequence[str], level: str | None, place: int) -> list[Chart]:
    """The difference of every method to each baseline in what was forgotten, with its interval; one chart a baseline."""
    charts = []
    for number, baseline in enumerate(baselines):
        own = [entry for entry in entries if baseline in entry["against"]]
        if level is None or not own:
            continue
        kind = next((kind for kind in KINDS if any(e["against"][baseline]["at"][level][kind]["difference"] is not None for e in own)), None)
        if kind is None:
            continue
        series = []
        for row, entry in enumerate(own):
            one = entry["against"][baseline]["at"][level][kind]
            if one["difference"] is not None:
                tip = f"{entry['label']} against {baseline}: {points(one['difference'])} points"
                mark = Point(one["difference"], float(-row), tip, x_low=one["low"], x_high=one["high"])
                series.append(Series(names.index(entry["label"]), [mark], joined=False))
        values = [v for one in series for p in one.points for v in (p.x, p.x_low, p.x_high) if v is not None]
        inside = [min(max(value, -1.0), 1.0) for value in values]  # over few seeds an interval can be wider than any difference
        x = axis(f"forgotten minus that of {baseline}, points", [0.0, *inside], _whole_points)
        frame = Frame(width=480.0, height=70.0 + 32.0 * len(own), left=132.0, right=26.0, bottom=48.0, text=14.0)
        title = f"Against {baseline}: {KINDS[kind]} at {percent(float(level))} learned"
        note = "Left of zero forgets less. 95% intervals over seeds"
        drawn = draw(
            f"against-{number}-{place}",
            title,
            x,
            _named(own),
            series,
            last_values(title, series),
            note,
            frame=frame,
            events=[Event(0.0, "")],
        )
        charts.append(drawn)
    return charts


def cost_charts(entries: Sequence[Entry], names: Sequence[str], level: str | None, place: int) -> list[Chart]:
    """What was forgotten beside seconds and beside memory: the chosen trials, at the level where that is compared, else at the end."""
    trials = [(entry, trial) for entry in entries if (trial := chosen_trial(entry))]
    kind = next((kind for kind in KINDS if any((trial["at"][level] if level else trial["final"])[kind] for _, trial in trials)), None)
    charts: list[Chart] = []
    if kind is None:
        return charts
    at = f" at {percent(float(level))} learned" if level else ""
    for key, title, label in (("seconds", "Time", "training time"), ("peak_memory_bytes", "Memory", "peak memory")):
        series = []
        for entry, trial in trials:
            spent = trial["at"][level]["seconds"] if level and key == "seconds" else trial[key]
            lost = (trial["at"][level] if level else trial["final"])[kind]
            if spent and lost:
                tip = f"{entry['label']}: forgot {percent(lost['mean'])}, {_cost(key, spent['mean'])}"
                mark = Point(spent["mean"], lost["mean"], tip, lost["low"], lost["high"], spent["low"], spent["high"])
                series.append(Series(names.index(entry["label"]), [mark], joined=False))
        if not series:
            continue
        marks = [point for one in series for point in one.points]
        most = max(p.x for p in marks)
        ends = [0.0, *(min(p.x_high or p.x, WIDEST * most) for p in marks)]
        x = axis(label + (at if key == "seconds" else ""), ends, duration if key == "seconds" else memory, start=0.0)
        y = axis(f"forgotten{at}, % of {KINDS[kind]}", [v for p in marks for v in (p.y, p.high or 0.0)], percent, start=0.0)
        name = f"{title} beside forgetting"
        charts.append(draw(f"cost-{key}-{place}", name, x, y, series, last_values(name, series), "Left and low is best"))
    return charts


def _named(entries: Sequence[Entry]) -> Axis:
    labels = [entry["label"] for entry in entries]
    return categories("", [label if len(label) <= 16 else f"{label[:15]}…" for label in labels])


def _paths(entries: Sequence[Entry], names: Sequence[str], kind: str) -> list[Series]:
    series = []
    for entry in entries:
        chosen = chosen_trial(entry)
        for trial in sorted(entry["trials"], key=lambda trial: trial is chosen):
            learned, lost = trial["final"]["learned"], trial["final"][kind]
            if not learned or not lost:
                continue
            name = f"{entry['label']}, {setup(trial)}"
            whole = [point for point in trial["trajectory"] if point["n"] == len(trial["seeds"]) and point[kind] is not None]
            marks = [
                Point(p["learned"], p[kind], f"{name}, epoch {p['epoch']}: learned {percent(p['learned'])}, forgot {percent(p[kind])}")
                for p in whole[:-1]
            ]
            tip = f"{name}, at the end: learned {percent(learned['mean'])}, forgot {percent(lost['mean'])}"
            marks.append(Point(learned["mean"], lost["mean"], tip, lost["low"], lost["high"], learned["low"], learned["high"]))
            series.append(Series(names.index(entry["label"]), marks, faint=trial is not chosen))
    return series


def _cost(key: str, value: float) -> str:
    return duration(value) if key == "seconds" else memory(value)


def _whole_points(value: float) -> str:
    return f"{100 * value:+.3g}".replace("-", MINUS) if abs(value) > 1e-9 else "0"
