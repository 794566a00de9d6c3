"""What a method may look at while it works."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from forgetless.core.task import Task

Tree = dict[str, Tensor]
"""Tensors by parameter name, as `torch.nn.Module.named_parameters` gives it."""

LossFunction = Callable[[nn.Module, Any], Tensor]
"""``loss_fn(model, batch)``: the mean loss of a batch as a scalar tensor."""


@dataclass(slots=True)
class Context:
    """What a method may look at; made and kept up to date by the `Session`.

    Attributes:
        model: the model in training.
        optimizer: the user's optimizer.
        task: the task in training.
        loss_fn: mean loss of a batch.
        parameters: the trainable parameters by name.
        step: optimizer steps finished in this task.
        epoch: passes over ``task.train`` finished in this task.
        gradients: inside `Method.update`: the gradient of each tensor of the chunk, as the optimizer saw it.
        offsets: inside `Method.update`: the element of the whole parameter at which each tensor of the chunk begins
            (0 unless a large parameter is being stepped in pieces of whole rows).
        metrics: what `report` collected since the last optimizer step began.
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

    def report(self, name: str, value: Any) -> None:
        """Record a plain value about the current optimizer step; it appears in `Session.metrics`."""
        self.metrics[name] = value

    def write(self, values: Tree) -> None:
        """Set weights or buffers by name, outside a step: for `Method.end_task` and `Method.activate` only."""
        own = dict(self.model.named_parameters()) | dict(self.model.named_buffers())
        with torch.no_grad():
            for name, value in values.items():
                own[name].copy_(value)
