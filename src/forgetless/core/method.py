"""The protocol every method follows, and the chain that composes them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from torch import Tensor, nn

from forgetless.core.context import Context, Tree
from forgetless.core.descent import Descends
from forgetless.core.task import Task
from forgetless.errors import InputError
from forgetless.ops.descent import Descent

State = dict[str, Any]
"""Nested dictionaries with string keys; leaves are tensors or plain JSON values."""


class Method:
    """A transformation of training. Every hook is optional and returns a value.

    A hook never writes a parameter during a step, never calls ``backward`` on the user's loss and never owns the loop: only
    the `Session` writes. Methods compose left to right with ``>>``.

    One object serves a whole stream: for each task `prepare`, a session, `begin_task`, the steps, `end_task`.

    Class attributes describe the method to the command line, the docs and the tests.
    """

    state_names: ClassVar[tuple[str, ...]] = ()
    """Names of the instance attributes that `state_dict` holds: plain values, tensors, or parts with a ``state_dict`` of their own."""
    summary: ClassVar[str] = ""
    """One sentence: what it does and when to use it."""
    source: ClassVar[str] = ""
    """Paper and equation."""
    needs_retain: bool = False
    """Whether it reads ``task.retain`` (old data)."""
    keeps_examples: ClassVar[bool] = False
    """Whether it stores examples of the tasks it has seen: old data, though not asked of the user."""
    needs_task_id: bool = False
    """Whether evaluation must say which task it is."""
    extra_memory: ClassVar[str] = "none"
    """Bytes per parameter beyond plain training."""
    extra_compute: ClassVar[str] = "none"
    """Work per optimizer step beyond plain training."""
    scope: ClassVar[str] = "any model"
    """Which models it works on."""
    owns: ClassVar[str] = ""
    """What no other method of a chain may own too, such as "the architecture"; empty: nothing."""
    sharded_state: ClassVar[tuple[str, ...]] = ()
    """Those of `state_names` that are dictionaries by parameter name with tensors of the parameter's shape; FSDP2 shards them with it."""
    needs_whole_weights: ClassVar[str] = ""
    """Why it cannot work where FSDP2 shards the weights; empty: it can."""
    needs_one_process: ClassVar[str] = ""
    """Why it cannot work in several processes; empty: it can."""
    tolerance: ClassVar[float] = 0.0
    """The largest `violation` that the arithmetic of the constraint allows; 0 where it is exact."""

    def prepare(self, model: nn.Module, task: Task) -> nn.Module:
        """Change the model before the optimizer exists (adapters, columns, supermasks). Returns the model to train."""
        return model

    def begin_task(self, ctx: Context) -> None:
        """Once, before the first step of a task."""

    def begin_step(self, ctx: Context) -> None:
        """Once an optimizer step, before its first forward pass, while no gradient exists (refresh a reference)."""

    def loss(self, ctx: Context, batch: Any, outputs: Any) -> Tensor | None:
        """A scalar to add to the loss of this micro-batch, or None."""
        return None

    def penalty(self, ctx: Context) -> Tensor | None:
        """A scalar of the parameters alone, added once an optimizer step, or None."""
        return None

    def gradients(self, ctx: Context, grads: Tree) -> Tree:
        """The gradients to give to the optimizer, after accumulation. May reuse the memory of ``grads``."""
        return grads

    @property
    def edits_gradients(self) -> bool:
        """Whether `gradients` does anything: then all gradients must be there before the optimizer steps."""
        return overrides(self, "gradients")

    @property
    def filters(self) -> bool:
        """Whether `update` does anything now; else the optimizer steps as it would without it."""
        return overrides(self, "update")

    def update(self, ctx: Context, before: Tree, after: Tree) -> Tree:
        """The weights to keep, given those before and after the optimizer's real step.

        Called chunk by chunk, with contiguous tensors. May reuse the memory of ``before`` and of ``after``; a later method of a chain
        may overwrite what it returns.
        """
        return after

    def violation(self, ctx: Context, before: Tree, written: Tree) -> float | None:
        """The largest movement of a weight that `update` promised not to move, measured on what stands in the model.

        Called on the chunks of some steps, with the weights before the step and those now in the model.
        """
        return None

    def end_task(self, ctx: Context) -> None:
        """Once, after the last step of a task that ended without an error."""

    def tighten(self, ctx: Context, factor: float) -> str:
        """Protect more, by about ``factor`` (above 1), from the next step on: for a guard that sees too much forgotten.

        Returns what changed, in a few words; empty where there is nothing to tighten. What it changes is part of the state.
        """
        return ""

    def activate(self, ctx: Context) -> None:
        """Put the weights of ``ctx.task`` in place for evaluation (with ``ctx.write``, or by a switch in its own modules)."""

    def export(self, model: nn.Module) -> nn.Module:
        """The model to save and to ship, after the last task: merged, without wrappers, where the method can."""
        return model

    def state_dict(self) -> State:
        """All that a later process needs to go on: tensors and plain values, and the states of parts that have their own."""
        return {name: _state(getattr(self, name)) for name in self.state_names}

    def load_state_dict(self, state: State) -> None:
        """Take up a state that `state_dict` gave.

        Raises:
            ValueError: names are missing or unexpected.
        """
        if set(state) != set(self.state_names):
            missing, extra = sorted(set(self.state_names) - set(state)), sorted(set(state) - set(self.state_names))
            raise ValueError(f"{type(self).__name__}: state does not fit: missing {missing}, unexpected {extra}")
        for name, value in state.items():
            part = getattr(self, name, None)
            if part is not None and hasattr(part, "load_state_dict"):
                part.load_state_dict(value)
            else:
                setattr(self, name, value)

    def gather_state(self, ctx: Context, state: State) -> State:
        """From the `state_dict` of this process, which holds shards of the weights, to that of one process with all of them.

        Collective; the inverse is `shard_state`. Override both where state is sharded in another form than `sharded_state` says.
        """
        if not ctx.held.sharded:
            return state
        whole = {key: _each(state[key], lambda name, tensor: ctx.full(name, tensor).cpu()) for key in self.sharded_state}
        return state | whole

    def shard_state(self, ctx: Context, state: State) -> State:
        """From the `state_dict` of one process to that of this one, which holds shards of the weights."""
        if not ctx.held.sharded or set(state) != set(self.state_names):
            return state
        return state | {key: _each(state[key], ctx.held.own) for key in self.sharded_state}

    def __rshift__(self, other: Method) -> Chain:
        """``self >> other``: both, left to right."""
        return Chain(self, other)


class Chain(Method):
    """Methods applied left to right; losses and penalties add up, gradients and updates pass through one after another.

    Args:
        *methods: at least one; chains among them are flattened.

    Raises:
        InputError: two of them own the same thing (`Method.owns`).
    """

    def __init__(self, *methods: Method) -> None:
        flat: list[Method] = []
        for method in methods:
            if not isinstance(method, Method):
                raise TypeError(f"a chain takes methods, not {type(method).__name__}")
            flat.extend(method.methods if isinstance(method, Chain) else [method])
        if not flat:
            raise ValueError("a chain needs at least one method")
        owners: dict[str, str] = {}
        for method in flat:
            name = type(method).__name__
            if method.owns and method.owns in owners:
                raise InputError(
                    f"{owners[method.owns]} and {name} cannot be chained: both own {method.owns}", where="chain", mend="Keep one of the two"
                )
            owners[method.owns] = name
        self.methods: tuple[Method, ...] = tuple(flat)
        self.needs_retain = any(method.needs_retain for method in flat)
        self.needs_task_id = any(method.needs_task_id for method in flat)

    def prepare(self, model: nn.Module, task: Task) -> nn.Module:
        for method in self.methods:
            model = method.prepare(model, task)
        return model

    def begin_task(self, ctx: Context) -> None:
        for method in self.methods:
            method.begin_task(ctx)

    def begin_step(self, ctx: Context) -> None:
        for method in self.methods:
            method.begin_step(ctx)

    def loss(self, ctx: Context, batch: Any, outputs: Any) -> Tensor | None:
        return _sum([method.loss(ctx, batch, outputs) for method in self.methods])

    def penalty(self, ctx: Context) -> Tensor | None:
        return _sum([method.penalty(ctx) for method in self.methods])

    def gradients(self, ctx: Context, grads: Tree) -> Tree:
        for method in self.methods:
            grads = method.gradients(ctx, grads)
        return grads

    @property
    def edits_gradients(self) -> bool:
        return any(method.edits_gradients for method in self.methods)

    @property
    def filters(self) -> bool:
        return any(method.filters for method in self.methods)

    def descend(self, ctx: Context, parameters: Tree, step: Descent) -> bool:
        """A whole step of the optimizer, by the one method that filters it, where there is but one and it can (`Descends`)."""
        acting = [method for method in self.methods if method.filters]
        return len(acting) == 1 and isinstance(acting[0], Descends) and acting[0].descend(ctx, parameters, step)

    def update(self, ctx: Context, before: Tree, after: Tree) -> Tree:
        acting = [method for method in self.methods if method.filters]
        for index, method in enumerate(acting):
            last = index == len(acting) - 1  # `before` may be used up by the last one only
            after = method.update(ctx, before if last else {k: v.clone() for k, v in before.items()}, after)
        return after

    def violation(self, ctx: Context, before: Tree, written: Tree) -> float | None:
        found = [method.violation(ctx, before, written) for method in self.methods]
        return max((value for value in found if value is not None), default=None)

    def end_task(self, ctx: Context) -> None:
        for method in self.methods:
            method.end_task(ctx)

    def tighten(self, ctx: Context, factor: float) -> str:
        return "; ".join(told for method in self.methods if (told := method.tighten(ctx, factor)))

    def activate(self, ctx: Context) -> None:
        for method in self.methods:
            method.activate(ctx)

    def export(self, model: nn.Module) -> nn.Module:
        for method in reversed(self.methods):
            model = method.export(model)
        return model

    def state_dict(self) -> State:
        return {f"{index}-{type(method).__name__}": method.state_dict() for index, method in enumerate(self.methods)}

    def gather_state(self, ctx: Context, state: State) -> State:
        return {name: method.gather_state(ctx, state[name]) for name, method in zip(state, self.methods, strict=True)}

    def shard_state(self, ctx: Context, state: State) -> State:
        names = [f"{index}-{type(method).__name__}" for index, method in enumerate(self.methods)]
        if sorted(state) != sorted(names):
            return state  # load_state_dict says so
        return {name: method.shard_state(ctx, state[name]) for name, method in zip(names, self.methods, strict=True)}

    def load_state_dict(self, state: State) -> None:
        names = [f"{index}-{type(method).__name__}" for index, method in enumerate(self.methods)]
        if sorted(state) != sorted(names):
            raise ValueError(f"the state is of the chain {sorted(state)}, this chain is {names}")
        for name, method in zip(names, self.methods, strict=True):
            method.load_state_dict(state[name])


def overrides(method: Method, hook: str) -> bool:
    """Whether ``method``, or a part of a chain, has its own version of ``hook``."""
    if isinstance(method, Chain):
        return any(overrides(part, hook) for part in method.methods)
    return getattr(type(method), hook) is not getattr(Method, hook)


def _each(value: Any, change: Callable[[str, Tensor], Tensor]) -> Any:
    return {name: change(name, tensor) for name, tensor in value.items()}


def _state(part: Any) -> Any:
    return part.state_dict() if hasattr(part, "state_dict") else part


def _sum(terms: list[Tensor | None]) -> Tensor | None:
    total: Tensor | None = None
    for term in terms:
        if term is not None:
            total = term if total is None else total + term
    return total
