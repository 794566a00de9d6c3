"""One training phase: what to learn and what to keep."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from forgetless.core.predictions import Predictions


@dataclass(frozen=True, slots=True)
class Task:
    """One training phase.

    Attributes:
        name: names the task in reports and in saved state.
        train: the inject set: an iterable of batches that can be walked again (a list, a DataLoader).
        retain: the retain set in the same form, or None for methods that need no old data.
        probe: old data in the same form that is only looked at, never trained on: a search for a strength measures on it what is kept.
            None: on ``retain``.
        index: its place in a stream, from 0.
        earlier_heads: groups of output units that earlier tasks used, one group for each softmax that must keep its answers:
            a group a task where the task is known at use, one group of all units seen so far where it is not. None means
            one group of all units (a language model's vocabulary). Empty: there is no earlier task.
        last: no task follows, so nothing needs to be worked out for one.
        steps: optimizer steps planned for the task, where known.
        accumulation: batches of ``train`` that make up one optimizer step.
        predictions: how methods read its batches and the model's outputs on them.
        everywhere: of several processes each is given the same batches of ``train`` and ``retain``, and methods deal them out;
            else each is given its own.
    """

    name: str
    train: Iterable[Any]
    retain: Iterable[Any] | None = None
    index: int = 0
    earlier_heads: tuple[tuple[int, ...], ...] | None = None
    last: bool = False
    steps: int | None = None
    predictions: Predictions = field(default_factory=Predictions)
    everywhere: bool = False
    probe: Iterable[Any] | None = None
    accumulation: int = 1
