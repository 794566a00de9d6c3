"""The last point of a training that was good: weights, the optimizer's and the method's state, to go back to."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from forgetless.core.method import Method, State


class Point:
    """A copy, in main memory, of all that a step of the optimizer changes. Random numbers and data are not: they go on.

    Attributes:
        step: the optimizer step at which it was taken; -1 before.
    """

    def __init__(self) -> None:
        self.step = -1
        self._weights: dict[str, Tensor] = {}
        self._optimizer: State = {}
        self._method: State = {}

    def take(self, step: int, model: nn.Module, optimizer: torch.optim.Optimizer, method: Method | None) -> None:
        """Copy what stands now: the trainable weights and the buffers, the optimizer's state, and the method's if there is one."""
        self.step = step
        self._weights = {name: tensor.detach().to("cpu", copy=True) for name, tensor in moving(model)}
        self._optimizer = copied(optimizer.state_dict())
        self._method = {} if method is None else copied(method.state_dict())

    def put_back(self, model: nn.Module, optimizer: torch.optim.Optimizer, method: Method | None, *, warm: bool = False) -> None:
        """Put it in place, but for the learning rates, which stay as they are.

        Args:
            model, optimizer, method: what was copied.
            warm: where the point was taken before the optimizer's first step, leave its moments as they are: Adam's first steps without
                any move every weight by the whole learning rate, and that is what does most of the harm.
        """
        with torch.no_grad():
            for name, tensor in moving(model):
                tensor.copy_(self._weights[name])
        rates = [(group["lr"], group.get("initial_lr")) for group in optimizer.param_groups]
        if not (warm and not self._optimizer["state"]):
            optimizer.load_state_dict(copied(self._optimizer))
        for group, (rate, start) in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate
            if start is not None:
                group["initial_lr"] = start
        if method is not None:
            method.load_state_dict(copied(self._method))

    @property
    def weights(self) -> dict[str, Tensor]:
        """The trainable weights and the buffers as they were, in main memory."""
        return self._weights

    def state_dict(self) -> State:
        """Tensors and plain values."""
        return {"step": self.step, "weights": self._weights, "optimizer": self._optimizer, "method": self._method}

    def load_state_dict(self, state: State) -> None:
        """Take up what `state_dict` gave."""
        self.step, self._weights, self._optimizer, self._method = (state[key] for key in ("step", "weights", "optimizer", "method"))


def moving(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """What training changes: trainable parameters and buffers, by name."""
    yield from ((name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad)
    yield from model.named_buffers()


def scale_rates(optimizer: torch.optim.Optimizer, factor: float, scheduler: Any = None) -> None:
    """Multiply the learning rates by ``factor``, and those from which ``scheduler`` works out the next ones."""
    for group in optimizer.param_groups:
        group["lr"] = group["lr"] * factor
        if group.get("initial_lr") is not None:
            group["initial_lr"] = group["initial_lr"] * factor
    if hasattr(scheduler, "base_lrs"):
        scheduler.base_lrs = [rate * factor for rate in scheduler.base_lrs]
        scheduler._last_lr = [group["lr"] for group in optimizer.param_groups]


def copied(value: Any) -> Any:
    """A copy of nested state; tensors on the CPU."""
    if isinstance(value, Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, dict):
        return {key: copied(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(copied(item) for item in value)
    return value
