"""The verdict where methods ran with several seeds: means over seeds, and differences paired by seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from forgetless.evaluation.paired import EQUAL, seed_interval
from forgetless.report.contrast import MARGIN, SIGNIFICANT, obstacle_of
from forgetless.report.figures import figures
from forgetless.report.groups import Group
from forgetless.report.numbers import p_value, percent, points
from forgetless.report.run import Run
from forgetless.report.trajectories import kept_splits, main_split


@dataclass(frozen=True, slots=True)
class Difference:
    """A group against its baseline: means over the seeds of each, and the difference in forgetting over their ``n`` common seeds.

    ``p`` is of the two-sided paired t-test; None with one common seed, or where all differences are equal.
    """

    group: Group
    baseline: Group
    learned: tuple[float, float]
    forgotten: tuple[float, float]
    difference: float
    low: float
    high: float
    p: float | None
    n: int

    @property
    def equal(self) -> bool:
        """Whether both learned the same share, within the margin."""
        return abs(self.learned[0] - self.learned[1]) <= MARGIN + 1e-9

    @property
    def certain(self) -> bool:
        """Whether the difference is more than noise between seeds."""
        return self.p is not None and self.p < SIGNIFICANT

    @property
    def outcome(self) -> str:
        """What happened, in words."""
        more = "and learned more" if self.learned[0] > self.learned[1] else "and learned less"
        learning = "at equal learning" if self.equal else more
        if not self.certain:
            return f"showed no proven difference in forgetting, {learning}"
        return f"forgot {'less' if self.difference < 0 else 'more'}{'' if self.equal else ','} {learning}"

    def sentence(self, on: str) -> str:
        """The difference with its figures; ``on``: of what was forgotten."""
        test = f", {p_value(self.p)}" if self.p is not None else ""
        return (
            f"{self.group.name} {self.outcome} against {self.baseline.name}: learned {percent(self.learned[0])} against "
            f"{percent(self.learned[1])}, forgot {percent(self.forgotten[0])} against {percent(self.forgotten[1])} of {on} "
            f"({points(self.difference)} points, 95% interval {points(self.low)} to {points(self.high)} over {self.n} common seeds{test})."
        )


def over_seeds(groups: Sequence[Group]) -> tuple[str, list[Difference]] | None:
    """The split that decides, and each group against its baseline; None unless two groups have seeds in common, two or more."""
    splits = kept_splits(groups)
    split = main_split(splits)
    if split is None or not any(len(group.runs) > 1 for group in groups):
        return None
    plain = [group for group in groups if group.runs[0].method == "none"]
    found = []
    for group in groups:
        rivals = [other for other in plain or list(groups)[:1] if other is not group]
        if group in plain:
            continue
        differences = [one for rival in rivals if (one := _difference(group, rival, split)) is not None]
        best = min(differences, key=lambda one: _strength(one.baseline, one.group, split), default=None)
        found += [best] if best is not None and best.n > 1 else []
    return (split, found) if found else None


def headline(on: str, found: Sequence[Difference]) -> str:
    """One sentence on all differences; ``on``: of what was forgotten."""
    if len(found) == 1:
        return found[0].sentence(on)
    groups: dict[str, list[str]] = {}
    for one in found:
        groups.setdefault(one.outcome, []).append(one.group.name)
    bases = " and ".join(dict.fromkeys(one.baseline.name for one in found))
    n = {one.n for one in found}
    seeds = f"{n.pop()} seeds" if len(n) == 1 else "several seeds"
    return f"Against {bases} ({on}, {seeds}): " + "; ".join(f"{', '.join(names)} {what}" for what, names in groups.items()) + "."


def _shares(group: Group, split: str) -> dict[int, tuple[float, float]]:
    """Learned and forgotten by seed, of the finished runs that measured both."""
    found = {}
    for run in group.runs:
        pair = _pair(run, split)
        if pair is not None and run.seed is not None:
            found[run.seed] = pair
    return found


def _pair(run: Run, split: str) -> tuple[float, float] | None:
    own = figures(run)
    lost = own.forgotten.get(split)
    if not run.finished or own.learned is None or own.learned.share is None or lost is None or lost.share is None:
        return None
    return own.learned.share, lost.share


def _strength(rival: Group, group: Group, split: str) -> tuple[bool, float]:
    mine, theirs = (list(_shares(one, split).values()) for one in (group, rival))
    if not mine or not theirs:
        return True, 1.0
    return _mean([pair[0] for pair in theirs]) < _mean([pair[0] for pair in mine]) - MARGIN, _mean([pair[1] for pair in theirs])


def _difference(group: Group, baseline: Group, split: str) -> Difference | None:
    """Over the seeds whose two runs can be compared; None where there are none."""
    mine, theirs = _shares(group, split), _shares(baseline, split)
    by_seed, rivals = ({run.seed: run for run in one.runs} for one in (group, baseline))
    common = [seed for seed in mine if seed in theirs and obstacle_of(by_seed[seed], rivals[seed]) is None]
    if not common:
        return None
    learned, forgotten = ((_mean([own[seed][place] for seed in common]) for own in (mine, theirs)) for place in (0, 1))
    gaps = [mine[seed][1] - theirs[seed][1] for seed in common]
    mean, low, high = seed_interval(gaps) if len(gaps) > 1 else (gaps[0], gaps[0], gaps[0])
    (one, two), (lost, kept) = tuple(learned), tuple(forgotten)
    return Difference(group, baseline, (one, two), (lost, kept), mean, low, high, _paired_p(gaps), len(common))


def _paired_p(gaps: Sequence[float]) -> float | None:
    from scipy.stats import ttest_1samp

    if len(gaps) < 2 or max(gaps) - min(gaps) <= EQUAL:
        return None
    return float(ttest_1samp(gaps, 0.0).pvalue)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
