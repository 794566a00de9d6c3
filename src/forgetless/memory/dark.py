"""A reservoir of examples with the logits that the model gave them (Buzzega et al. 2020, Dark Experience Replay)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import zip_longest
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from forgetless.core import options
from forgetless.core.context import Context, Tree
from forgetless.core.gradients import quiet
from forgetless.core.method import Method
from forgetless.core.predictions import to
from forgetless.memory.distinct import quietly
from forgetless.memory.reservoir import Reservoir


class DarkReservoir(Reservoir):
    """Holds (x, y, z): an example and its logits for every unit, at the time when it was offered.

    Examples are collected while the micro-batches of a step go by, and offered once the step is whole, so that the memory
    does not depend on gradient accumulation.
    """

    def __init__(self, capacity: int, seed: int = 0, *, where: str = "capacity") -> None:
        super().__init__(capacity, seed, where=where)
        self._waiting: list[tuple[Any, Tensor]] = []

    def begin(self, ctx: Context) -> None:
        """Begin a task: offer its retain set, if there is one, with the model's logits in evaluation mode."""
        self._waiting = []
        predictions, device = ctx.task.predictions, _device(ctx)
        with quiet(ctx.model), torch.no_grad():
            for batch in quietly(ctx.everyones(ctx.task.retain or ())):
                moved = to(batch, device)
                self._waiting.append((batch, predictions.logits(predictions.outputs(ctx.model, moved), moved, every=True)))
                self._offer_waiting(ctx, [self._waiting])

    def collect(self, ctx: Context, batch: Any, outputs: Any) -> None:
        """Note the examples of a micro-batch; without ``outputs`` by a forward pass of its own."""
        predictions = ctx.task.predictions
        if outputs is None:
            with torch.no_grad():
                outputs = predictions.outputs(ctx.model, batch)
        self._waiting.append((batch, predictions.logits(outputs, batch, every=True).detach()))

    def draw_own(self, ctx: Context, batch: Any, times: int) -> list[int]:
        """``times`` places for each example of the batch; of several processes each draws for all and takes its own."""
        sizes = [times * size for size in ctx.world.shares(ctx.task.predictions.size(batch))]
        start = sum(sizes[: ctx.world.rank])
        return self.draw(sum(sizes))[start : start + sizes[ctx.world.rank]]

    def settle(self, ctx: Context) -> None:
        """Offer what was noted; of several processes every one what all noted."""
        own = [(to(batch, "cpu"), logits.cpu()) for batch, logits in self._waiting]
        self._offer_waiting(ctx, ctx.world.gather(own))

    def _offer_waiting(self, ctx: Context, noted: list[list[tuple[Any, Tensor]]]) -> None:
        """Offer the examples noted by each process, micro-batch by micro-batch."""
        predictions = ctx.task.predictions
        for batch, logits in [(to(batch, "cpu"), logits.cpu()) for parts in zip_longest(*noted) for batch, logits in filter(None, parts)]:
            counts = torch.bincount(predictions.owners(batch), minlength=predictions.size(batch)).tolist()
            parts = torch.split(logits, counts)
            examples: list[Any] = []
            for index, own in enumerate(parts):
                place = self.place()
                if place is not None:  # most are not kept once many have been seen: only those that are get cut out
                    examples = examples or predictions.examples(batch)
                    self.put(place, predictions.collate([examples[index]]), {"logits": own})
        self._waiting = []

    def distance(self, ctx: Context, places: Sequence[int]) -> Tensor:
        r"""Mean of :math:`(h_\theta(x) - z)^2` over the rows and units of these examples."""
        batch = self.store.batch(places, ctx.task.predictions, _device(ctx))
        predictions = ctx.task.predictions
        now = predictions.logits(predictions.outputs(ctx.model, batch), batch, every=True)
        return ctx.balance(len(now)) * functional.mse_loss(now, self.store.extra("logits", places, now.device).to(now.dtype))

    def labelled_loss(self, ctx: Context, places: Sequence[int], new: Any) -> Tensor:
        """The task's own loss on these examples and their labels, beside the new batch ``new``."""
        predictions = ctx.task.predictions
        batch = self.store.batch(places, predictions, _device(ctx))
        return ctx.balance(predictions.terms(batch)) * ctx.loss_fn(ctx.model, predictions.update_active(batch, new, ctx.task.earlier_heads))


class DarkReplay(Method, ABC):
    """A method that fills a `DarkReservoir` with all that it is trained on, and replays from it; what of that counts is `replayed`.

    Args:
        name: the method's, for messages.
        capacity: examples held.
        seed: of the reservoir.
    """

    state_names: ClassVar[tuple[str, ...]] = ("memory",)
    keeps_examples: ClassVar[bool] = True
    extra_memory: ClassVar[str] = "the stored examples and their logits"

    def __init__(self, name: str, capacity: int, seed: int) -> None:
        self.memory = DarkReservoir(capacity, options.seed(f"{name}.seed", seed), where=f"{name}.capacity")

    def begin_task(self, ctx: Context) -> None:
        self.memory.begin(ctx)

    def loss(self, ctx: Context, batch: Any, outputs: Any) -> Tensor | None:
        self.memory.collect(ctx, batch, outputs)
        ctx.report("memory_examples", len(self.memory))
        return self.replayed(ctx, batch) if len(self.memory) else None

    @abstractmethod
    def replayed(self, ctx: Context, batch: Any) -> Tensor | None:
        """The loss on drawn examples beside the new ``batch``, or None."""

    def gradients(self, ctx: Context, grads: Tree) -> Tree:
        self.memory.settle(ctx)
        return grads


def _device(ctx: Context) -> torch.device:
    return next(iter(ctx.parameters.values())).device
