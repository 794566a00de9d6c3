"""GEM: no step against the gradient of any stored task."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, ClassVar

import torch

from forgetless.core import options
from forgetless.core.context import Context, Tree
from forgetless.core.gradients import mean_gradient
from forgetless.core.method import Method, State
from forgetless.errors import ProtectionError
from forgetless.memory.episodes import Present, in_turn, offer_all
from forgetless.memory.reservoir import Reservoir
from forgetless.memory.store import Store
from forgetless.ops.projection import project


class GEM(Method):
    r"""Gradient Episodic Memory (Lopez-Paz & Ranzato 2017, arXiv 1706.08840, Eq. 8-12).

    With g the gradient of the step and :math:`G = (g_1, \dots, g_t)` those of the mean loss on each stored task, at the same
    weights: where any :math:`g^\top g_k < 0`,

    .. math:: v = \arg\min_{v \ge \gamma} \tfrac12 v^\top G G^\top v + g^\top G^\top v, \qquad
        \tilde g = G^\top v + g, \qquad \theta \leftarrow \theta - \eta\, u(\tilde g)

    for the optimizer's step u: the nearest gradient along which no stored loss rises to first order (margin :math:`\gamma` = 0).
    Only the gradient is projected: momentum and Adam's scaling may turn the step again (the paper's runs use plain SGD).

    A task's ``retain`` counts as one more stored task. With no earlier task and no retain set, training is plain, bit for bit.

    Deviations: each task keeps a uniform sample of its examples, taken when it ends (the authors: its last ones); the QP is
    solved as the equivalent non-negative least squares problem, on gradients of length one and with a ridge of 2.5e-13 (the
    authors: :math:`10^{-3} I` on :math:`G G^\top`); the margin is 0 (their scripts: 0.5); stored gradients are taken in
    evaluation mode; where the task is not known at use, an old example competes with every class seen so far.

    Memory: the stored examples, and one copy of the gradients for each stored task during the projection. Cost: a forward
    and backward pass over all stored examples a step (and ``retain_batches``), and (t + 1)²/2 inner products.

    Args:
        per_task: examples kept of each task.
        margin: the authors' memory strength, the least weight v of every stored gradient once any inner product is
            negative; above 0 the step also improves the stored tasks.
        batch_size: stored examples in one forward pass.
        retain_batches: batches of the retain set looked at in a step, in turn; None means all.
        seed: of the sample.

    Raises:
        InputError: an option is out of range.

    Examples:
        >>> GEM(margin=0.5).per_task
        256
    """

    state_names: ClassVar[tuple[str, ...]] = ("memories", "position")
    summary: ClassVar[str] = "projects each step's gradient so that no stored task's loss rises; costs a pass over each"
    keeps_examples: ClassVar[bool] = True
    source: ClassVar[str] = "Lopez-Paz & Ranzato 2017, arXiv 1706.08840, Eq. 8-12"
    extra_memory: ClassVar[str] = "stored examples, and a copy of the gradients a stored task"
    extra_compute: ClassVar[str] = "a forward and backward pass over every stored example"

    def __init__(
        self, *, per_task: int = 256, margin: float = 0.0, batch_size: int = 64, retain_batches: int | None = None, seed: int = 0
    ) -> None:
        self.per_task, self.batch_size = options.whole("gem.per_task", per_task), options.whole("gem.batch_size", batch_size)
        self.margin, self.seed = options.number("gem.margin", margin), options.seed("gem.seed", seed)
        self.retain_batches = options.count("gem.retain_batches", retain_batches)
        self.memories: list[Store] = []
        self.position = 0
        self._present: Present | None = None

    def begin_task(self, ctx: Context) -> None:
        self._present, self.position = None, 0

    def gradients(self, ctx: Context, grads: Tree) -> Tree:
        device = next((grad.device for grad in grads.values()), None)
        if device is None:
            return grads
        stored = [mean_gradient(ctx, self._batches(ctx, memory, device), everywhere=True) for memory in self.memories]
        if ctx.task.retain is not None:
            stored.append(mean_gradient(ctx, self._retained(ctx.task.retain)))
        if not stored:
            return grads
        try:
            found = project(grads, stored, self.margin, ctx.world.sum_shards)
        except ValueError as error:
            raise ProtectionError(f"GEM cannot project this step: {error}") from error
        ctx.report("projected", found.projected)
        ctx.report("worst_dot", found.before)
        ctx.report("projected_dot", found.after)
        return found.gradients

    def end_task(self, ctx: Context) -> None:
        if ctx.task.last:
            return
        sample = Reservoir(self.per_task, self.seed + len(self.memories))
        offer_all(sample, ctx.everyones(ctx.task.train), ctx.task.predictions)
        if len(sample):
            self.memories.append(sample.store)

    def state_dict(self) -> State:
        return {"memories": [memory.state_dict() for memory in self.memories], "position": self.position}

    def load_state_dict(self, state: State) -> None:
        super().load_state_dict(state)
        self.memories = [Store() for _ in state["memories"]]
        for memory, kept in zip(self.memories, state["memories"], strict=True):
            memory.load_state_dict(kept)

    def _batches(self, ctx: Context, memory: Store, device: torch.device) -> Iterator[Any]:
        """All examples of one stored task."""
        self._present = self._present or Present(ctx.task)
        for start in range(0, len(memory), self.batch_size):
            places = range(start, min(start + self.batch_size, len(memory)))
            yield self._present(memory.batch(places, ctx.task.predictions, device))

    def _retained(self, retain: Iterable[Any]) -> Iterable[Any]:
        """The retain batches of one step: all, or the next few."""
        if self.retain_batches is None:
            return retain
        found, self.position = in_turn(retain, self.position, self.retain_batches)
        return found
