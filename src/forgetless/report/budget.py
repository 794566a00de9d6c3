"""The budget of a run: every look of its guard over time, the line that was allowed, and each act with its reason."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from forgetless.report.charts import Chart, Event, Frame, Point, Rule, Series, axis, draw
from forgetless.report.numbers import NONE, percent, plain
from forgetless.report.run import GuardAct, GuardLook, Run, Watched
from forgetless.report.tables import Table

FRAME = Frame(width=1000.0, height=280.0, left=54.0, right=20.0, top=20.0, bottom=46.0, text=13.0)
NARROW = Frame(height=260.0, top=18.0)


@dataclass(frozen=True, slots=True)
class BudgetView:
    """What the page shows of one run's budget; ``series`` names the series of its chart."""

    name: str
    verdict: str
    kept: bool | None
    chart: Chart
    narrow: Chart
    series: Sequence[str]
    table: Table
    acts: Table | None


def budget_views(runs: Sequence[Run], names: Sequence[str]) -> list[BudgetView]:
    """Of every run that a guard watched."""
    return [_view(run, run.watched, name, index) for index, (run, name) in enumerate(zip(runs, names, strict=True)) if run.watched]


def promise_sentence(run: Run, name: str) -> str | None:
    """Whether the budget was kept, in words; None where no promise was checked."""
    promise = run.summary.budget if run.summary else None
    if promise is None or promise.kept is None or promise.forgotten is None or promise.total is None:
        return None
    text = f"{name} {'kept' if promise.kept else 'broke'} its budget of {percent(promise.allowed)}: it forgot {promise.forgotten} of "
    text += f"{promise.total} items that neither the method nor the guard saw"
    if promise.total:
        text += f" ({percent(promise.forgotten / promise.total)}"
        if promise.upper is not None:
            text += f", at most {percent(promise.upper)} with {percent(promise.confidence or 0.95)} confidence"
        elif promise.low is not None and promise.high is not None:
            text += f", {percent(promise.confidence or 0.95)} interval {percent(promise.low)} to {percent(promise.high)}"
        text += ")"
    if promise.kept and promise.upper is not None and promise.upper > promise.allowed:
        text += "; that is too few items to exclude more"
    return text + "."


def _view(run: Run, watched: Watched, name: str, index: int) -> BudgetView:
    sentence = promise_sentence(run, name)
    allowed = percent(watched.allowed)
    verdict = sentence or f"{name}: at most {allowed} may be forgotten; the promise has not been checked yet."
    promise = run.summary.budget if run.summary else None
    wide, narrow = (_chart(watched, name, index, frame) for frame in (FRAME, NARROW))
    head = ["act", "step", "to what", "reason"]
    acts = Table(f"What the guard of {name} did, and why", head, _acts(watched.acts)) if watched.acts else None
    return BudgetView(name, verdict, promise.kept if promise else None, wide, narrow, SERIES, _looks(watched, name), acts)


SERIES = ("forgotten on the probe", "expected from the margins")


def _chart(watched: Watched, name: str, index: int, frame: Frame) -> Chart:
    last = max([look.step for look in watched.looks] + [act.step for act in watched.acts] + [1])
    looked = [
        Point(look.step, _share(look), f"step {look.step}: forgot {look.forgotten} of {look.total}", look.low, look.high)
        for look in watched.looks
    ]
    expected = [
        Point(look.step, look.expected, f"step {look.step}: {percent(look.expected)} expected from the margins")
        for look in watched.looks
        if look.expected is not None
    ]
    places: dict[int, list[int]] = {}
    for number, act in enumerate(watched.acts, 1):
        places.setdefault(act.step, []).append(number)
    events = [Event(step, str(numbers[0]) + ("" if len(numbers) == 1 else "+")) for step, numbers in places.items()]
    values = [p.y for p in (*looked, *expected)]
    top = max([2 * watched.allowed, *values])
    values += [min(4 * top, p.high) for p in looked if p.high is not None]
    x = axis("step", [], plain, whole=True, start=0.0, end=float(last))
    y = axis("forgotten, % of the guard's probe", [0.0, top, *values], percent, start=0.0)
    series = [Series(0, looked, band=True), Series(1, expected)]
    summary = f"What {name} had forgotten at each look of the guard; allowed: {percent(watched.allowed)}. "
    summary += f"{len(watched.looks)} looks, {len(watched.acts)} acts."
    shown = [one for one in series if one.points]
    note = "Band: exact 95% interval. Numbers: the acts in the table below"
    rule = Rule(watched.allowed, f"allowed {percent(watched.allowed)}")
    return draw(f"budget-{index}", f"The budget of {name}", x, y, shown, summary, note, frame=frame, rules=[rule], events=events)


def _share(look: GuardLook) -> float:
    return look.forgotten / look.total if look.total else 0.0


def _looks(watched: Watched, name: str) -> Table:
    rows = [
        [
            str(look.step),
            f"{look.forgotten} of {look.total}",
            percent(_share(look)),
            f"{percent(look.low)} to {percent(look.high)}",
            NONE if look.expected is None else percent(look.expected),
            NONE if look.good is None else "yes" if look.good else "no",
        ]
        for look in watched.looks
    ]
    head = ["step", "forgotten", "share", "95% interval", "expected", "within the budget"]
    return Table(f"Every look of the guard of {name}", head, rows)


def _acts(acts: Sequence[GuardAct]) -> list[list[str]]:
    return [[f"{number}. {act.act}", str(act.step), act.what, act.reason] for number, act in enumerate(acts, 1)]
