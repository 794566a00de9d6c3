"""Successive halving: trials that are behind after a few epochs are stopped, through Optuna.

Only the first seed of each trial is ever stopped, never the seeds that follow. A trial whose first seed was stopped gets no further
seeds, nor does one that came to its end in the worse half of those that did (`behind`); the others get all. While they run, trials of a
data set and a method are compared in the plan's order by Optuna's asynchronous successive halving (Li et al., "A System for Massively
Parallel Hyperparameter Tuning", MLSys 2020): after 1, 2, 4, ... epochs a trial goes on if it is in the better half of those that came so
far before it. What is compared then is the share learned minus the share forgotten of the validation items of B and C (of A without
them). At the end it is what chooses a trial: what is forgotten at the highest level reached. Since later trials wait for the verdict on
earlier ones, the outcome does not depend on how many run at a time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from forgetless.comparison.cells import Cell
from forgetless.comparison.choice import Candidate, ranked
from forgetless.comparison.result import Curve
from forgetless.errors import InputError

REDUCTION = 2


def check_optuna() -> None:
    """Raise `InputError` where Optuna is not installed."""
    try:
        import optuna
    except ImportError as error:
        raise InputError("the package optuna is missing", where="--prune", mend="Run: pip install 'forgetless[optuna]'") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)


def groups(cells: Sequence[Cell]) -> list[list[Cell]]:
    """By data set and label the first seed of each trial, in order."""
    found: dict[tuple[str, str], dict[int, Cell]] = {}
    for cell in cells:
        found.setdefault((cell.data, cell.label), {}).setdefault(cell.trial, cell)
    return [list(trials.values()) for trials in found.values()]


def standing(curve: Curve) -> list[float]:
    """After each epoch: the share learned minus the mean share forgotten of B and C (of A without them)."""
    lost = [values for kind in ("B", "C") if (values := curve.kept[kind]) is not None] or [curve.kept["A"] or [0.0] * len(curve.learned)]
    return [learned - sum(values[index] for values in lost) / len(lost) for index, learned in enumerate(curve.learned)][1:]


def stopped(courses: Sequence[tuple[Sequence[float], bool]]) -> list[int | None]:
    """Of trials in order, the epoch after which each is stopped, or None; those after one that still runs are not judged yet.

    Args:
        courses: for each trial its values after each epoch so far, and whether it has ended.
    """
    import optuna

    pruner = optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=REDUCTION)
    study = optuna.create_study(direction="maximize", pruner=pruner)
    found: list[int | None] = []
    for values, ended in courses:
        trial, at = study.ask(), None
        for epoch, value in enumerate(values, 1):
            trial.report(value, epoch)
            if trial.should_prune():
                at = epoch
                break
        found.append(at)
        if at is None and not ended:
            break
        state = optuna.trial.TrialState
        study.tell(trial, state=state.PRUNED if at or not values else state.COMPLETE, values=None if at or not values else values[-1])
    return found + [None] * (len(courses) - len(found))


def behind(candidates: Sequence[Candidate]) -> set[int]:
    """Of the trials whose first seed came to its end the numbers of the worse half there, as `forgetless.comparison.choice` ranks them."""
    order = ranked(candidates)
    return set(order[-(-len(order) // REDUCTION) :])


def judge(trials: Sequence[Cell], curves: Mapping[str, Curve | None], rows: Mapping[str, Any]) -> dict[str, int]:
    """The cells of one group that are stopped, and after which epoch.

    Args:
        trials: a group of `groups`.
        curves: of each cell on validation items, so far; None where nothing was scored.
        rows: those of the cells that have ended.
    """
    courses = [(standing(curve) if (curve := curves[cell.id]) else [], cell.id in rows) for cell in trials]
    return {cell.id: at for cell, at in zip(trials, stopped(courses), strict=True) if at is not None}
