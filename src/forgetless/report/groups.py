"""Runs that differ in the seed alone belong together: one colour, one row, a mean with its interval over seeds."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

from forgetless.evaluation.paired import seed_interval
from forgetless.report.figures import Figures, figures, left
from forgetless.report.numbers import Share
from forgetless.report.reproduce import settings
from forgetless.report.run import Epoch, Run

_NUMBERS = re.compile(r"(\d+)")
MAY_DIFFER = {"seed", "versions", "git", "checkpoint_every", "tensorboard", "device"}
"""Settings that do not part two runs; files do, unless their names differ in the seed alone."""


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
    """A share with its 95% interval: of one run, exact over items (``share`` counts them); of ``n`` runs, Student-t over seeds."""

    mean: float
    low: float
    high: float
    n: int
    share: Share | None = None


def grouped(runs: Sequence[Run], names: Sequence[str]) -> list[Group]:
    """The groups in the order of their first runs; ``names`` are the labels of the runs."""
    parted: list[list[int]] = []
    for places in _alike(runs):
        seeds = [runs[place].seed for place in places]
        alone = len(set(seeds)) < len(seeds) or None in seeds
        parted += [[place] for place in places] if alone else [places]
    parted.sort(key=lambda places: places[0])
    found = [names[places[0]] if len(places) == 1 else _shared([names[place] for place in places]) for places in parted]
    members = [tuple(runs[place] for place in places) for places in parted]
    return [Group(*one) for one in zip(_told_apart(found, members), members, map(tuple, parted), strict=True)]


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
    return Level(*seed_interval(values, least=0.0, most=1.0), n=len(values))


def at_epoch(run: Run, epoch: int, count: Callable[[Sequence[Epoch], Epoch, str], Share | None], split: str) -> Share | None:
    """A share of a run after ``epoch``; a run that had stopped by then stands as what it left."""
    past = [one for one in run.epochs if one.epoch <= epoch]
    if not past:
        return None
    end = left(run, split) if past[-1] is run.epochs[-1] else None
    return count(run.epochs, past[-1], split) if end is None else end


def averaged(runs: Sequence[Run], read: Callable[[Run], Mapping[int, float]]) -> list[tuple[int, float]]:
    """The mean over those runs that have it, by step or epoch or layer."""
    values: dict[int, list[float]] = {}
    for run in runs:
        for key, value in read(run).items():
            values.setdefault(key, []).append(value)
    return [(key, sum(own) / len(own)) for key, own in sorted(values.items())]


def _alike(runs: Sequence[Run]) -> list[list[int]]:
    """The places of the runs that have the same settings and were given the same questions, or those of their seeds."""
    found: list[tuple[str, list[int]]] = []
    for place, run in enumerate(runs):
        identity = _identity(run)
        own = (places for known, places in found if known == identity and _same_questions(runs[places[0]], run))
        if (places := next(own, None)) is None:
            found.append((identity, [place]))
        else:
            places.append(place)
    return [places for _, places in found]


def _identity(run: Run) -> str:
    told: dict[str, Any] = {key: value for key, value in run.config.items() if key not in MAY_DIFFER | {"files"}}
    return json.dumps(told | {"method": run.method, "model": run.model}, sort_keys=True, default=str)


def _same_questions(one: Run, other: Run) -> bool:
    """Whether the files of two runs have the same content, or the same names but for the seeds."""
    mine, theirs = _files(one), _files(other)
    return mine.keys() == theirs.keys() and all(_same_file(mine[split], theirs[split], (one.seed, other.seed)) for split in mine)


def _files(run: Run) -> dict[str, tuple[str, object]]:
    """Name and hash of each file."""
    files = run.config.get("files")
    given = files if isinstance(files, Mapping) else {}
    return {
        str(split): (str(file.get("path")), file.get("sha256")) if isinstance(file, Mapping) else (str(file), None)
        for split, file in given.items()
    }


def _same_file(one: tuple[str, object], other: tuple[str, object], seeds: tuple[int | None, int | None]) -> bool:
    """Whether two files, each a name and a hash, have one content, or names that differ in the seeds alone."""
    hashed = None not in (one[1], other[1])
    if one[0] == other[0] or (hashed and one[1] == other[1]):
        return not hashed or one[1] == other[1]
    parts = [_NUMBERS.split(name) for name, _ in (one, other)]
    return len(parts[0]) == len(parts[1]) and all(a == b or (a, b) == tuple(map(str, seeds)) for a, b in zip(*parts, strict=True))


def _shared(names: Sequence[str]) -> str:
    """``cpl seed 0`` and ``cpl seed 1`` are ``cpl``."""
    return names[0].split(" seed ", 1)[0]


def _told_apart(names: Sequence[str], groups: Sequence[Sequence[Run]]) -> list[str]:
    """The names of groups, each of those that are called alike with the settings in which these differ: ``cpl refresh=4``; or a number."""
    found = list(names)
    for name in dict.fromkeys(names):
        places = [place for place, own in enumerate(names) if own == name]
        if len(places) > 1:
            for place, told in zip(places, _differing([groups[place] for place in places]), strict=True):
                found[place] = " ".join([name, *told])
    return [name if found.count(name) == 1 else f"{name} #{found[:place].count(name) + 1}" for place, name in enumerate(found)]


def _differing(groups: Sequence[Sequence[Run]]) -> list[list[str]]:
    """The settings in which groups differ, of their files the first, as ``name=value``; those that a group does not have are left out."""
    columns = [_settings(runs) for runs in groups]
    keys = [key for key in dict.fromkeys(key for one in columns for key in one) if len({one.get(key) for one in columns}) > 1]
    files = [key for key in keys if key.startswith("files.")]
    shown = [key for key in keys if key not in files[1:]]
    return [
        [f"{_short(key, runs[0].method)}={one[key]}" for key in shown if one.get(key, "null") != "null"]
        for one, runs in zip(columns, groups, strict=True)
    ]


def _settings(runs: Sequence[Run]) -> dict[str, str]:
    """The settings that part runs, of files their names; what differs in these are the seeds."""
    columns, seeds = [settings(run) for run in runs], tuple(str(run.seed) for run in runs)
    found = {}
    for key, value in columns[0].items():
        if key.split(".", 1)[0] in MAY_DIFFER or (key.startswith("files.") and not key.endswith(".path")):
            continue
        parts = zip_longest(*(_NUMBERS.split(one.get(key, value)) for one in columns), fillvalue="")
        found[key] = "".join("{seed}" if len(runs) > 1 and part == seeds else part[0] for part in parts)
    return found


def _short(key: str, method: str) -> str:
    key = key.removeprefix("method_args.").removeprefix(f"{method}.")
    return key.removeprefix("files.").removesuffix(".path") if key.startswith("files.") else key
