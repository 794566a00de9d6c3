"""The one place that writes parameters: it applies a method to any training loop."""

from __future__ import annotations

from collections.abc import Callable, Sized
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from forgetless.core.checks import Places, ScaleWatch, check_method, check_task, trainable
from forgetless.core.context import Context, LossFunction
from forgetless.core.figures import Figures
from forgetless.core.filtering import Filter
from forgetless.core.gradients import edit_gradients
from forgetless.core.inside import InsideBackward, check_inside
from forgetless.core.method import Method, State, overrides
from forgetless.core.search import search
from forgetless.core.sharding import Group, unwrapped, world_of
from forgetless.core.stepping import TakenStep, global_hooks, without_hooks
from forgetless.core.task import Task
from forgetless.errors import InputError, ProtectionError

CHUNK_BYTES = 256 << 20


class Session:
    """A method at work on one task. Made by `attach`; use it as a context manager around the training loop.

    Attributes:
        ctx: what the method sees; ``ctx.step`` and ``ctx.epoch`` count.
    """

    def __init__(
        self,
        method: Method,
        model: nn.Module,
        optimizer: Optimizer,
        task: Task,
        loss_fn: LossFunction,
        *,
        chunk_bytes: int = CHUNK_BYTES,
        group: Group | Literal["alone"] | None = None,
        in_backward: bool = False,
    ) -> None:
        if chunk_bytes < 1:
            raise InputError(f"{chunk_bytes} is no size", where="chunk_bytes", mend="Give a positive number of bytes")
        check_task(method, task)
        world = world_of(model, group)
        inner = unwrapped(model)
        parameters = trainable(inner, optimizer, method)
        check_method(method, processes=world.size, sharded=bool(world.shards))
        if in_backward:
            check_inside(method, world)
        if "step" in vars(optimizer) and getattr(optimizer.step, "__forgetless__", False):
            raise InputError("it already has a session", where="optimizer", mend="Close the other session first")
        self.method, self.chunk_bytes = method, chunk_bytes
        self.ctx = Context(inner, optimizer, task, loss_fn, parameters, world=world)
        self._called, self._in_backward = model, in_backward
        self._places = Places(inner, parameters)
        self._figures = Figures(world)
        self._names = {parameter: name for name, parameter in parameters.items()}
        self._needs_total = overrides(method, "loss")
        counted = isinstance(task.train, Sized) and (world.size == 1 or not task.everywhere)
        self._epoch_length = len(task.train) if counted else None  # type: ignore[arg-type]  # it is sized
        self._calls = 0  # of total(), in this epoch
        self._micro = 0  # of total(), since the last optimizer step
        self._prepared = -1  # the step for which begin_step ran
        self._edited = False  # whether the gradients of this step have been edited
        self._filter = Filter(method, self.ctx, self._figures)
        self._inside = InsideBackward({}, self._step_inside)
        self._active = self._resumed = self._busy = False

    def __enter__(self) -> Session:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        self.close(finished=kind is None)

    def start(self, *, begun: bool = False) -> Session:
        """Begin the task, unless it has begun or a saved state was loaded, and take over ``optimizer.step``."""
        optimizer = self.ctx.optimizer
        if not self._resumed and not begun:
            self._guarded(lambda: self.method.begin_task(self.ctx))
            search(self)
        self._watch = ScaleWatch(self.ctx.held.real)
        self._hook = self._called.register_forward_pre_hook(self._before_forward, prepend=True)  # before FSDP gathers weights
        self._raw = without_hooks(optimizer)
        self._taken = TakenStep(optimizer, self._step)
        self._active = True
        if self._in_backward:
            self._inside = InsideBackward(self.ctx.parameters, self._step_inside)
        return self

    def close(self, *, finished: bool = True) -> None:
        """Give ``optimizer.step`` back; ``finished`` says that the task ended well, so that the method may end it."""
        if not self._active:
            return
        try:
            if finished:
                self._guarded(lambda: self.method.end_task(self.ctx))
                self._figures.tell(self.ctx.metrics)
                self._figures.settle()
        finally:
            self._active = False
            self._filter.close()
            self._hook.remove()
            self._inside.close()
            self._watch.close()
            self._taken.give_back()

    @property
    def metrics(self) -> dict[str, Any]:
        """What the method reported about the latest optimizer step, of the whole model.

        Of several processes every one reads it, or none, as long as the session is open: the first look after a step may be a
        collective. Once the session is closed each may read it by itself.
        """
        return self._figures.metrics()

    @property
    def constraint_violation(self) -> float | None:
        """The largest movement measured so far of a weight that the method said it would not move; None while it promised nothing.

        The largest over all processes, and read by all of them or none, as `metrics`.
        """
        return self._figures.violation()

    def begin_epoch(self, epoch: int) -> None:
        """Say that pass number ``epoch`` (from 0) over the inject set begins. Without it ``len(task.train)`` calls of `total` are one, or,
        where it is not called, as many steps."""
        self.ctx.epoch, self._calls, self._epoch_length = epoch, 0, 0

    def total(self, loss: Tensor, batch: Any = None, outputs: Any = None, *, share: float = 1.0) -> Tensor:
        """The user's loss of one micro-batch plus the method's; call ``backward`` on it.

        Args:
            loss: the scalar loss of the batch.
            batch: the batch, for methods that look at it.
            outputs: the model's outputs on it, likewise.
            share: what to multiply the method's loss with: 1 over the number of micro-batches where ``loss`` has been scaled
                for accumulation already and will not be divided by it.
        """
        self._prepare()
        self._micro += 1
        if self._epoch_length is None and overrides(self.method, "begin_step"):
            raise InputError("it has no length", where="task.train", mend="Call session.begin_epoch(epoch) at the start of every epoch")
        if self._epoch_length:
            self.ctx.epoch, self._calls = self.ctx.epoch + self._calls // self._epoch_length, self._calls % self._epoch_length + 1
        extra = self.method.loss(self.ctx, batch, outputs)
        total = loss if extra is None else loss + (extra if share == 1.0 else extra * share)
        self._watch.watch(total)
        return total

    def edit_gradients(self) -> None:
        """Add the penalty and let the method edit the accumulated gradients now, once for this step, so that what follows (clipping)
        sees the sum. Without it this happens inside ``optimizer.step()``."""
        if not self._active or self._edited:
            return
        if self._in_backward:
            raise ProtectionError("with in_backward the gradients are gone after backward, so they cannot be edited or clipped")
        self._check()
        with torch.no_grad():
            edit_gradients(self.method, self.ctx)
        self._edited = True

    def state_dict(self) -> State:
        """The method's state and the counters; with model, optimizer and random numbers it resumes bit for bit.

        Of several processes every one calls it and gets the same: the state of one process with all weights, which can be taken up
        by any number of processes.
        """
        return {
            "method": self.method.gather_state(self.ctx, self.method.state_dict()),
            "step": self.ctx.step,
            "epoch": self.ctx.epoch,
            "calls": self._calls,
            "prepared": self._prepared,
            "violation": self.constraint_violation,
        }

    def load_state_dict(self, state: State) -> None:
        """Go on from a state of `state_dict`; call it before entering the session."""
        self.method.load_state_dict(self.method.shard_state(self.ctx, state["method"]))
        self.ctx.step, self.ctx.epoch, self._calls = state["step"], state["epoch"], state["calls"]
        self._prepared, self._figures.worst = state["prepared"], state["violation"]
        self._resumed = True

    def _guarded(self, work: Callable[[], None]) -> None:
        self._busy = True  # the method's own forward passes are not the user's
        try:
            work()
        finally:
            self._busy = False

    def _before_forward(self, model: nn.Module, args: Any) -> None:
        if model.training and torch.is_grad_enabled():
            self._prepare()

    def _prepare(self) -> None:
        if self._edited and not self._busy:  # the step whose gradients were edited was left out
            self._micro, self._edited = 0, False
        if self._busy or self._micro or self._prepared == self.ctx.step:
            return
        if self._epoch_length and self._calls == self._epoch_length:
            self.ctx.epoch, self._calls = self.ctx.epoch + 1, 0
        self._prepared = self.ctx.step
        self.ctx.metrics = {}
        self._guarded(lambda: self.method.begin_step(self.ctx))

    def _check(self) -> None:
        self._prepare()
        if self._needs_total and not self._micro:
            raise ProtectionError("session.total(loss, batch, outputs) was not called for this step, so it would go unprotected")
        self._places.check()
        self._watch.check(self.ctx.optimizer)

    def _step(self, closure: Callable[[], Any] | None) -> Any:
        ctx = self.ctx
        if not self._active:
            return self._raw() if closure is None else self._raw(closure)
        overflowed = getattr(ctx.optimizer, "found_inf", None)
        if overflowed is not None and bool(overflowed):  # a fused optimizer is called even then by a GradScaler, to do nothing
            self._micro, self._edited = 0, False
            return None
        result = None
        if closure is not None:
            with torch.enable_grad():
                result = closure()
        if not self._edited:
            self._check()
        for hook in [*global_hooks("pre"), *ctx.optimizer._optimizer_step_pre_hooks.values()]:
            hook(ctx.optimizer, (), {})
        with torch.no_grad():
            if not self._edited and not self._in_backward:
                edit_gradients(self.method, self.ctx)
            ctx.held.bind()  # clipping may have come between
            if self._in_backward:
                self._inside.end_step()
            elif self.method.filters:
                self._filter.step(self._names, self._raw, self.chunk_bytes)
            else:
                self._raw()
        ctx.held.release()
        for hook in [*ctx.optimizer._optimizer_step_post_hooks.values(), *global_hooks("post")]:
            hook(ctx.optimizer, (), {})
        ctx.optimizer._opt_called = True  # type: ignore[attr-defined]  # what schedulers look at
        ctx.step += 1
        self._calls += not self._micro  # without `total` a step counts as a batch
        self._micro, self._edited = 0, False
        ctx.metrics = self._figures.tell(ctx.metrics)
        return result

    def _step_inside(self, parameter: nn.Parameter, name: str) -> bool:
        """Step a parameter whose gradient has just come; False where it is a gradient of the method's own."""
        if self._busy:
            return False
        if not self._inside.began:
            self._check()
        self._watch.check_inside()
        with torch.no_grad():
            self._filter.step({parameter: name}, self._raw, self.chunk_bytes)
        return True


def attach(
    method: Method,
    model: nn.Module,
    optimizer: Optimizer,
    task: Task,
    loss_fn: LossFunction,
    *,
    chunk_bytes: int = CHUNK_BYTES,
    group: Group | Literal["alone"] | None = None,
    in_backward: bool = False,
) -> Session:
    """Protect a training loop: returns the `Session` to wrap around it.

    Args:
        method: a method or a chain.
        model: what ``method.prepare`` returned; in several processes wrapped in DistributedDataParallel, or sharded by ``fully_shard``.
        optimizer: any ``torch.optim`` optimizer over all trainable parameters.
        task: what to learn and what to keep.
        loss_fn: ``loss_fn(model, batch)`` gives the mean loss of a batch as a scalar tensor.
        chunk_bytes: bound on the extra memory of methods that filter the optimizer's step.
        group: where several processes run and the model tells nothing of them: the process group that averages its gradients, or
            ``"alone"`` where every process trains a model of its own.
        in_backward: step each parameter inside ``backward`` and free its gradient: 4 bytes a weight less in fp32. For cpl, and methods
            that act by their loss alone (replay, kl, lwf ...), without accumulation, clipping or a GradScaler.

    Raises:
        InputError: the optimizer is an LBFGS or misses a trainable parameter; the method lacks its retain set, or cannot work
            ``in_backward``.
    """
    return Session(method, model, optimizer, task, loss_fn, chunk_bytes=chunk_bytes, group=group, in_backward=in_backward)
