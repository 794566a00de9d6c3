"""An optimizer's step taken chunk by chunk, so that the weights before it never exist twice as a whole."""

from __future__ import annotations

import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import gcd
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import ASGD, SGD, Adadelta, Adagrad, Adam, Adamax, AdamW, NAdam, Optimizer, RAdam, RMSprop, Rprop

from forgetless.core.sharding import is_sharded, local

ELEMENTWISE = (SGD, Adam, AdamW, NAdam, RAdam, Adamax, Adagrad, Adadelta, RMSprop, Rprop, ASGD)
"""Optimizers whose step on a weight looks at that weight alone: a large tensor may be stepped in pieces of rows."""


CACHE_BYTES = 4 << 20
"""The largest size of the weights of one chunk on a processor: the copy, the step and the filter meet in its cache."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A parameter, or some whole rows of one that is larger than a chunk."""

    name: str
    parameter: nn.Parameter
    rows: slice | None = None

    def of(self, tensor: Tensor) -> Tensor:
        """The part of ``tensor`` (shaped like the parameter) that this piece covers: a view."""
        return tensor if self.rows is None else tensor[self.rows]

    @property
    def offset(self) -> int:
        """The element of the whole parameter at which this piece begins."""
        return 0 if self.rows is None else self.rows.start * (self.parameter.numel() // self.parameter.shape[0])


def pieces(optimizer: Optimizer, name: str, parameter: nn.Parameter, limit: int) -> Iterator[Piece]:
    """Cut a parameter into pieces of at most ``limit`` bytes where its optimizer allows, else give it whole."""
    size = parameter.numel() * parameter.element_size()
    if size <= limit or parameter.ndim == 0 or type(optimizer) not in ELEMENTWISE or is_sharded(parameter):
        yield Piece(name, parameter)
        return
    row = parameter.numel() // parameter.shape[0]
    whole_vectors = 64 // gcd(row, 64)  # rows until a multiple of 64 weights: fused optimizers round the tail of a tensor otherwise
    rows = max(1, limit * parameter.shape[0] // size // whole_vectors) * whole_vectors
    for start in range(0, parameter.shape[0], rows):
        yield Piece(name, parameter, slice(start, min(start + rows, parameter.shape[0])))


def step_in_chunks(
    optimizer: Optimizer,
    raw_step: Callable[[], Any],
    names: dict[nn.Parameter, str],
    chunk_bytes: int,
    visit: Callable[[list[Piece], Callable[[], None]], None],
) -> None:
    """Step ``optimizer`` on some of its parameters at a time.

    torch's own (`ELEMENTWISE`) are shown the chunk alone. Others may know a parameter by its place (bitsandbytes' settings of single
    parameters), so they are shown all, without the gradients of those that are not in the chunk, which makes them pass these over.

    Args:
        optimizer: any `torch.optim.Optimizer` whose step treats each parameter by itself.
        raw_step: steps it on whatever its ``param_groups`` hold at that moment, without hooks.
        names: the names of the parameters to visit; those without a gradient are left out, as the optimizer does.
        chunk_bytes: the largest size of the weights of one chunk (on a processor `CACHE_BYTES` if that is less). One row of a
            parameter is never cut; nor is a parameter whose optimizer looks at whole tensors (`ELEMENTWISE` lists those that do not).
        visit: called with each chunk and a function that steps just that chunk.
    """
    groups = optimizer.param_groups
    originals = [dict(group) for group in groups]
    results: list[dict[str, Any]] = [{} for _ in groups]
    rows: dict[nn.Parameter, _Rows] = {}
    narrowed = type(optimizer) in ELEMENTWISE

    def step_only(index: int, chunk: list[Piece]) -> None:
        group = groups[index]
        for one, original in zip(groups, originals, strict=True):
            one.update({key: value for key, value in original.items() if key != "params"})  # counters start alike
        if not narrowed:
            _step_showing({piece.parameter for piece in chunk}, groups, raw_step)
        elif chunk[0].rows is None:
            group["params"] = [piece.parameter for piece in chunk]
            raw_step()
        else:
            if chunk[0].rows.start == 0:
                rows[chunk[0].parameter] = _Rows(optimizer, chunk[0].parameter)
            rows[chunk[0].parameter].step(group, chunk[0].rows, raw_step)
        results[index] = {key: value for key, value in group.items() if key != "params"}

    try:
        for group in groups if narrowed else []:
            group["params"] = []
        for index, original in enumerate(originals):
            for chunk in _chunks(optimizer, original["params"], names, chunk_bytes):
                visit(chunk, lambda index=index, chunk=chunk: step_only(index, chunk))  # type: ignore[misc]  # bound now
                if narrowed:
                    groups[index]["params"] = []
    finally:
        for group, original, result in zip(groups, originals, results, strict=True):
            group.update(result)
            group["params"] = original["params"]


def _step_showing(shown: set[nn.Parameter], groups: list[dict[str, Any]], raw_step: Callable[[], Any]) -> None:
    """Step with the gradients of all but ``shown`` set aside."""
    hidden = {p: p.grad for group in groups for p in group["params"] if p.grad is not None and p not in shown}
    try:
        for parameter in hidden:
            parameter.grad = None
        raw_step()
    finally:
        for parameter, grad in hidden.items():
            parameter.grad = grad


def _chunks(optimizer: Optimizer, parameters: list[nn.Parameter], names: dict[nn.Parameter, str], limit: int) -> Iterator[list[Piece]]:
    chunk: list[Piece] = []
    size = 0
    for parameter in parameters:
        if parameter.grad is None or parameter not in names:
            continue
        room = min(limit, CACHE_BYTES) if parameter.device.type == "cpu" else limit
        for piece in pieces(optimizer, names[parameter], parameter, room):
            own = local(piece.of(parameter)).numel() * parameter.element_size()
            if chunk and (size + own > room or piece.rows is not None):
                yield chunk
                chunk, size = [], 0
            chunk.append(piece)
            size += own
            if piece.rows is not None:
                yield chunk
                chunk, size = [], 0
    if chunk:
        yield chunk


class _Rows:
    """Steps one parameter some rows at a time: a stand-in for the rows takes its place, with views of its state."""

    def __init__(self, optimizer: Optimizer, whole: nn.Parameter) -> None:
        kept = optimizer.state.get(whole, {})
        self.optimizer, self.whole = optimizer, whole
        self.tensors = {key: value for key, value in kept.items() if _shaped(value, whole)}
        self.scalars = {key: value for key, value in kept.items() if key not in self.tensors}
        self.stepped: dict[str, Any] = {}

    def step(self, group: dict[str, Any], rows: slice, raw_step: Callable[[], Any]) -> None:
        assert self.whole.grad is not None
        part = nn.Parameter(self.whole.detach()[rows])
        part.grad = self.whole.grad[rows]
        if self.tensors or self.scalars:
            copies = {key: value.clone() if isinstance(value, Tensor) else value for key, value in self.scalars.items()}
            self.optimizer.state[part] = copies | {key: value[rows] for key, value in self.tensors.items()}
        group["params"] = [part]
        raw_step()
        for key, value in self.optimizer.state.pop(part, {}).items():
            if _shaped(value, part):
                if key not in self.stepped:
                    self.stepped[key] = self.tensors.get(key, torch.empty_like(self.whole, dtype=value.dtype))
                target = self.stepped[key][rows]
                if target.data_ptr() != value.data_ptr():
                    target.copy_(value)
            else:
                self.stepped[key] = value
        if rows.stop == self.whole.shape[0] and self.stepped:
            self.optimizer.state[self.whole] = self.stepped


def _shaped(value: Any, like: Tensor) -> bool:
    return isinstance(value, Tensor) and value.shape == like.shape


def without_hooks(optimizer: Optimizer) -> Callable[..., Any]:
    """The optimizer's step as its class defines it, past torch's profiling and hook wrapper."""
    step = type(optimizer).step
    return types.MethodType(getattr(step, "__wrapped__", step) if getattr(step, "hooked", False) else step, optimizer)


class TakenStep:
    """``optimizer.step`` in other hands, the one way in for any loop and scheduler, until `give_back`."""

    def __init__(self, optimizer: Optimizer, step: Callable[[Callable[[], Any] | None], Any]) -> None:
        def taken(self: Optimizer, closure: Callable[[], Any] | None = None) -> Any:
            return step(closure)

        taken.__forgetless__ = True  # type: ignore[attr-defined]  # so that a second session is refused
        self._optimizer, self._before, self._own = optimizer, vars(optimizer).get("step"), types.MethodType(taken, optimizer)
        optimizer.step = self._own  # type: ignore[method-assign]

    def give_back(self) -> None:
        """Put back what stood there before, unless somebody else has taken it since."""
        if vars(self._optimizer).get("step") is not self._own:
            return
        if self._before is None:
            del self._optimizer.step
        else:
            self._optimizer.step = self._before  # type: ignore[method-assign]


def global_hooks(kind: str) -> list[Callable[..., Any]]:
    """The hooks that torch has for the steps of all optimizers: ``"pre"`` or ``"post"``."""
    from torch.optim import optimizer as module

    return list(getattr(module, f"_global_optimizer_{kind}_hooks").values())
