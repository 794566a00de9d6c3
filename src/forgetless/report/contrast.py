"""Two runs side by side: were they at equal learning, and did one forget more than the other beyond noise."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from forgetless.evaluation.paired import Paired, compare
from forgetless.report.figures import figures, forgotten_at, learned_at
from forgetless.report.numbers import Share
from forgetless.report.run import INJECT, RETAIN, RETAIN_HELDOUT, Run

MARGIN = 0.02  # two runs whose learned shares differ by no more than this are said to be at equal learning
SIGNIFICANT = 0.05  # a p-value from here on is called noise


@dataclass(frozen=True, slots=True)
class SplitContrast:
    """Forgetting of a run and its baseline on one split; ``test`` is None where they did not record the same items."""

    split: str
    run: Share
    baseline: Share
    test: Paired | None

    @property
    def p(self) -> float | None:
        """The exact McNemar p-value; None where the runs did not record the same items."""
        return None if self.test is None else self.test.p_value


@dataclass(frozen=True, slots=True)
class Match:
    """The epoch before its last at which the run that learned more (``leader``) came nearest to the other's learning."""

    leader: Run
    epoch: int
    learned: Share
    forgotten: Mapping[str, Share]
    equal: bool


@dataclass(frozen=True, slots=True)
class Contrast:
    """A finished run against a finished baseline. ``obstacle`` says why they cannot be compared at all."""

    run: Run
    baseline: Run
    learned: Share
    baseline_learned: Share
    splits: Sequence[SplitContrast]
    match: Match | None
    obstacle: str | None
    learning_p: float | None = None  # exact McNemar p-value of the difference in learning

    @property
    def gap(self) -> float:
        """Learned share of the run minus that of the baseline."""
        return (self.learned.share or 0) - (self.baseline_learned.share or 0)

    @property
    def equal(self) -> bool:
        """Whether both learned the same share, within the margin."""
        return abs(self.gap) <= MARGIN + 1e-9

    @property
    def learning_in_noise(self) -> bool:
        """Whether a difference in learning was tested and not proven (which does not prove it equal)."""
        return self.learning_p is not None and self.learning_p >= SIGNIFICANT

    @property
    def main(self) -> SplitContrast | None:
        """The split that decides: held-out items before in-set ones before the first probe."""
        by_name = {part.split: part for part in self.splits if part.run.total and part.baseline.total}
        return by_name.get(RETAIN_HELDOUT) or by_name.get(RETAIN) or next(iter(by_name.values()), None)


def baseline_of(run: Run, runs: Sequence[Run]) -> Run | None:
    """The run to hold ``run`` against: the strongest plain one (``none``), of the same seed where there is one; else the first.

    Of several plain runs (at several learning rates, say) the strongest is, among those that it can be compared with and that learned
    as much, the one that forgot least: on held-out items, then on retained ones. Not to have measured that is worse than any figure.
    """
    plain = [other for other in runs if other.method == "none"]
    if run.method == "none" and plain:
        return None
    rivals = [other for other in plain if other.seed == run.seed] or plain
    first = min(rivals, key=lambda rival: _strength(rival, run)) if rivals else next(iter(runs), None)
    return None if first is run else first


def _strength(rival: Run, run: Run) -> tuple[bool, bool, float, float]:
    mine, theirs = figures(run), figures(rival)
    learned = [(found.learned.share if found.learned else None) or 0.0 for found in (mine, theirs)]
    shares = [share.share if share is not None else None for share in map(theirs.forgotten.get, (RETAIN_HELDOUT, RETAIN))]
    heldout, retained = (math.inf if share is None else share for share in shares)
    return obstacle_of(run, rival) is not None, learned[1] < learned[0] - MARGIN, heldout, retained


def contrast(run: Run, baseline: Run | None) -> Contrast | None:
    """``run`` against ``baseline``; None without a baseline or before either was scored."""
    if baseline is None:
        return None
    mine, theirs = figures(run), figures(baseline)
    if mine.learned is None or theirs.learned is None:
        return None
    shared = [split for split in mine.forgotten if split in theirs.forgotten]
    parts = [SplitContrast(split, mine.forgotten[split], theirs.forgotten[split], paired(run, baseline, split)) for split in shared]
    learning = paired(run, baseline, INJECT, before=False)
    p, obstacle = learning.p_value if learning else None, obstacle_of(run, baseline)
    found = Contrast(run, baseline, mine.learned, theirs.learned, parts, None, obstacle, p)
    if found.equal or found.obstacle:
        return found
    leader, goal = (run, theirs.learned) if found.gap > 0 else (baseline, mine.learned)
    return replace(found, match=_match(leader, goal, shared))


def paired(run: Run, baseline: Run, split: str, *, before: bool = True) -> Paired | None:
    """``run`` against ``baseline`` over the items both had right (or, with ``before=False``, wrong) before training.

    The difference is that of the share right after training. None unless those are the same items in both.
    """
    mine, theirs = _after(run, split, before), _after(baseline, split, before)
    if not mine or mine.keys() != theirs.keys():
        return None
    return compare(list(theirs.values()), [mine[key] for key in theirs])


def _after(run: Run, split: str, before: bool) -> dict[tuple[str, str], bool]:
    return {(item.id, item.prompt): item.after for item in run.items if item.split == split and item.before == before}


def obstacle_of(run: Run, baseline: Run) -> str | None:
    """Why two runs cannot be compared at all; None where they can."""
    if run.model != baseline.model:
        return f"they trained different models ({run.model} and {baseline.model})"
    mine = {(item.id, item.prompt) for item in run.items if item.split == INJECT}
    theirs = {(item.id, item.prompt) for item in baseline.items if item.split == INJECT}
    if mine and theirs and mine != theirs:
        return "they learned different items"
    new, baseline_new = figures(run).learned, figures(baseline).learned
    if new and baseline_new and new.total != baseline_new.total:
        return f"{new.total} items were new to one and {baseline_new.total} to the other"
    return None


def _match(leader: Run, goal: Share, splits: Sequence[str]) -> Match | None:
    candidates = []
    for epoch in leader.epochs[1:]:
        learned = learned_at(leader.epochs, epoch, INJECT)
        if learned is not None and learned.share is not None and goal.share is not None:
            candidates.append((abs(learned.share - goal.share), epoch, learned))
    if not candidates:
        return None
    distance, epoch, learned = min(candidates, key=lambda candidate: (candidate[0], candidate[1].epoch))
    if epoch is leader.epochs[-1]:
        return None
    lost = {split: forgotten_at(leader.epochs, epoch, split) for split in splits}
    known = {split: share for split, share in lost.items() if share is not None and share.total}
    return Match(leader, epoch.epoch, learned, known, distance <= MARGIN + 1e-9) if known else None
