"""Examples of earlier tasks, taken from their batches and read as the task at hand needs them."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import Any

from forgetless.core.predictions import Predictions
from forgetless.core.task import Task
from forgetless.memory.distinct import distinct, quietly
from forgetless.memory.reservoir import Reservoir


def offer_all(memory: Reservoir, batches: Iterable[Any], predictions: Predictions) -> None:
    """Offer every different example of one walk over ``batches``, but those that it holds."""
    for example in distinct(batches, predictions, but=memory.store.examples):
        memory.offer(example)


class Present:
    """Brings stored batches up to the task at hand: the output units that their examples may use now.

    Args:
        task: its first batch is read where stored batches say their units.
    """

    def __init__(self, task: Task) -> None:
        self.task = task
        self._first: Any = None

    def __call__(self, batch: Any) -> Any:
        predictions = self.task.predictions
        if predictions.active(batch) is None:
            return batch
        if self._first is None:
            self._first = next(quietly(self.task.train))
        return predictions.update_active(batch, self._first, self.task.earlier_heads)


def in_turn(batches: Iterable[Any], start: int, count: int) -> tuple[list[Any], int]:
    """``count`` batches from number ``start`` on, beginning again after the last, and the number that comes next."""
    found: list[Any] = []
    while len(found) < count:
        taken = list(islice(iter(batches), start, start + count - len(found)))
        if not taken and not start:
            break
        found += taken
        start = start + len(taken) if len(found) == count else 0
    return found, start
