"""A teacher: the model as it stood at some moment, asked for its outputs on new batches."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from forgetless.core.context import Tree
from forgetless.core.gradients import quiet
from forgetless.core.predictions import Predictions
from forgetless.core.sharding import full, is_sharded, local, reshard
from forgetless.core.task import Task
from forgetless.errors import InputError


class _Asked(nn.Module):
    """Calls the model the way that `Predictions` does, with the weights that `functional_call` puts in."""

    def __init__(self, model: nn.Module, predictions: Predictions) -> None:
        super().__init__()
        self.model, self.predictions = model, predictions

    def forward(self, batch: Any) -> Any:
        return self.predictions.outputs(self.model, batch)


def snapshot(model: nn.Module) -> Tree:
    """A copy of all that training can change: trainable parameters and buffers, by name.

    Frozen parameters are read from the model itself, so with adapters (LoRA) a teacher costs no more than they do, and nothing where
    they begin as the base model: a product of which one factor is zero is zero whatever the other becomes, so of the zero factor
    an empty tensor stands in the snapshot, and the other is left out. (Not of sharded weights, of which a process sees a part.)
    """
    reshard(model)
    moving = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    silent = {} if any(is_sharded(parameter) for parameter in moving.values()) else _silent(moving)
    copies = {k: local(v.detach()).clone() for k, v in (moving | dict(model.named_buffers())).items() if k not in silent}
    return copies | {name: moving[name].detach().new_empty(0) for name, zero in silent.items() if zero}


def _silent(moving: dict[str, nn.Parameter]) -> dict[str, bool]:
    """The factors of low-rank adapters that add nothing, and whether it is this one of the two that is zero."""
    found: dict[str, bool] = {}
    for left, right in (("lora_A", "lora_B"), ("lora_embedding_A", "lora_embedding_B")):
        for name, one in moving.items():
            pair = name.replace(f".{left}.", f".{right}.")
            if pair != name and pair in moving:
                zeros = [not bool(factor.detach().any()) for factor in (one, moving[pair])]
                if any(zeros):
                    found |= {name: zeros[0], pair: zeros[1]}
    return found


def teacher_logits(model: nn.Module, teacher: Tree, batch: Any, predictions: Predictions, *, every: bool = True) -> Tensor:
    """The rows that ``model`` would give on ``batch`` with the weights ``teacher``: evaluation mode, no gradient.

    Args:
        model: the model in training; it is left as it was.
        teacher: what `snapshot` gave; moved to the model's device in place where it stands elsewhere.
        batch: a batch, labelled or not.
        predictions: how the task reads it.
        every: also the units that the batch rules out.
    """
    reshard(model)
    own = dict(model.named_parameters()) | dict(model.named_buffers())
    for name, tensor in teacher.items():
        if tensor.device != own[name].device:
            teacher[name] = tensor.to(own[name].device)
    if any(is_sharded(tensor) for tensor in own.values()):
        teacher |= {k: torch.zeros_like(local(own[k].detach())) for k, v in teacher.items() if not v.numel()}
        with quiet(model), torch.no_grad(), _in_place_of(model, teacher):
            return predictions.logits(predictions.outputs(model, batch), batch, every=every)
    with quiet(model), torch.no_grad():
        weights = {f"model.{k}": v if v.numel() else v.new_zeros(()).expand(own[k].shape) for k, v in teacher.items()}
        outputs = functional_call(_Asked(model, predictions), weights, (batch,))
        return predictions.logits(outputs, batch, every=every)


@contextmanager
def _in_place_of(model: nn.Module, teacher: Tree) -> Iterator[None]:
    """Sharded weights are gathered from where they stand: put the teacher's there, and the model's where the teacher's were."""
    own = {name: local(tensor.detach()) for name, tensor in [*model.named_parameters(), *model.named_buffers()] if name in teacher}

    def swap() -> None:
        reshard(model)
        for name, tensor in own.items():
            if not torch.equal(tensor, teacher[name]):
                kept = tensor.clone()
                tensor.copy_(teacher[name])
                teacher[name].copy_(kept)

    swap()
    try:
        yield
    finally:
        swap()


def frozen_sums(model: nn.Module) -> Tree:
    """The sum of each frozen parameter: tells later whether it still stands as it did."""
    reshard(model)
    return {
        name: full(parameter.detach()).sum(dtype=torch.float64).cpu()
        for name, parameter in model.named_parameters()
        if not parameter.requires_grad
    }


def extend(model: nn.Module, teacher: Tree, sums: Tree) -> None:
    """Make an older ``teacher`` (with its `frozen_sums`) fit the model of a later task: copy what has become trainable since.

    Raises:
        InputError: weights that the teacher reads from the model have changed or are gone, so it cannot be asked any more.
    """
    reshard(model)
    own = dict(model.named_parameters())
    gone = [name for name in teacher if name not in own and name not in dict(model.named_buffers())]
    changed = [
        name
        for name, value in sums.items()
        if name not in own or not torch.equal(full(own[name].detach()).sum(dtype=torch.float64).cpu(), value.cpu())
    ]
    if changed := gone + [name for name in changed if name not in teacher]:
        raise InputError(
            f"{len(changed)} of the weights that it shares with the model, such as {changed[0]!r}, are not as they were in the first task",
            where="teacher",
            mend="Do not merge adapters or change frozen weights between tasks, or begin with a fresh method",
        )
    teacher |= {name: tensor for name, tensor in snapshot(model).items() if name not in teacher}


def kept_groups(task: Task) -> tuple[tuple[int, ...] | None, ...]:
    """The groups of output units whose answers are to be kept, each with a softmax of its own; None: all units.

    Empty where there is nothing to keep: the first task of a stream, given no old data either.
    """
    if task.earlier_heads:
        return task.earlier_heads
    return (None,) if task.earlier_heads is None or task.retain is not None else ()
