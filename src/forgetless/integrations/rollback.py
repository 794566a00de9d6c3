"""The last good point of a trainer's training, to go back to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from forgetless.core.state import load_state, save_state
from forgetless.guard.point import Point, scale_rates

GOOD_FILE = "forgetless_good.safetensors"
"""The last good point, in every checkpoint folder of a training that may go back to it."""


class GoodPoint:
    """A `Point` of a trainer, protected or not.

    Attributes:
        step: the trainer's step at which it was taken; -1 before.
    """

    def __init__(self) -> None:
        self._point = Point()

    @property
    def step(self) -> int:
        return self._point.step

    def take(self, trainer: Any) -> None:
        """Copy what stands now: the trainable weights and the buffers, the optimizer's state, and the method's if there is one."""
        self._point.take(trainer.state.global_step, trainer.model, _optimizer(trainer), _method(trainer))

    def put_back(self, trainer: Any, factor: float) -> None:
        """Put it in place; the learning rate stays where the scheduler is by now, from here on times ``factor``."""
        optimizer = _optimizer(trainer)
        self._point.put_back(trainer.model, optimizer, _method(trainer))
        scale_rates(optimizer, factor, trainer.lr_scheduler)
        if hasattr(trainer, "_buffered_inputs"):
            trainer._buffered_inputs = None  # GRPOTrainer's rollouts are of weights that are gone

    def save(self, folder: Path) -> None:
        """Write it into a checkpoint folder."""
        save_state(folder / GOOD_FILE, self._point.state_dict())

    def load(self, folder: Path) -> None:
        """Take up what `save` wrote.

        Raises:
            InputError: the file is missing or broken.
        """
        self._point.load_state_dict(load_state(folder / GOOD_FILE))


def _method(trainer: Any) -> Any:
    return trainer.forgetless.method if hasattr(trainer, "forgetless") else None


def _optimizer(trainer: Any) -> Any:
    inner = trainer.optimizer
    while hasattr(inner, "optimizer"):
        inner = inner.optimizer
    return inner
