"""What a session refuses, because it could not keep its promise."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import LBFGS, Optimizer

from forgetless.core.freezing import check_thawed
from forgetless.core.method import Chain, Method
from forgetless.core.sharding import local, reshard
from forgetless.core.strength import automatic, nothing_to_measure
from forgetless.core.task import Task
from forgetless.errors import InputError, ProtectionError

SCALED = 1024.0
"""A loss multiplied by this much or more before ``backward`` was scaled for half precision (GradScaler begins at 65536)."""


def trainable(model: nn.Module, optimizer: Optimizer, method: Method) -> dict[str, nn.Parameter]:
    """The trainable parameters by name, after checking that the optimizer covers them.

    Raises:
        InputError: the optimizer is an LBFGS, misses a trainable parameter, or holds one that is not the model's; another method left
            parameters frozen; they lie on several devices and the method filters steps.
    """
    check_thawed(method, model)
    if isinstance(optimizer, LBFGS):
        raise InputError(
            "LBFGS evaluates the loss many times in one step, so its steps cannot be protected",
            where="optimizer",
            mend="Use any other torch.optim optimizer",
        )
    parameters = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    if not parameters:
        raise InputError("the model has no trainable parameter", where="model", mend="Set requires_grad on what is to be trained")
    held = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    missing = [name for name, parameter in parameters.items() if id(parameter) not in held]
    if missing:
        raise InputError(
            f"it misses {len(missing)} trainable parameters, such as {missing[0]!r}",
            where="optimizer",
            mend="Build it from model.parameters() after method.prepare(model, task), or set requires_grad=False on what is frozen",
        )
    places = sorted({str(parameter.device) for parameter in parameters.values()})
    if method.filters and len(places) > 1:
        what = f"its weights lie on {' and '.join(places)}, and {type(method).__name__} filters the steps of all together"
        raise InputError(what, where="model", mend="Load it on one device, or shard it with fully_shard (FSDP2)")
    own = {id(parameter) for parameter in model.parameters()}
    strangers = sum(identity not in own for identity in held)
    if strangers:
        raise InputError(
            f"it holds {strangers} parameters that are not the model's and would go unprotected",
            where="optimizer",
            mend="Build the optimizer from the parameters of the model that is given to attach",
        )
    return parameters


def check_task(method: Method, task: Task) -> None:
    """Raise `InputError` where the task lacks the retain set that the method needs, or old examples for a search."""
    if method.needs_retain and task.retain is None:
        raise InputError(
            f"{type(method).__name__} needs a retain set",
            where=f"task {task.name!r}",
            mend="Give Task(..., retain=batches of old data)",
        )
    parts = automatic(method) if task.retain is None and task.probe is None and task.earlier_heads != () else []
    if parts and (task.index or task.last):  # else it may be the first task of a stream, with nothing to protect
        raise nothing_to_measure(parts[0].label, task.name)


def check_method(method: Method, *, processes: int, sharded: bool) -> None:
    """Raise `InputError` where the method, or a part of a chain, cannot work in these processes."""
    for part in method.methods if isinstance(method, Chain) else (method,):
        name = type(part).__name__
        if processes > 1 and part.needs_one_process:
            raise InputError(
                f"{name} cannot work in several processes: {part.needs_one_process}", where="method", mend="Train in one process"
            )
        if processes > 1 and part in automatic(method):
            raise InputError(
                "a search works in one process only", where="method", mend="Search in one process, and give the number that it found"
            )
        if sharded and part.needs_whole_weights:
            raise InputError(
                f"{name} cannot work on sharded weights: {part.needs_whole_weights}",
                where="method",
                mend="Use DistributedDataParallel in place of fully_shard, or another method",
            )


class Places:
    """Where in the model the parameters stand, so that one that was replaced is found out at little cost."""

    def __init__(self, model: nn.Module, parameters: dict[str, nn.Parameter]) -> None:
        self._model = model
        self._places = [(*_place(model, name), name, parameter) for name, parameter in parameters.items()]

    def check(self) -> None:
        """Raise `ProtectionError` where a parameter is no longer the one that the session knows."""
        if self._replaced():
            reshard(self._model)  # FSDP may be told to leave the gathered weights in place
        lost = self._replaced()
        if lost:
            raise ProtectionError(
                f"{len(lost)} parameters, such as {lost[0]!r}, have been replaced since the session was made; "
                "call fully_shard, .to() and the like before the optimizer is built and the session attached"
            )

    def _replaced(self) -> list[str]:
        return [name for module, own, name, parameter in self._places if module._parameters.get(own) is not parameter]


def _place(model: nn.Module, name: str) -> tuple[nn.Module, str]:
    path, _, own = name.rpartition(".")
    return model.get_submodule(path), own


class ScaleWatch:
    """Notices gradients that still carry a GradScaler's factor when the optimizer steps.

    The gradient that arrives at the loss tells the factor; the smallest parameter, remembered as ``backward`` left it,
    tells whether somebody has divided by it since.
    """

    def __init__(self, parameters: dict[str, nn.Parameter]) -> None:
        self._witness = min(parameters.values(), key=lambda parameter: local(parameter).numel() or 2**63)
        self._left: Tensor | None = None
        self._factor: Tensor | None = None
        self._handle = self._witness.register_post_accumulate_grad_hook(self._remember)  # type: ignore[no-untyped-call]  # untyped in torch

    def _remember(self, parameter: Tensor) -> None:
        self._left = None if parameter.grad is None else local(parameter.grad.detach()).clone()

    def watch(self, loss: Tensor) -> None:
        """Note the factor with which ``backward`` will be called on ``loss``."""
        if loss.requires_grad:
            loss.register_hook(self._note)  # type: ignore[no-untyped-call]  # untyped in torch

    def _note(self, upstream: Tensor) -> None:
        self._factor = upstream.detach().abs().max()

    def check(self, optimizer: Any) -> None:
        """Raise `ProtectionError` where the gradients have not been unscaled."""
        fused = getattr(optimizer, "grad_scale", None) is not None
        if fused or (self._factor is not None and float(self._factor) >= SCALED and self._untouched()):
            raise ProtectionError(
                "the gradients still carry GradScaler's factor; call scaler.unscale_(optimizer) before scaler.step(optimizer)"
            )

    def check_inside(self) -> None:
        """Raise `ProtectionError` where the loss was scaled: inside ``backward`` nobody can have unscaled a gradient yet."""
        if self._factor is not None and float(self._factor) >= SCALED:
            raise ProtectionError(
                "a GradScaler cannot unscale gradients that are used inside backward; train in bf16, or without in_backward"
            )

    def _untouched(self) -> bool:
        if self._left is None or self._witness.grad is None:
            return False
        grad = local(self._witness.grad)
        return torch.equal(self._left, grad) and bool(grad.any())

    def close(self) -> None:
        """Remove the hook."""
        self._handle.remove()
