"""The last point of a training that was good: weights, the optimizer's and the method's state, to go back to."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from forgetless.core.method import State
from forgetless.core.state import load_state, save_state

GOOD_FILE = "forgetless_good.safetensors"
"""The last good point, in every checkpoint folder of a training that may go back to it."""


class GoodPoint:
    """A copy, in main memory, of all that a step of the optimizer changes.

    Attributes:
        step: the trainer's step at which it was taken; -1 before.
    """

    def __init__(self) -> None:
        self.step = -1
        self._weights: dict[str, Tensor] = {}
        self._optimizer: State = {}
        self._method: State = {}

    def take(self, trainer: Any) -> None:
        """Copy what stands now: the trainable weights and the buffers, the optimizer's state, and the method's if there is one."""
        self.step = trainer.state.global_step
        self._weights = {name: tensor.detach().to("cpu", copy=True) for name, tensor in _moving(trainer.model)}
        self._optimizer = _copied(_optimizer(trainer).state_dict())
        self._method = _copied(trainer.forgetless.method.state_dict()) if hasattr(trainer, "forgetless") else {}

    def put_back(self, trainer: Any, factor: float) -> None:
        """Put it in place; the learning rate stays where the scheduler is by now, from here on times ``factor``."""
        with torch.no_grad():
            for name, tensor in _moving(trainer.model):
                tensor.copy_(self._weights[name])
        optimizer, scheduler = _optimizer(trainer), trainer.lr_scheduler
        rates = [group["lr"] for group in optimizer.param_groups]
        starts = [group.get("initial_lr") for group in optimizer.param_groups]
        optimizer.load_state_dict(_copied(self._optimizer))
        for group, rate, start in zip(optimizer.param_groups, rates, starts, strict=True):
            group["lr"] = rate * factor
            if start is not None:
                group["initial_lr"] = start * factor
        if hasattr(scheduler, "base_lrs"):
            scheduler.base_lrs = [rate * factor for rate in scheduler.base_lrs]
            scheduler._last_lr = [group["lr"] for group in optimizer.param_groups]
        if hasattr(trainer, "forgetless"):
            trainer.forgetless.method.load_state_dict(_copied(self._method))
        if hasattr(trainer, "_buffered_inputs"):
            trainer._buffered_inputs = None  # GRPOTrainer's rollouts are of weights that are gone

    def save(self, folder: Path) -> None:
        """Write it into a checkpoint folder."""
        state = {"step": self.step, "weights": self._weights, "optimizer": self._optimizer, "method": self._method}
        save_state(folder / GOOD_FILE, state)

    def load(self, folder: Path) -> None:
        """Take up what `save` wrote.

        Raises:
            InputError: the file is missing or broken.
        """
        state = load_state(folder / GOOD_FILE)
        self.step, self._weights, self._optimizer, self._method = (state[key] for key in ("step", "weights", "optimizer", "method"))


def _moving(model: Any) -> Iterator[tuple[str, Tensor]]:
    yield from ((name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad)
    yield from model.named_buffers()


def _optimizer(trainer: Any) -> Any:
    inner = trainer.optimizer
    while hasattr(inner, "optimizer"):
        inner = inner.optimizer
    return inner


def _copied(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, dict):
        return {key: _copied(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_copied(inner) for inner in value)
    return value
