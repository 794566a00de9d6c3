"""The runs side by side: what was learned and forgotten beside what it cost, and the table of every figure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from forgetless.evaluation.paired import seed_interval
from forgetless.report.figures import Figures, split_title
from forgetless.report.groups import Group, level
from forgetless.report.numbers import NONE, Share, duration, memory, percent, plain
from forgetless.report.run import RETAIN, RETAIN_HELDOUT
from forgetless.report.tables import Cell, Head, Table
from forgetless.report.trajectories import kept_splits


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure of one run: its name for tests, the raw value, the words on the page, a smaller line under and a bold lead before them."""

    name: str
    value: str
    words: str
    small: str = ""
    lead: str = ""


@dataclass(frozen=True, slots=True)
class FigureRow:
    """One figure of every run, with its heading and what it means."""

    head: str
    note: str
    figures: Sequence[Figure]


def board(groups: Sequence[Group]) -> Table:
    """A row for each group: learned, forgotten, seconds, memory, each with a bar and its interval."""
    heldout = any(one.learned_heldout and one.learned_heldout.total for group in groups for one in group.found)
    splits = [split for split in kept_splits(groups) if any(s.total for g in groups for f in g.found if (s := f.forgotten.get(split)))]
    splits.sort(key=lambda split: split != RETAIN_HELDOUT)
    heads = ["Learned", *(["Learned, held out"] if heldout else []), *(_kept(split)[1] for split in splits), "Training time", "Peak memory"]
    rows: list[Sequence[str | Cell | Head]] = []
    most_time, most_memory = (max((value for group in groups for value in _costs(group, name)), default=0.0) for name in COSTS)
    for index, group in enumerate(groups):
        note = f"{len(group.runs)} seeds" if len(group.runs) > 1 else "" if group.runs[0].finished else "unfinished"
        cells = [shown("learned", "learned", [one.learned for one in group.found])]
        if heldout:
            cells.append(shown("learned_heldout", "learned", [one.learned_heldout for one in group.found]))
        cells += [shown(_kept(split)[0], "forgotten", [one.forgotten.get(split) for one in group.found]) for split in splits]
        cells += [_cost(group, name, most) for name, most in zip(COSTS, (most_time, most_memory), strict=True)]
        rows.append([Head(group.name, index, note), *cells])
    seeds = any(len(group.runs) > 1 for group in groups)
    caption = "Bars show the share; the bracket is its 95% interval, " + (
        "over seeds (Student-t) where there are several, else over items (exact)" if seeds else "over items (exact), not over seeds"
    )
    return Table(caption, ["", *heads], rows, "board")


COSTS = ("seconds", "peak_memory_bytes")


def shown(name: str, tone: str, shares: Sequence[Share | None]) -> Cell:
    """A share of some runs as a cell: the count of one, the mean of several."""
    found = level(shares)
    if found is None:
        return Cell(NONE)
    small = f"{found.share}\n" if found.share else ""
    return Cell(
        percent(found.mean),
        value=found.share.count if found.share else found.mean,
        small=f"{small}{percent(found.low)} to {percent(found.high)}",
        name=name,
        tone=tone,
        at=found.mean,
        span=(found.low, found.high),
    )


def _costs(group: Group, name: str) -> list[float]:
    return [float(value) for one in group.found if (value := getattr(one, name)) is not None]


def _cost(group: Group, name: str, most: float) -> Cell:
    values = _costs(group, name)
    if not values:
        return Cell(NONE)
    mean, low, high = seed_interval(values, least=0.0) if len(values) > 1 else (values[0], values[0], values[0])
    told = duration if name == "seconds" else memory
    small = f"{told(low)} to {told(high)}" if len(values) > 1 else ""
    return Cell(told(mean), values[0] if len(values) == 1 else mean, small, name, "cost", mean / most if most else None)


def figure_table(found: Sequence[Figures]) -> list[FigureRow]:
    """Every figure of every run."""

    def shares(name: str, head: str, note: str, read: Callable[[Figures], Share | None]) -> FigureRow:
        return FigureRow(head, note, [_share(name, read(one)) for one in found])

    def values(name: str, head: str, note: str, words: Callable[[Figures], str]) -> FigureRow:
        raw = [getattr(one, name) for one in found]
        return FigureRow(
            head, note, [Figure(name, "" if value is None else str(value), words(one)) for value, one in zip(raw, found, strict=True)]
        )

    rows = [shares("learned", "Learned", "new items: wrong before, right after", lambda one: one.learned)]
    if any(one.learned_heldout for one in found):
        rows.append(shares("learned_heldout", "Learned, held out", "new items it was not trained on", lambda one: one.learned_heldout))
    for split in dict.fromkeys(split for one in found for split in one.forgotten):
        name, head, note = _kept(split)
        rows.append(shares(name, head, note, lambda one, split=split: one.forgotten.get(split)))  # type: ignore[misc]
    return [
        *rows,
        values("seconds", "Training time", "without scoring", lambda one: duration(one.seconds)),
        values("eval_seconds", "Scoring time", "", lambda one: duration(one.eval_seconds)),
        values("peak_memory_bytes", "Peak memory", "", lambda one: memory(one.peak_memory_bytes)),
        values(
            "conflicting_fraction", "Conflicting share", "of parameters, mean over training", lambda one: percent(one.conflicting_fraction)
        ),
        values(
            "constraint_violation",
            "Constraint violation",
            "largest move of a frozen weight: 0 is the promise kept",
            lambda one: plain(one.constraint_violation),
        ),
        values("steps", "Steps", "", lambda one: f"{one.steps:,}"),
        values("epochs", "Epochs", "", lambda one: str(one.epochs)),
        values("stopped_because", "Stopped because", "", lambda one: (one.stopped_because or NONE).replace("_", " ")),
    ]


def _kept(split: str) -> tuple[str, str, str]:
    if split == RETAIN:
        return "forgotten", "Forgotten, in the reference", "retained items, which the method may use"
    if split == RETAIN_HELDOUT:
        return "forgotten_heldout", "Forgotten, held out", "items of the same kinds that no method saw"
    return f"probe:{split}", f"Forgotten, {split_title(split)}", "a probe"


def _share(name: str, share: Share | None) -> Figure:
    if share is None:
        return Figure(name, "", NONE, "not measured")
    low, high = share.interval or (None, None)
    return Figure(name, str(share.count), str(share), f"95%: {percent(low)} to {percent(high)}", percent(share.share))
