"""Taking training back: what some steps changed is put as it was, bit for bit."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import numpy
import torch
from torch import Tensor

from forgetless.core.context import Context
from forgetless.core.method import Method


class Saved:
    """A copy of all that optimizer steps change: weights, buffers, optimizer, random numbers, the method's state; and the way back."""

    def __init__(self, ctx: Context, method: Method) -> None:
        self.model, self.optimizer, self.method = ctx.model, ctx.optimizer, method
        self.tensors = {name: tensor.detach().clone() for name, tensor in self._own()}
        self.state = _cloned(dict(ctx.optimizer.state))
        self.groups = [_cloned({k: v for k, v in group.items() if k != "params"}) for group in ctx.optimizer.param_groups]
        self.modes = [(module, module.training) for module in ctx.model.modules()]
        self.generators = [(found, found.get_state()) for found in _generators(ctx.task.train)]
        self.random = (torch.get_rng_state(), torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [])
        self.others = (random.getstate(), numpy.random.get_state())
        self.method_state = _cloned(method.state_dict())

    def _own(self) -> Iterator[tuple[str, Tensor]]:
        yield from ((name, parameter) for name, parameter in self.model.named_parameters() if parameter.requires_grad)
        yield from self.model.named_buffers()

    def put_back(self) -> None:
        """As it was, bit for bit."""
        with torch.no_grad():
            for name, tensor in self._own():
                tensor.copy_(self.tensors[name])
        self.optimizer.state.clear()
        self.optimizer.state.update(_cloned(self.state))
        for group, kept in zip(self.optimizer.param_groups, self.groups, strict=True):
            for key, value in kept.items():
                if isinstance(value, Tensor):
                    group[key].copy_(value)
                else:
                    group[key] = _cloned(value)
        for module, training in self.modes:
            module.training = training
        for generator, state in self.generators:
            generator.set_state(state)
        torch.set_rng_state(self.random[0])
        if self.random[1]:
            torch.cuda.set_rng_state_all(self.random[1])
        random.setstate(self.others[0])
        numpy.random.set_state(self.others[1])
        self.method.load_state_dict(_cloned(self.method_state))


def _cloned(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.detach().clone()
    if isinstance(value, dict):
        return {key: _cloned(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_cloned(item) for item in value)
    return value


def _generators(train: Any) -> list[torch.Generator]:
    """Generators of its own that a DataLoader draws from."""
    found = [getattr(place, "generator", None) for place in (train, getattr(train, "sampler", None))]
    return [one for one in dict.fromkeys(found) if isinstance(one, torch.Generator)]
