"""The figures of a run, its label, and whether its files agree with each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from forgetless.report.numbers import Share
from forgetless.report.run import INJECT, INJECT_HELDOUT, RETAIN, RETAIN_HELDOUT, STANDARD_SPLITS, Epoch, Run, counts_before


@dataclass(frozen=True, slots=True)
class Figures:
    """What a run learned, forgot and cost. Shares count items wrong before (learned) or right before (forgotten)."""

    learned: Share | None
    learned_heldout: Share | None
    forgotten: dict[str, Share]  # by split: retain, retain-heldout, then each probe
    seconds: float | None
    eval_seconds: float | None
    peak_memory_bytes: int | None
    conflicting_fraction: float | None
    constraint_violation: float | None
    steps: int
    epochs: int
    stopped_because: str | None


def split_title(split: str) -> str:
    """What a split is called on the page."""
    return {
        INJECT: "new items",
        INJECT_HELDOUT: "held-out new items",
        RETAIN: "retained items",
        RETAIN_HELDOUT: "held-out, same kinds",
        "budget-probe": "the guard's probe",
    }.get(split, split)


def is_probe(split: str) -> bool:
    """Whether ``split`` is one the user named."""
    return split not in STANDARD_SPLITS


def learned_at(epochs: Sequence[Epoch], epoch: Epoch, split: str) -> Share | None:
    """Learned out of the items wrong at epoch 0, at ``epoch``."""
    start = _start(epochs, split)
    if start is None or split not in epoch.splits:
        return None
    total, right = start
    return Share(epoch.splits[split].learned, total - right)


def forgotten_at(epochs: Sequence[Epoch], epoch: Epoch, split: str) -> Share | None:
    """Forgotten out of the items right at epoch 0, at ``epoch``."""
    start = _start(epochs, split)
    if start is None or split not in epoch.splits:
        return None
    return Share(epoch.splits[split].forgotten, start[1])


def figures(run: Run) -> Figures:
    """The figures of ``run``: from its summary, or from its last epoch while it is unfinished."""
    summary = run.summary
    if summary is None:
        last = run.epochs[-1] if run.epochs else None
        forgotten = {split: forgotten_at(run.epochs, last, split) for split in (RETAIN, RETAIN_HELDOUT, *run.probes)} if last else {}
        shares = [step.conflicting_fraction for step in run.steps if step.conflicting_fraction is not None]
        return Figures(
            learned=learned_at(run.epochs, last, INJECT) if last else None,
            learned_heldout=learned_at(run.epochs, last, INJECT_HELDOUT) if last else None,
            forgotten={split: share for split, share in forgotten.items() if share is not None},
            seconds=run.steps[-1].seconds if run.steps else None,
            eval_seconds=None,
            peak_memory_bytes=None,
            conflicting_fraction=sum(shares) / len(shares) if shares else None,
            constraint_violation=None,
            steps=run.steps[-1].step if run.steps else 0,
            epochs=last.epoch if last else 0,
            stopped_because=None,
        )
    pairs = {
        RETAIN: _share(summary.forgotten, summary.retain_total),
        RETAIN_HELDOUT: _share(summary.forgotten_heldout, summary.retain_heldout_total),
        **{name: Share(probe.forgotten, _right_before(run, name, probe.total)) for name, probe in summary.probes.items()},
    }
    return Figures(
        learned=Share(summary.learned, summary.inject_total),
        learned_heldout=_share(summary.learned_heldout, summary.inject_heldout_total),
        forgotten={split: share for split, share in pairs.items() if share is not None},
        seconds=summary.seconds,
        eval_seconds=summary.eval_seconds,
        peak_memory_bytes=summary.peak_memory_bytes,
        conflicting_fraction=summary.conflicting_fraction,
        constraint_violation=summary.constraint_violation,
        steps=summary.steps,
        epochs=summary.epochs_run,
        stopped_because=summary.stopped_because,
    )


def left(run: Run, split: str) -> Share | None:
    """What a finished run left, which need not be what it had after its last epoch: learned of new items, forgotten of others."""
    if run.summary is None:
        return None
    found = figures(run)
    return {INJECT: found.learned, INJECT_HELDOUT: found.learned_heldout, **found.forgotten}.get(split)


def labels(runs: Sequence[Run]) -> list[str]:
    """A short distinct name for each run: its method, then its learning rate, its seed, its folder, a number."""
    rates: dict[str, set[object]] = {}
    for run in runs:
        rates.setdefault(run.method, set()).add(_rate(run))
    by_method = [f"{run.method} lr {run.config['lr']:g}" if _many_rates(rates[run.method]) else run.method for run in runs]
    by_seed = [
        name if by_method.count(name) == 1 or run.seed is None else f"{name} seed {run.seed}"
        for name, run in zip(by_method, runs, strict=True)
    ]
    by_folder = [
        name if by_seed.count(name) == 1 else f"{name} ({run.folder.resolve().name})" for name, run in zip(by_seed, runs, strict=True)
    ]
    return [name if by_folder.count(name) == 1 else f"{name} #{by_folder[:index].count(name) + 1}" for index, name in enumerate(by_folder)]


def _rate(run: Run) -> object:
    rate = run.config.get("lr")
    return rate if isinstance(rate, int | float) else None


def _many_rates(rates: set[object]) -> bool:
    return len(rates) > 1 and all(isinstance(rate, int | float) for rate in rates)


def disagreements(run: Run) -> list[str]:
    """Where ``summary.json`` and ``items.jsonl`` of a finished run count differently."""
    if run.summary is None or not run.items:
        return []
    found = figures(run)
    claimed = {
        (INJECT, "learned"): found.learned,
        (INJECT_HELDOUT, "learned"): found.learned_heldout,
        **{(split, "forgotten"): share for split, share in found.forgotten.items()},
    }
    problems = []
    for (split, change), share in claimed.items():
        if share is None:
            continue
        right_before = change == "forgotten"
        candidates = [item for item in run.items if item.split == split and item.before == right_before]
        counted = Share(sum(item.after != item.before for item in candidates), len(candidates))
        if counted != share:
            problems.append(f"summary.json says {share} {change} on {split}, but items.jsonl counts {counted}.")
    return problems


def _start(epochs: Sequence[Epoch], split: str) -> tuple[int, int] | None:
    count = counts_before(epochs).get(split)
    return None if count is None else (count.total, count.right)


def _right_before(run: Run, split: str, otherwise: int) -> int:
    start = _start(run.epochs, split)
    return otherwise if start is None else start[1]


def _share(count: int | None, total: int | None) -> Share | None:
    return None if count is None or total is None else Share(count, total)
