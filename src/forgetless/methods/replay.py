"""Experience replay: train on stored old examples along with the new ones."""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import accumulate
from typing import Any, ClassVar, Literal

from torch import Tensor

from forgetless.core import options
from forgetless.core.context import Context
from forgetless.core.predictions import to
from forgetless.core.strength import AUTO, Adjustable
from forgetless.memory.distinct import distinct
from forgetless.memory.diversity import Coverage
from forgetless.memory.reservoir import Reservoir
from forgetless.memory.store import Store
from forgetless.memory.walk import Walk

CAPACITY = 2000


class Replay(Adjustable):
    r"""Experience replay: every batch of new examples comes with one of old examples from a memory.

    .. math:: \theta \leftarrow \theta - \eta\, \nabla_\theta \Big( L(\theta; B) + \lambda\, L(\theta; B_M) \Big),
        \qquad |B_M| = \text{ratio} \cdot |B|

    (Robins 1995; Chaudhry et al. 2019, arXiv 1902.10486, Algorithm 1). ``strength="balanced"`` takes for :math:`\lambda` the
    number of earlier tasks, so that every task counts alike: up to its scale this is the
    :math:`\frac1t L + (1 - \frac1t) L_\text{replay}` of van de Ven & Tolias 2019 (arXiv 1904.07734).

    The memory holds the different examples of ``task.retain``, where one is given: all of them and for this task only, so
    give it with every task in which it should count. And, from the second task on, a choice among the different examples
    of all earlier ``task.train``, made at the end of each task. Drawing is a shuffled walk: every stored example comes once a pass.

    Deviations from 1902.10486: the memory is filled at the end of a task, not while its batches come, so a task does not
    replay itself; draws are without replacement over a pass, not within a batch; an example that a task repeats is offered once.
    In the class setting old examples are scored against all classes so far (`Predictions.update_active`). Where ratio times
    batch size is no whole number the fraction is carried over, and a drawn batch weighs by its size.

    Memory: the stored examples, on the CPU, and while a task ends a hash for each of its examples; ``sampling="diversity"`` then
    also candidates, four times the capacity or 1,000, and their features. Cost: forward and backward on the drawn examples.

    Args:
        capacity: examples kept of all earlier tasks; None: 2,000. If given, it bounds the examples kept of the retain set as well.
        sampling: ``"uniform"``: a reservoir over all that was seen; ``"diversity"``: an equal share a task, chosen by k-centre
            greedy on the inputs of the model's last linear layer (see `Coverage`).
        ratio: old examples for each new one; ``"auto"`` finds it as a task begins, of 1/4, 1/2, 1 and 2 (`Adjustable`).
        strength: weight of their loss, or ``"balanced"``.
        seed: of choosing and drawing.

    Raises:
        InputError: an option is out of range.

    Examples:
        >>> (Replay(capacity=500, ratio=0.5) >> Replay(strength="balanced")).methods[0].capacity
        500
    """

    state_names: ClassVar[tuple[str, ...]] = ("memory", "retained", "walk", "tasks", "earlier", "seen", "drawn", "found", "raised")
    label: ClassVar[str] = "replay.ratio"
    option: ClassVar[str] = "ratio"
    costs: ClassVar[bool] = True
    summary: ClassVar[str] = "mixes stored old examples into every batch; the simplest strong method where old data may be kept"
    keeps_examples: ClassVar[bool] = True
    source: ClassVar[str] = "arXiv 1902.10486, Algorithm 1; arXiv 1904.07734"
    extra_memory: ClassVar[str] = "the stored examples"
    extra_compute: ClassVar[str] = "forward and backward on ratio times the batch"

    def __init__(
        self,
        *,
        capacity: int | None = None,
        sampling: Literal["uniform", "diversity"] = "uniform",
        ratio: float | Literal["auto"] = 1.0,
        strength: float | Literal["balanced"] = 1.0,
        seed: int = 0,
    ) -> None:
        self.capacity = options.count("replay.capacity", capacity)
        self.sampling = options.choice("replay.sampling", sampling, ("uniform", "diversity"))
        self.ratio = ratio if ratio == AUTO else options.number(self.label, ratio, above=True)
        self.strength = strength if strength == "balanced" else options.number("replay.strength", strength)
        self.seed = options.seed("replay.seed", seed)
        self.memory = self._container()
        self.retained, self.walk = Store(), Walk(seed + 1)
        self.tasks = 0  # ended
        self.earlier = 0  # tasks that the memory stands for, a retain set being one
        self.seen = self.drawn = 0  # examples, in this task
        self.raised: float | None = None  # the strength in force in place of the one given, once tightened

    def begin_task(self, ctx: Context) -> None:
        self.retained, self.seen, self.drawn = Store(), 0, 0
        self.earlier = self.tasks + (ctx.task.retain is not None)
        if ctx.task.retain is not None:
            examples = distinct(ctx.everyones(ctx.task.retain), ctx.task.predictions, self.memory.store.examples)
            if self.capacity is None:
                for example in examples:
                    self.retained.add(example)
            else:
                chosen = self._container()
                _take(chosen, ctx, examples)
                self.retained = chosen.store
        self.walk.restart()

    def numbers(self, ctx: Context) -> tuple[float, ...]:
        return (0.25, 0.5, 1.0, 2.0)

    def protects(self, ctx: Context) -> bool:
        return bool(len(self.memory) + len(self.retained))

    @property
    def _weight(self) -> float:
        """The weight of the old examples' loss in force."""
        return self.raised if self.raised is not None else self.earlier if self.strength == "balanced" else float(self.strength)

    def tighten(self, ctx: Context, factor: float) -> str:
        """Raise the weight of the old examples to that of the new ones, but no higher.

        Their number, the ratio, would cost more for each step; and under an optimizer that scales its steps (Adam) a greater weight
        turns each of them into one on what is known already, which loses other things (SmolLM2, in a trial: 5 of 81 against 0).
        """
        was = self._weight
        if not self.protects(ctx) or was >= 1:
            return ""
        self.raised = min(1.0, was * factor) if was else 1.0
        return f"replay.strength from {was:g} to {self.raised:g}"

    def loss(self, ctx: Context, batch: Any, outputs: Any) -> Tensor | None:
        kept, ratio = len(self.memory), self.in_force(ctx)
        weight = self._weight
        if not weight or not ratio or not kept + len(self.retained):
            return None
        predictions, device = ctx.task.predictions, next(iter(ctx.parameters.values())).device
        sizes = ctx.world.shares(predictions.size(batch))  # of several processes each draws for all and takes its own
        ends = [math.floor(ratio * (self.seen + seen) + 1e-9) for seen in accumulate(sizes)]
        own, drawn = range(*([self.drawn, *ends][ctx.world.rank :][:2])), self.drawn
        self.seen, self.drawn = self.seen + sum(sizes), ends[-1]
        if self.drawn == drawn:
            return None
        everyones = self.walk.draw(self.drawn - drawn, kept + len(self.retained))
        places = everyones[own.start - drawn : own.stop - drawn] or everyones[:1]  # with FSDP all go along, be it with a weight of zero
        examples = [self.memory.store.examples[p] if p < kept else self.retained.examples[p - kept] for p in places]
        drawn = predictions.update_active(to(predictions.collate(examples), device), batch, ctx.task.earlier_heads)
        ctx.report("memory_examples", kept + len(self.retained))
        factor = ctx.balance(predictions.terms(drawn) if len(own) else 0)
        return ctx.loss_fn(ctx.model, drawn) * (factor * weight * len(everyones) / (ratio * sum(sizes)))

    def end_task(self, ctx: Context) -> None:
        self.tasks += 1
        if not ctx.task.last:
            _take(self.memory, ctx, distinct(ctx.everyones(ctx.task.train), ctx.task.predictions))

    def _container(self) -> Reservoir | Coverage:
        return (Reservoir if self.sampling == "uniform" else Coverage)(self.capacity or CAPACITY, self.seed)


def _take(memory: Reservoir | Coverage, ctx: Context, examples: Iterable[Any]) -> None:
    if isinstance(memory, Coverage):
        memory.take(ctx, examples)
        return
    for example in examples:
        memory.offer(example)
