"""A-GEM: no step against the mean gradient of stored examples."""

from __future__ import annotations

from typing import ClassVar

import torch

from forgetless.core import options
from forgetless.core.context import Context, Tree
from forgetless.core.gradients import mean_gradient
from forgetless.core.method import Method, State
from forgetless.errors import ProtectionError
from forgetless.memory.episodes import Present, offer_all
from forgetless.memory.reservoir import Reservoir
from forgetless.ops.projection import project_one


class AGEM(Method):
    r"""Averaged Gradient Episodic Memory (Chaudhry et al. 2019, arXiv 1812.00420, Eq. 11).

    With g the gradient of the step and :math:`g_{ref}` that of the mean loss on a random batch of all stored examples, at the
    same weights,

    .. math:: \tilde g = g - \frac{g^\top g_{ref}}{g_{ref}^\top g_{ref}}\, g_{ref} \ \text{ where } g^\top g_{ref} < 0,
        \quad \tilde g = g \text{ elsewhere}; \qquad \theta \leftarrow \theta - \eta\, u(\tilde g)

    for the optimizer's step u. Only the gradient is projected: momentum and Adam's scaling may turn
    the step again (the paper's runs use plain SGD).

    The memory is a uniform sample (reservoir) of the examples of all earlier tasks, taken when each ends. A task's ``retain``
    is offered to it when that task begins, so one task with a retain set is protected too. With neither, training is plain, bit for bit.

    Deviations: the authors keep equally many examples for each class, we a uniform sample; the reference is taken in
    evaluation mode; where the task is not known at use, an old example competes with every class seen so far.

    Memory: the stored examples, and one copy of the gradients during the projection. Cost: a forward and backward pass over ``batch_size``
    examples a step, and a few passes over the gradients.

    Args:
        capacity: stored examples of all tasks together.
        batch_size: examples in the reference batch of a step, drawn without replacement; all where fewer are stored.
        seed: of the generator that fills the memory and draws from it.

    Raises:
        InputError: an option is out of range.

    Examples:
        >>> AGEM(capacity=500).batch_size
        256
    """

    state_names: ClassVar[tuple[str, ...]] = ("memory",)
    summary: ClassVar[str] = "projects each step's gradient so that the mean loss on stored examples does not rise; cheaper than gem"
    keeps_examples: ClassVar[bool] = True
    source: ClassVar[str] = "Chaudhry et al. 2019, arXiv 1812.00420, Eq. 11"
    extra_memory: ClassVar[str] = "stored examples, and a copy of the gradients"
    extra_compute: ClassVar[str] = "a forward and backward pass over batch_size stored examples"

    def __init__(self, *, capacity: int = 2000, batch_size: int = 256, seed: int = 0) -> None:
        self.batch_size = options.whole("agem.batch_size", batch_size)
        self.memory = Reservoir(options.whole("agem.capacity", capacity), options.seed("agem.seed", seed))
        self._present: Present | None = None

    def begin_task(self, ctx: Context) -> None:
        self._present = None
        if ctx.task.retain is not None:
            offer_all(self.memory, ctx.everyones(ctx.task.retain), ctx.task.predictions)

    def gradients(self, ctx: Context, grads: Tree) -> Tree:
        if not len(self.memory) or not grads:
            return grads
        self._present = self._present or Present(ctx.task)
        places = ctx.part(torch.randperm(len(self.memory), generator=self.memory.generator)[: self.batch_size].tolist())
        device = next(iter(grads.values())).device
        batches = [self._present(self.memory.store.batch(places, ctx.task.predictions, device))] if places else []
        reference = mean_gradient(ctx, batches, everywhere=False, size=lambda batch: max(1, ctx.task.predictions.terms(batch)))
        try:
            found = project_one(grads, reference, ctx.world.sum_shards)
        except ValueError as error:
            raise ProtectionError(f"A-GEM cannot project this step: {error}") from error
        ctx.report("projected", found.projected)
        ctx.report("reference_dot", found.before)
        ctx.report("projected_dot", found.after)
        return found.gradients

    def end_task(self, ctx: Context) -> None:
        if not ctx.task.last:
            offer_all(self.memory, ctx.everyones(ctx.task.train), ctx.task.predictions)

    def state_dict(self) -> State:
        return {"memory": self.memory.state_dict()}

    def load_state_dict(self, state: State) -> None:
        memory = self.memory
        super().load_state_dict(state)
        self.memory = memory
        memory.load_state_dict(state["memory"])
