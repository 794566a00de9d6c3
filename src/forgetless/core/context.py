"""What a method may look at while it works."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from forgetless.core.predictions import to
from forgetless.core.sharding import Held, local, reshard
from forgetless.core.task import Task
from forgetless.core.world import World

Tree = dict[str, Tensor]
"""Tensors by parameter name, as `torch.nn.Module.named_parameters` gives it."""

LossFunction = Callable[[nn.Module, Any], Tensor]
"""``loss_fn(model, batch)``: the mean loss of a batch as a scalar tensor."""


class Share(NamedTuple):
    """A reported value that is one number divided by another, each a sum over what the single processes have.

    Attributes:
        part, whole: this process's own; a whole of 0 says nothing.
        over: whether weights are counted, of which each process may hold a shard, or the data of a step.
    """

    part: Any
    whole: Any
    over: Literal["weights", "data"] = "weights"


@dataclass(slots=True)
class Context:
    """What a method may look at; made and kept up to date by the `Session`.

    Attributes:
        model: the model in training.
        optimizer: the user's optimizer.
        task: the task in training.
        loss_fn: mean loss of a batch.
        parameters: the trainable parameters by name; of a model sharded by FSDP2 what this process holds of them (a context is made
            with the model's own).
        step: optimizer steps finished in this task.
        epoch: passes over ``task.train`` finished in this task.
        gradients: inside `Method.update`: the gradient of each tensor of the chunk, as the optimizer saw it.
        offsets: inside `Method.update`: the element of the whole parameter at which each tensor of the chunk begins
            (0 unless a large parameter is being stepped in pieces of whole rows).
        metrics: what `report` collected since the last optimizer step began.
        world: the processes that train the model together.
        held: what this process holds of the model's own parameters, for the session and for `full`.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    task: Task
    loss_fn: LossFunction
    parameters: dict[str, nn.Parameter]
    step: int = 0
    epoch: int = 0
    gradients: Tree = field(default_factory=dict)
    offsets: dict[str, int] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    world: World = field(default_factory=World)
    held: Held = field(init=False)

    def __post_init__(self) -> None:
        self.held = Held(self.parameters)
        self.parameters = self.held.parameters

    def report(self, name: str, value: Any) -> None:
        """Record a plain value, or a `Share`, about the current optimizer step; it appears in `Session.metrics`."""
        self.metrics[name] = value

    def write(self, values: Tree | Iterable[tuple[str, Tensor]]) -> None:
        """Set weights or buffers by name, outside a step: for `Method.end_task` and `Method.activate` only. Pairs are taken one by one."""
        reshard(self.model)
        own = dict(self.model.named_parameters()) | dict(self.model.named_buffers())
        with torch.no_grad():
            for name, value in values.items() if isinstance(values, dict) else values:
                local(own[name]).copy_(value)

    def full(self, name: str, tensor: Tensor) -> Tensor:
        """From something shaped like ``parameters[name]`` to that of the whole parameter. Collective where weights are sharded."""
        return self.held.full(name, tensor)

    def everyones(self, batches: Iterable[Any]) -> Iterator[Any]:
        """The batches of all processes, in the order in which one process would see them; the same on every process.

        Collective, unless the task says that every process is given the same batches already.
        """
        if self.world.size == 1 or self.task.everywhere:
            yield from batches
            return
        walk = iter(batches)
        while True:
            own = [to(batch, "cpu") for batch in _next(walk)]
            found = [batch for batches in self.world.gather(own) for batch in batches]
            if not found:
                return
            yield from found

    def balance(self, terms: float | Tensor) -> float:
        """The factor for this process's mean over ``terms`` things, with which the mean over processes is that over all things.

        Collective; 1 in one process. A process that has none takes part with a mean of anything, and a factor of 0.
        """
        if self.world.size == 1:
            return 1.0
        own = float(terms)
        total = float(self.world.sum(torch.tensor(own, dtype=torch.float64)))
        return self.world.size * own / total if total else 0.0

    def part(self, things: list[Any]) -> list[Any]:
        """This process's part of a list that is the same on every process: the parts follow one another by rank."""
        size, rank = self.world.size, self.world.rank
        return things[len(things) * rank // size : len(things) * (rank + 1) // size]


def _next(walk: Iterator[Any]) -> list[Any]:
    for batch in walk:
        return [batch]
    return []
