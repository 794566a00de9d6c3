"""Dividing labelled images into tasks: a stratified split into train and test, the classes of each task, and the network for them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn

from forgetless.core.options import whole
from forgetless.errors import InputError
from forgetless.streams.stream import ClassTask


def package(name: str, stream: str) -> Any:
    """Import a package of the ``streams`` extra when it is needed.

    Raises:
        InputError: if it is not installed.
    """
    try:
        return import_module(name)
    except ImportError as error:
        missing = (error.name or name).partition(".")[0]
        raise InputError(
            f"the package {missing} is missing", where=f"stream {stream}", mend="Run: pip install 'forgetless[streams]'"
        ) from error


@dataclass(frozen=True, slots=True)
class Labelled:
    """Images with labels, divided into train and test.

    Attributes:
        x: all inputs, of shape (examples, ...).
        y: their labels, from 0 on.
        names: names of the classes.
        train, test: rows of the one and of the other, shuffled.
    """

    x: Tensor
    y: Tensor
    names: tuple[str, ...]
    train: Tensor
    test: Tensor

    def task(self, name: str, classes: Sequence[int]) -> ClassTask:
        """The examples of some classes, labelled from 0 on in the order of ``classes``."""
        place = torch.full((len(self.names),), -1)
        place[list(classes)] = torch.arange(len(classes))
        train, test = (rows[place[self.y[rows]] >= 0] for rows in (self.train, self.test))
        return ClassTask(
            name,
            tuple(self.names[label] for label in classes),
            (self.x[train], place[self.y[train]]),
            (self.x[test], place[self.y[test]]),
            tuple(f"{self.names[self.y[row]]}, image {row}" for row in test.tolist()),
        )

    def tasks(self, per_task: int) -> tuple[ClassTask, ...]:
        """The classes in order, ``per_task`` in each task.

        Raises:
            InputError: the classes do not come out even, or there is only one task.
        """
        count = len(self.names)
        if whole("classes_per_task", per_task) >= count or count % per_task:
            raise InputError(
                f"{count} classes cannot be divided into tasks of {per_task}",
                where="classes_per_task",
                mend=f"Choose a number that divides {count} and is smaller",
            )
        groups = [range(first, first + per_task) for first in range(0, count, per_task)]
        return tuple(self.task(_told([self.names[label] for label in group]), group) for group in groups)


def _told(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def divide(x: Tensor, y: Tensor, names: Sequence[str], *, test_share: float, seed: int, limit: int | None) -> Labelled:
    """Divide the images of every class alike, at random by ``seed``: the same seed gives the same rows.

    Args:
        limit: keep only about so many training images and the same share of test images, as many of each class.

    Raises:
        InputError: ``limit`` leaves a class without an image, or a class has fewer than two.
    """
    whole("seed", seed, 0, 2**63 - 1)
    if limit is not None:
        whole("limit", limit, len(names))
    draw = torch.Generator().manual_seed(seed)
    trained, tested = [], []
    for label, name in enumerate(names):
        rows = (y == label).nonzero().flatten()
        if len(rows) < 2:
            raise InputError(f"the class {name} has {len(rows)} images, two at least are needed", where="data")
        rows = rows[torch.randperm(len(rows), generator=draw)]
        held = min(max(1, math.floor(len(rows) * test_share + 0.5)), len(rows) - 1)
        test, train = rows[:held], rows[held:]
        if limit is not None:
            keep = limit // len(names)
            test, train = test[: max(1, round(keep * test_share / (1 - test_share)))], train[:keep]
        tested.append(test)
        trained.append(train)
    parts = [torch.cat(rows) for rows in (trained, tested)]
    parts = [rows[torch.randperm(len(rows), generator=draw)] for rows in parts]
    return Labelled(x, y, tuple(names), parts[0], parts[1])


@dataclass(frozen=True, slots=True)
class MLP:
    """``MLP(inputs, width)(units)``: a fresh network with two hidden layers of ReLU, as in van de Ven & Tolias 2019."""

    inputs: int
    width: int

    def __call__(self, units: int) -> nn.Module:
        return nn.Sequential(
            nn.Flatten(),
            nn.Linear(self.inputs, self.width),
            nn.ReLU(),
            nn.Linear(self.width, self.width),
            nn.ReLU(),
            nn.Linear(self.width, units),
        )
