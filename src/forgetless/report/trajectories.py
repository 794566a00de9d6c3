"""Learned and forgotten by epoch, and one against the other: the charts that the page opens with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from forgetless.report.charts import SMALL, WIDE, Chart, Frame, Point, Series, axis, draw
from forgetless.report.figures import forgotten_at, is_probe, learned_at, left, split_title
from forgetless.report.groups import Group, Level, at_epoch, level
from forgetless.report.numbers import Share, duration, percent, plain
from forgetless.report.run import INJECT, INJECT_HELDOUT, RETAIN, RETAIN_HELDOUT, Epoch, Run
from forgetless.report.tables import Table

Count = Callable[[Sequence[Epoch], Epoch, str], Share | None]
END = "at the end"


def kept_splits(groups: Sequence[Group]) -> list[str]:
    """The splits on which forgetting is measured in any run: retain, retain-heldout, then the probes."""
    measured = {split for group in groups for found in group.found for split in found.forgotten}
    probes = [name for group in groups for run in group.runs for name in run.probes]
    return [split for split in dict.fromkeys([RETAIN, RETAIN_HELDOUT, *probes]) if split in measured]


def main_split(splits: Sequence[str]) -> str | None:
    """The split that decides: held-out items before in-set ones before the first probe."""
    return next((split for split in (RETAIN_HELDOUT, RETAIN) if split in splits), splits[0] if splits else None)


def epoch_charts(groups: Sequence[Group]) -> list[Chart]:
    """Learned and forgotten by epoch: one chart a split; the forgetting charts share one scale."""
    last = max((epoch.epoch for group in groups for run in group.runs for epoch in run.epochs), default=1)
    x = axis("epoch (0 = before training)", [], plain, whole=True, start=0.0, end=float(last))
    charts = []
    for change, splits, count in (("learned", (INJECT, INJECT_HELDOUT), learned_at), ("forgotten", kept_splits(groups), forgotten_at)):
        by_split = {split: _by_epoch(groups, split, count, change) for split in splits}
        values = [value for series in by_split.values() for one in series for p in one.points for value in (p.y, p.high or 0.0)]
        y = axis(f"{change}, % of items", values, percent, start=0.0, end=ceiling(values))
        for split, series in by_split.items():
            if series:
                title = f"{change.capitalize()}: {split_title(split)}"
                charts.append(draw(f"{change}-{split}", title, x, y, series, last_values(title, series), _seeds(groups)))
    return charts


def frontier_charts(groups: Sequence[Group]) -> list[tuple[Chart, Chart]]:
    """Learned (x) against forgotten (y), one chart a kept split, that which decides first; each wide and narrow."""
    splits = kept_splits(groups)
    by_split = {split: paths for split in splits if (paths := _paths(groups, split))}
    values = [v for series in by_split.values() for one in series for p in one.points for v in (p.y, p.high or 0.0)]
    x = axis("learned, % of new items", [0.0, 1.0], percent, start=0.0, end=1.0)
    y = axis("forgotten, % of items", values, percent, start=0.0, end=ceiling(values))
    names = {index: group.name for index, group in enumerate(groups)}

    def drawn(split: str, frame: Frame) -> Chart:
        title = ("Probe: " if is_probe(split) else "") + split_title(split)
        summary = last_values(f"Learned against forgotten, {split_title(split)}", [one for one in by_split[split] if not one.faint])
        hero = split == main_split(splits)
        title = f"Learned against forgotten: {title}" if hero else title
        return draw(f"frontier-{split}", title, x, y, by_split[split], summary, frame=frame, names=names if frame is WIDE else None)

    order = sorted(by_split, key=lambda split: split != main_split(splits))
    return [(drawn(split, WIDE), drawn(split, replace(SMALL, height=300.0))) for split in order]


def epoch_table(runs: Sequence[Run], names: Sequence[str]) -> Table:
    """Every split of every epoch of every run, in items."""
    splits = list(dict.fromkeys(split for run in runs for epoch in run.epochs for split in epoch.splits))
    rows = []
    for run, name in zip(runs, names, strict=True):
        for epoch in run.epochs:
            cells = [name, str(epoch.epoch), str(epoch.step), duration(epoch.seconds)]
            for split in splits:
                count = epoch.splits.get(split)
                cells += ["", "", ""] if count is None else [f"{count.right} of {count.total}", str(count.learned), str(count.forgotten)]
            rows.append(cells)
    head = ["run", "epoch", "step", "time"] + [f"{split}: {what}" for split in splits for what in ("right", "learned", "forgotten")]
    return Table("Every epoch of every run, in items", head, rows)


def frontier_table(runs: Sequence[Run], names: Sequence[str], splits: Sequence[str]) -> Table:
    """Learned and forgotten shares of every epoch of every run, and of what it left where that is not what its last epoch was."""
    rows = []
    for run, name in zip(runs, names, strict=True):
        course = [
            (str(epoch.epoch), [learned_at(run.epochs, epoch, INJECT), *(forgotten_at(run.epochs, epoch, split) for split in splits)])
            for epoch in run.epochs
        ]
        ends = [left(run, split) for split in (INJECT, *splits)]
        if any(ends) and [shares for _, shares in course[-1:]] != [ends]:
            course.append((END, ends))
        for when, shares in course:
            rows.append([name, when, *("" if share is None else f"{share} ({percent(share.share)})" for share in shares)])
    head = ["run", "epoch", "learned", *(f"forgotten, {split_title(split)}" for split in splits)]
    return Table("Learned against forgotten by epoch", head, rows)


def last_values(title: str, series: Sequence[Series]) -> str:
    """What a chart shows, in words: where each series ends."""
    return f"{title}. Last values: " + "; ".join(one.points[-1].tip for one in series) + "."


def ceiling(values: Sequence[float]) -> float | None:
    """The end of an axis of shares: 100% where it is near, else what the values need, and never below 10%."""
    top = max(values, default=0.0)
    return 1.0 if top > 0.6 else 0.1 if top < 0.1 else None


def told(found: Level) -> str:
    """A share in words, with the count or the number of seeds."""
    return f"{found.share} ({percent(found.mean)})" if found.share else f"{percent(found.mean)} (mean of {found.n} seeds)"


def _seeds(groups: Sequence[Group]) -> str | None:
    most = max((len(group.runs) for group in groups), default=1)
    return f"Mean of up to {most} seeds with its 95% interval; a run that stopped counts as it stopped" if most > 1 else None


def _by_epoch(groups: Sequence[Group], split: str, count: Count, change: str) -> list[Series]:
    """A line by epoch for each group, over its runs that came to measure the split, where all of these did; it ends at what they left."""
    series = []
    for index, group in enumerate(groups):
        points, runs = [], [run for run in group.runs if run.epochs and at_epoch(run, run.epochs[-1].epoch, count, split)]
        scored = [count(run.epochs, run.epochs[-1], split) for run in runs]
        epochs = sorted({epoch.epoch for run in runs for epoch in run.epochs})
        for epoch in epochs:
            shares = [at_epoch(run, epoch, count, split) for run in runs]
            found = None if None in shares else level(shares)
            if found is not None:
                when = f"epoch {epoch}" if epoch < epochs[-1] or shares == scored else END
                tip = f"{group.name}, {when}: {change} {told(found)}"
                low, high = (found.low, found.high) if found.n > 1 else (None, None)
                points.append(Point(epoch, found.mean, tip, low, high))
        if points:
            series.append(Series(index, points, band=True))
    return series


def _paths(groups: Sequence[Group], split: str) -> list[Series]:
    """A path by epoch for each run; where a group has several, faint ones and the mean of their ends with both intervals."""
    series = []
    for index, group in enumerate(groups):
        many = len(group.runs) > 1
        ends: list[tuple[Share, Share]] = []
        for run in group.runs:
            name = f"{group.name} seed {run.seed}" if many else group.name
            pairs = _course(run, split)
            if pairs:
                ends.append((pairs[-1][1], pairs[-1][2]))
                points = [_point(name, *pair, last=pair is pairs[-1] and not many) for pair in pairs]
                series.append(Series(index, points, faint=many))
        learned_level, lost_level = level(end[0] for end in ends), level(end[1] for end in ends)
        if many and learned_level and lost_level:
            tip = f"{group.name}, mean of {len(ends)} seeds: learned {percent(learned_level.mean)}, forgot {percent(lost_level.mean)}"
            x, y = learned_level, lost_level
            series.append(Series(index, [Point(x.mean, y.mean, tip, y.low, y.high, x.low, x.high)], joined=False))
    return series


def _course(run: Run, split: str) -> list[tuple[str, Share, Share]]:
    """Learned and forgotten after each epoch that measured both, then what the run left, unless its last epoch was that.

    Nothing where only epoch 0 is known, as of a run under a guard that is not finished.
    """
    course = [
        (f"epoch {epoch.epoch}", learned, lost)
        for epoch in run.epochs
        if (learned := learned_at(run.epochs, epoch, INJECT)) and (lost := forgotten_at(run.epochs, epoch, split))
        if learned.total and lost.total
    ]
    last, learned, lost = run.epochs[-1].epoch if run.epochs else None, left(run, INJECT), left(run, split)
    if learned and lost and learned.total and lost.total and course[-1:] != [(f"epoch {last}", learned, lost)]:
        course.append((END, learned, lost))
    return [] if [when for when, _, _ in course] == ["epoch 0"] else course


def _point(name: str, when: str, learned: Share, lost: Share, *, last: bool) -> Point:
    tip = f"{name}, {when}: learned {percent(learned.share)}, forgot {lost} ({percent(lost.share)})"
    low, high = (lost.interval if last else None) or (None, None)
    x_low, x_high = (learned.interval if last else None) or (None, None)
    return Point(learned.share or 0.0, lost.share or 0.0, tip, low, high, x_low, x_high)
