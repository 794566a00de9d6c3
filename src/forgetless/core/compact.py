"""Optimizer state for those weights alone that can move in a task.

Where a method says at the start of a task which weights stand still until its end, their moments are never needed. So the optimizer steps
a stand-in that holds the other weights only, piece by piece, and its state has one number for each of these, in their order:
``optimizer.state[parameter]["exp_avg"]`` is flat then. It is saved and loaded as any optimizer's state.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from forgetless.core.context import Context, Tree
from forgetless.core.method import Chain, Method, overrides
from forgetless.core.stepping import ELEMENTWISE
from forgetless.errors import InputError

PIECE = 1 << 20
"""Weights of one parameter that are looked at together."""


@runtime_checkable
class Freezes(Protocol):
    """A method that knows from the start of a task which weights stand still until its end.

    Attributes:
        compact_state: whether the optimizer is to keep no state for them.
    """

    compact_state: bool

    def standing(self, name: str, start: int, stop: int) -> Tensor:
        """Which of the elements ``start:stop`` of parameter ``name`` stand still in this task: bool of shape ``(stop - start,)``."""
        ...

    def stood(self, ctx: Context, parameters: Tree, held: list[int]) -> None:
        """A step was taken: of each of ``parameters`` so many weights stood still."""
        ...


def compacting(method: Method, ctx: Context) -> Freezes | None:
    """The method, or the part of a chain, that asks for compact state; None where none does.

    Raises:
        InputError: it cannot be kept with this optimizer, model or chain.
    """
    parts = method.methods if isinstance(method, Chain) else (method,)
    asking = [part for part in parts if isinstance(part, Freezes) and part.compact_state]
    if not asking:
        return None
    where, acting = "compact_state", [part for part in parts if overrides(part, "update")]
    if type(ctx.optimizer) not in ELEMENTWISE:
        known = ", ".join(kind.__name__ for kind in ELEMENTWISE)
        name = type(ctx.optimizer).__name__
        raise InputError(
            f"{name} is not known to treat every weight by itself", where=where, mend=f"Use one of torch's {known}, or leave it out"
        )
    if len(acting) > 1:
        names = " and ".join(type(part).__name__ for part in acting)
        raise InputError(f"{names} both decide which weights move", where=where, mend="Keep one of the two, or leave it out")
    if ctx.held.sharded:
        raise InputError("it does not work on sharded weights", where=where, mend="Leave it out; sharding divides the state already")
    bent = next((name for name, parameter in ctx.parameters.items() if not parameter.is_contiguous()), None)
    if bent is not None:
        raise InputError(f"the parameter {bent!r} is not contiguous", where=where, mend="Make it contiguous, or leave it out")
    return asking[0]


class CompactState:
    """Steps the weights that may move, and keeps the optimizer's state for them alone."""

    def __init__(self, method: Freezes, ctx: Context) -> None:
        self.method, self.ctx = method, ctx
        self._counts: dict[nn.Parameter, int] = {}  # of weights that may move

    def step(self, names: dict[nn.Parameter, str], raw_step: Callable[[], object]) -> None:
        """Step the parameters ``names``; ``raw_step`` steps the optimizer on whatever its ``param_groups`` hold at that moment."""
        groups = self.ctx.optimizer.param_groups
        own = [group["params"] for group in groups]
        stepped: Tree = {}
        try:
            for group in groups:
                group["params"] = []
            for group, parameters in zip(groups, own, strict=True):
                for parameter in parameters:
                    if parameter.grad is not None and parameter in names:
                        self._step(group, parameter, names[parameter], raw_step)
                        stepped[names[parameter]] = parameter
                group["params"] = []
        finally:
            for group, parameters in zip(groups, own, strict=True):
                group["params"] = parameters
        held = [tensor.numel() - self._counts[self.ctx.parameters[name]] for name, tensor in stepped.items()]
        self.method.stood(self.ctx, stepped, held)

    def close(self) -> None:
        """Let go of the state, which fits this task alone: the optimizer begins anew in the next."""
        for parameter in self._counts:
            self.ctx.optimizer.state.pop(parameter, None)
        self._counts = {}

    def _step(self, group: dict[str, Any], parameter: nn.Parameter, name: str, raw_step: Callable[[], object]) -> None:
        optimizer = self.ctx.optimizer
        if parameter not in self._counts:
            self._take_up(optimizer, parameter, name)
        room = self._counts[parameter]
        assert parameter.grad is not None
        weights, grads = parameter.detach().view(-1), parameter.grad.reshape(-1)
        kept: dict[str, Any] = optimizer.state.pop(parameter, {})
        before, at = dict(kept), 0
        for start in range(0, weights.numel(), PIECE):
            some = slice(start, min(weights.numel(), start + PIECE))
            free = self.method.standing(name, some.start, some.stop).logical_not_().nonzero().view(-1).to(weights.device)
            if not len(free):
                continue
            part, place = nn.Parameter(weights[some].index_select(0, free)), slice(at, at + len(free))
            part.grad = grads[some].index_select(0, free)
            if before:
                optimizer.state[part] = {key: _own(value, place, room) for key, value in before.items()}
            group["params"] = [part]
            raw_step()
            weights[some].index_copy_(0, free, part.detach())
            for key, value in optimizer.state.pop(part, {}).items():
                if not isinstance(value, Tensor) or value.shape != part.shape or value.ndim == 0:
                    kept[key] = value
                    continue
                if key not in before and at == 0:
                    kept[key] = torch.empty(room, dtype=value.dtype, device=value.device)
                if kept[key][place].data_ptr() != value.data_ptr():
                    kept[key][place] = value
            at = place.stop
        group["params"] = []
        if kept:
            optimizer.state[parameter] = kept

    def _take_up(self, optimizer: Optimizer, parameter: nn.Parameter, name: str) -> None:
        """Count the weights that may move; of state that is there for all weights keep theirs."""
        total = parameter.numel()
        masks = [~self.method.standing(name, start, min(total, start + PIECE)) for start in range(0, total, PIECE)]
        free = torch.cat(masks) if masks else torch.zeros(0, dtype=torch.bool)
        count = int(free.sum())
        kept = optimizer.state.get(parameter, {})
        for key, value in kept.items():
            if not isinstance(value, Tensor) or value.ndim == 0 or value.shape == (count,):
                continue
            if value.shape != parameter.shape:
                raise InputError(
                    f"its {key!r} for {name!r} has {value.numel()} numbers, but {count} weights may move",
                    where="compact_state",
                    mend="Load the method's state too: the optimizer's was saved with another mask",
                )
            kept[key] = value.view(-1)[free.to(value.device)]
        self._counts[parameter] = count


def _own(value: Any, place: slice, room: int) -> Any:
    if not isinstance(value, Tensor):
        return value
    return value[place] if value.shape == (room,) and value.ndim else value.clone()
