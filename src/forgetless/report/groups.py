"""Runs that differ in the seed alone belong together: one colour, one row, a mean with its interval over seeds."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from forgetless.evaluation.paired import mean_interval
from forgetless.report.figures import Figures, figures
from forgetless.report.numbers import Share
from forgetless.report.run import Epoch, Run

MAY_DIFFER = {"seed", "versions", "git", "checkpoint_every", "tensorboard", "device", "files"}
"""Settings that do not part two runs."""


@dataclass(frozen=True, slots=True)
class Group:
    """Runs with the same settings but for the seed; ``places`` are their numbers on the page."""

    name: str
    runs: tuple[Run, ...]
    places: tuple[int, ...]

    @property
    def found(self) -> list[Figures]:
        """The figures of each run."""
        return [figures(run) for run in self.runs]


@dataclass(frozen=True, slots=True)
class Level:
    """A share with its 95% interval: of one run, exact over items (``share`` counts them); of ``n`` runs, bootstrap over seeds."""

    mean: float
    low: float
    high: float
    n: int
    share: Share | None = None


def grouped(runs: Sequence[Run], names: Sequence[str]) -> list[Group]:
    """The groups in the order of their first runs; ``names`` are the labels of the runs."""
    together: dict[str, list[int]] = {}
    for place, run in enumerate(runs):
        together.setdefault(_identity(run), []).append(place)
    parted: list[list[int]] = []
    for places in together.values():
        seeds = [runs[place].seed for place in places]
        alone = len(set(seeds)) < len(seeds) or None in seeds
        parted += [[place] for place in places] if alone else [places]
    parted.sort(key=lambda places: places[0])
    found = [names[places[0]] if len(places) == 1 else _shared([names[place] for place in places]) for places in parted]
    return [Group(name, tuple(runs[place] for place in places), tuple(places)) for name, places in zip(found, parted, strict=True)]


def group_of(groups: Sequence[Group]) -> dict[int, int]:
    """The number of the group of each run."""
    return {place: index for index, group in enumerate(groups) for place in group.places}


def level(shares: Iterable[Share | None]) -> Level | None:
    """The mean of the shares of those runs that have one; None where none has."""
    found = [share for share in shares if share is not None and share.share is not None]
    if not found:
        return None
    values = [share.count / share.total for share in found]
    if len(found) == 1:
        low, high = found[0].interval or (values[0], values[0])
        return Level(values[0], low, high, 1, found[0])
    return Level(*mean_interval(values), n=len(values))


def at_epoch(run: Run, epoch: int, count: Callable[[Sequence[Epoch], Epoch, str], Share | None], split: str) -> Share | None:
    """A share of a run after ``epoch``; a run that had stopped by then stands as it stopped."""
    past = [one for one in run.epochs if one.epoch <= epoch]
    return count(run.epochs, past[-1], split) if past else None


def averaged(runs: Sequence[Run], read: Callable[[Run], Mapping[int, float]]) -> list[tuple[int, float]]:
    """The mean over those runs that have it, by step or epoch or layer."""
    values: dict[int, list[float]] = {}
    for run in runs:
        for key, value in read(run).items():
            values.setdefault(key, []).append(value)
    return [(key, sum(own) / len(own)) for key, own in sorted(values.items())]


def _identity(run: Run) -> str:
    told: dict[str, Any] = {key: value for key, value in run.config.items() if key not in MAY_DIFFER}
    return json.dumps(told | {"method": run.method, "model": run.model}, sort_keys=True, default=str)


def _shared(names: Sequence[str]) -> str:
    """``cpl seed 0`` and ``cpl seed 1`` are ``cpl``."""
    return names[0].rsplit(" seed ", 1)[0]
