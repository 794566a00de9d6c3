"""Joint training: the upper bound, with all old data at hand."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor

from forgetless.core import options
from forgetless.core.context import Context, Tree
from forgetless.core.method import Method
from forgetless.memory.distinct import distinct
from forgetless.memory.store import Store
from forgetless.memory.walk import Walk


class Joint(Method):
    r"""Training on everything so far at once: keeps all old data and follows the gradient of the mean loss over all of it.

    With n new examples (those of ``task.train``) and m old ones, every step takes the batch B of new examples and one of as
    many old examples, :math:`B_M`:

    .. math:: \theta \leftarrow \theta - \eta\, \nabla_\theta
        \Big( \tfrac{n}{n+m} L(\theta; B) + \tfrac{m}{n+m} L(\theta; B_M) \Big)

    whose expectation is the gradient of the mean loss over all n + m examples: what is called joint or offline training in
    the literature (van de Ven & Tolias 2019, arXiv 1904.07734), the bound that no method without
    stored data is expected to pass. Old: every different example of the earlier tasks' ``train`` and of every ``retain`` given so far.
    An example that a task repeats counts once, in n as in m. In the class setting old examples are scored against all
    classes so far (`Predictions.update_active`).

    The weights m/n in `loss` and n/(n+m) in `gradients` make the above; so in a chain a penalty of another method is scaled by
    n/(n+m) too. Deviation from training on a shuffled union: each step holds new and old examples in equal number, weighted, in
    place of a random number of each; and earlier tasks were trained before later ones came.

    Memory: all data so far, on the CPU. Cost: a second forward and backward; a walk over ``task.train`` before and after a task.

    Args:
        seed: of drawing.

    Raises:
        InputError: an option is out of range.

    Examples:
        >>> Joint(seed=3).new
        0
    """

    state_names: ClassVar[tuple[str, ...]] = ("old", "walk", "new")
    summary: ClassVar[str] = "trains on all data so far at once; the upper bound, where everything may be kept"
    keeps_examples: ClassVar[bool] = True
    source: ClassVar[str] = "the upper bound of arXiv 1904.07734"
    extra_memory: ClassVar[str] = "all data so far"
    extra_compute: ClassVar[str] = "a second forward and backward"

    def __init__(self, *, seed: int = 0) -> None:
        self.old, self.walk = Store(), Walk(options.seed("joint.seed", seed))
        self.new = 0  # different examples in the task's train

    def begin_task(self, ctx: Context) -> None:
        if ctx.task.retain is not None:
            self._keep(ctx, ctx.task.retain)
        self.new = sum(1 for _ in distinct(ctx.everyones(ctx.task.train), ctx.task.predictions))
        self.walk.restart()

    def loss(self, ctx: Context, batch: Any, outputs: Any) -> Tensor | None:
        if not len(self.old) or not self.new:
            return None
        predictions, device = ctx.task.predictions, next(iter(ctx.parameters.values())).device
        sizes = ctx.world.shares(predictions.size(batch))  # of several processes each draws for all and takes its own
        start = sum(sizes[: ctx.world.rank])
        places = self.walk.draw(sum(sizes), len(self.old))[start : start + sizes[ctx.world.rank]]
        drawn = predictions.update_active(self.old.batch(places, predictions, device), batch, ctx.task.earlier_heads)
        ctx.report("memory_examples", len(self.old))
        return ctx.loss_fn(ctx.model, drawn) * (ctx.balance(predictions.terms(drawn)) * len(self.old) / self.new)

    def gradients(self, ctx: Context, grads: Tree) -> Tree:
        if len(self.old) and self.new:
            for grad in grads.values():
                grad.mul_(self.new / (self.new + len(self.old)))
        return grads

    def end_task(self, ctx: Context) -> None:
        if not ctx.task.last:
            self._keep(ctx, ctx.task.train)

    def _keep(self, ctx: Context, batches: Any) -> None:
        for example in distinct(ctx.everyones(batches), ctx.task.predictions, list(self.old.examples)):
            self.old.add(example)
