"""How much each weight matters on some data: means over examples of what single examples' gradients say."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Literal

import torch
from torch import Tensor

from forgetless.core import options
from forgetless.core.context import Context, Tree
from forgetless.core.gradients import borrowed_grads, quiet
from forgetless.core.method import Method
from forgetless.core.predictions import to
from forgetless.core.sharding import reducing
from forgetless.errors import InputError, ProtectionError
from forgetless.ops.quadratic import wide

Labels = Literal["model", "data"]


class Consolidating(Method, ABC):
    """A method that works out, at the end of every task but the last, how much each weight mattered to it, and holds weights by that.

    Without an earlier task ``task.retain`` stands for one. What is drawn at random comes from a generator of its own, whose state is
    ``draws``.

    Args:
        name: the method's, for messages.
        examples: how many to look at; None takes all.
        seed: of the generator.
    """

    def __init__(self, name: str, examples: int | None, seed: int) -> None:
        self.examples = options.count(f"{name}.examples", examples)
        self.generator = torch.Generator().manual_seed(options.seed(f"{name}.seed", seed))
        self.anchor: Tree = {}

    @property
    def draws(self) -> Tensor:
        """State of the generator."""
        return self.generator.get_state()

    @draws.setter
    def draws(self, state: Tensor) -> None:
        self.generator.set_state(state.cpu())

    def begin_task(self, ctx: Context) -> None:
        if ctx.task.retain is not None and not self.anchor:
            self.consolidate(ctx, ctx.task.retain)

    def end_task(self, ctx: Context) -> None:
        if not ctx.task.last:
            self.consolidate(ctx, ctx.task.train)

    @abstractmethod
    def consolidate(self, ctx: Context, batches: Iterable[Any]) -> None:
        """Take in the task that ``batches`` are of, at the current weights; fills ``anchor``."""


def fisher(ctx: Context, batches: Iterable[Any], *, labels: Labels, examples: int | None, generator: torch.Generator) -> Tree:
    r"""The diagonal of the Fisher information: :math:`F_i = \frac1N \sum_n (\partial_i \log p_\theta(y_n \mid x_n))^2`.

    The square is of each example's own gradient. An example's log-likelihood is the sum over its predicted rows: of a classifier
    one, of a language model all its labelled tokens.

    Args:
        ctx: the session's context.
        batches: walked once.
        labels: ``"model"``: :math:`y_n` is drawn from the model's own distribution (of a language model every labelled position's
            token, given the true ones before it), whose expectation is the Fisher information; ``"data"``: the labels of the data
            (the empirical Fisher).
        examples: how many, drawn uniformly from all; None takes all.
        generator: of the draws.
    """
    predictions = ctx.task.predictions

    def likelihood(example: Any) -> Tensor:
        logits = predictions.logits(predictions.outputs(ctx.model, example), example)
        logs = logits.to(wide(logits.dtype)).log_softmax(-1)
        if labels == "data":
            chosen = predictions.labels(example).to(logs.device)
        elif len(logs):
            chosen = torch.multinomial(logs.detach().exp().cpu(), 1, generator=generator)[:, 0]
            chosen = ctx.world.first(chosen).to(logs.device)
        else:
            chosen = torch.empty(0, dtype=torch.int64, device=logs.device)
        return logs.gather(1, chosen[:, None]).sum()

    return _mean(ctx, draw(ctx, batches, examples, generator), likelihood, lambda total, grad: total.addcmul_(grad, grad))


def sensitivity(ctx: Context, batches: Iterable[Any], *, examples: int | None, generator: torch.Generator) -> Tree:
    r"""How strongly a weight moves the outputs: :math:`\frac1N \sum_n |\partial_i \lVert f_\theta(x_n) \rVert_2^2|`. Reads no labels.

    The norm is of an example's logits, over all its predicted rows and the output units that it may use.
    """
    predictions = ctx.task.predictions

    def norm(example: Any) -> Tensor:
        logits = predictions.logits(predictions.outputs(ctx.model, example), example)
        active = predictions.active(example)
        if active is not None:
            logits = logits.masked_fill(~active.to(logits.device), 0)
        return logits.to(wide(logits.dtype)).square().sum()

    return _mean(ctx, draw(ctx, batches, examples, generator), norm, lambda total, grad: total.add_(grad.abs()))


def draw(ctx: Context, batches: Iterable[Any], count: int | None, generator: torch.Generator) -> Iterator[Any]:
    """Examples (batches of one) on the model's device: all, or ``count`` drawn uniformly (Algorithm R, Vitter 1985).

    Of several processes each gets the same examples, drawn from the batches of all.
    """
    predictions = ctx.task.predictions
    device = next(iter(ctx.parameters.values())).device
    batches = ctx.everyones(batches)
    if count is None:
        for batch in batches:
            for example in predictions.examples(batch):
                yield to(example, device)
        return
    kept: list[Any] = []
    seen = 0
    for batch in batches:
        size = predictions.size(batch)
        offered = torch.arange(seen + 1, seen + size + 1)
        places = torch.where(offered <= count, offered - 1, (torch.rand(size, generator=generator, dtype=torch.float64) * offered).long())
        seen += size
        if not (places < count).any():
            continue
        for example, place in zip(predictions.examples(batch), places.tolist(), strict=True):
            if place < count:
                own = predictions.collate([example])  # a copy: a view would keep its whole batch in memory
                kept[place : place + 1] = [own]
    for example in kept:
        yield to(example, device)


def _mean(ctx: Context, examples: Iterator[Any], value: Callable[[Any], Tensor], add: Callable[[Tensor, Tensor], object]) -> Tree:
    """The mean over examples of what ``add`` makes of the gradient of ``value``; in evaluation mode, touching no gradient of the user's.

    Of several processes all go through the same examples side by side: the mean that FSDP takes over processes is then of one
    example's gradient with itself, so that the square is of a single example's.
    """
    total = {name: torch.zeros_like(parameter, dtype=wide(parameter.dtype)).detach() for name, parameter in ctx.parameters.items()}
    count = 0
    with borrowed_grads(ctx), quiet(ctx.model), reducing(ctx.model):
        for example in examples:
            count += 1
            value(example).backward()  # type: ignore[no-untyped-call]  # torch leaves backward untyped
            for name, grad in ctx.held.gradients().items():
                add(total[name], grad.to(total[name].dtype))
                ctx.held.real[name].grad = None
    if not count:
        raise InputError("the data gives no batch", mend="Give the task batches that can be walked again (a list, a DataLoader)")
    for name, tensor in total.items():
        if not torch.isfinite(tensor.div_(count)).all():
            raise ProtectionError(f"how much {name!r} matters is not finite; the model's outputs on the data, or their gradients, overflow")
    return total
