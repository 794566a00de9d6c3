"""Predicted against real change of the retain loss: up to which learning rate the first-order story holds."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from forgetless.analysis.correlation import determination, spearman
from forgetless.analysis.passes import BROKEN, context, mean_loss, parts, reference, trainable, watching
from forgetless.core import options
from forgetless.core.context import LossFunction, Tree
from forgetless.core.gradients import borrowed_grads
from forgetless.errors import InputError
from forgetless.ops.similarity import inner
from forgetless.progress import Advance, silent

Step = Literal["sgd", "adamw"]
STEPS: tuple[Step, ...] = ("sgd", "adamw")
EPSILON = 1e-8
"""Adam's."""
TRUSTED = 0.9
"""The least R² at which predictions at a learning rate are called trustworthy."""
RATES = (1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2)


@dataclass(frozen=True, slots=True)
class RatePoint:
    """One learning rate.

    Attributes:
        rate: the learning rate.
        predicted, real: of each step tried, the change of the mean retain loss in nats.
        r2: `determination` of the prediction; None where nothing changed.
        spearman: rank correlation of the two; None where one does not vary.
        moved: the share of the weights looked at that the steps really changed (smaller ones are lost to rounding); mean over the steps.
    """

    rate: float
    predicted: tuple[float, ...]
    real: tuple[float, ...]
    r2: float | None
    spearman: float | None
    moved: float

    @property
    def trusted(self) -> bool:
        """Whether R² reaches `TRUSTED`."""
        return self.r2 is not None and self.r2 >= TRUSTED

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON; a loss that overflowed is None."""
        real = [value if math.isfinite(value) else None for value in self.real]
        return {
            "rate": self.rate, "r2": self.r2, "spearman": self.spearman, "trusted": self.trusted, "moved": self.moved,
            "predicted": list(self.predicted), "real": real,
        }  # fmt: skip


def check_step(where: str, name: str) -> Step:
    """``name`` as one of `STEPS`, or `InputError`."""
    return "sgd" if options.choice(where, name, STEPS) == "sgd" else "adamw"


def direction(grad: Tensor, step: Step) -> Tensor:
    r"""What one learning rate's step goes along, downhill: :math:`g` (``sgd``), or :math:`g / (|g| + 10^{-8})`, the first step of Adam and
    AdamW, whose moments are those of this gradient alone (without AdamW's weight decay)."""
    if step == "sgd":
        return grad
    size = grad.abs().add_(EPSILON)
    return torch.div(grad, size, out=size)


def taylor_curve(
    model: nn.Module,
    loss_fn: LossFunction,
    retain: Sequence[Any],
    inject: Sequence[Any],
    rates: Sequence[float] = RATES,
    *,
    step: Step = "sgd",
    advance: Advance = silent,
) -> list[RatePoint]:
    r"""Step on each inject example alone, at each rate, and measure what the retain loss does.

    Predicted: :math:`-\eta\,\langle g(M), d(i)\rangle` with `direction` d. Real:
    :math:`L_M(\theta - \eta\, d(i)) - L_M(\theta)`, both losses over all of ``retain``, in the model's own dtype, so steps that are
    too small for it show as well. The weights are never written: the stepped ones stand in the gradient's memory and take the
    parameters' place for the time being. Memory: the weights, one gradient, the activations.

    Args:
        model: any model.
        loss_fn: mean loss of a batch.
        retain: batches, weighted by their examples.
        inject: batches, one step each.
        rates: learning rates.
        step: whose step.
        advance: told of every step tried; there are len(rates) times len(inject).

    Returns:
        One point a rate, in the order given.

    Raises:
        InputError: a rate is not a finite number above 0, a set is empty, or the loss at the start is not finite.
    """
    rates = [options.number("rates", rate, above=True) for rate in rates]
    check_step("step", step)
    if not rates or not inject or not retain:
        raise InputError("there is nothing to try", where="rates" if not rates else "data", mend="Give at least one")
    looked = trainable(model)
    start = mean_loss(model, loss_fn, retain)
    slopes = slopes_of(model, loss_fn, retain, inject, step=step)
    found = []
    for rate in rates:
        real, moved = [], 0.0
        for batch in inject:
            change, share = _try(model, loss_fn, looked, retain, batch, rate, step)
            real.append(change - start)
            moved += share / len(inject)
            advance(1)
        predicted = [-rate * slope for slope in slopes]
        fine = all(math.isfinite(value) for value in real)
        rank = spearman(predicted, real) if fine else None
        found.append(RatePoint(rate, tuple(predicted), tuple(real), determination(predicted, real) if fine else None, rank, moved))
    return found


def slopes_of(model: nn.Module, loss_fn: LossFunction, retain: Sequence[Any], inject: Sequence[Any], *, step: Step = "sgd") -> list[float]:
    r""":math:`\langle g(M), d(i)\rangle` for each inject batch i: by how much the retain loss falls for each unit of learning rate."""
    looked = trainable(model)
    found = [0.0] * len(inject)
    row, held = 0, dict[str, Tensor]()

    def visit(name: str, grad: Tensor) -> None:
        if name in held:
            found[row] += float(inner(held[name], direction(grad, step)))

    for part in parts(looked, 1):
        held = reference(model, loss_fn, part, retain)
        with watching(model, loss_fn, part, visit) as take:
            for row, batch in enumerate(inject):  # noqa: B007  # `visit` reads it
                take(batch)
    if not all(math.isfinite(value) for value in found):
        raise InputError("a gradient is not finite", where="model", mend=BROKEN)
    return found


def largest_trusted(points: Sequence[RatePoint]) -> float | None:
    """The largest rate whose R² reaches `TRUSTED`; None where none does."""
    return max((point.rate for point in points if point.trusted), default=None)


@contextmanager
def swapped(parameters: Mapping[str, nn.Parameter], values: Tree) -> Iterator[None]:
    """Inside, the parameters have other ``values``; afterwards their own again, bit for bit, since nothing is written."""
    own = {name: parameters[name].data for name in values}
    try:
        for name, value in values.items():
            parameters[name].data = value
        yield
    finally:
        for name, value in own.items():
            parameters[name].data = value


def stepped(parameters: Mapping[str, nn.Parameter], grads: Tree, rate: float, step: Step) -> tuple[Tree, float]:
    r""":math:`\theta - \eta\, d`, made in the memory of ``grads`` (used up), and the share of all weights that differ from before."""
    moved, numel = 0, 0
    for name, grad in grads.items():
        own = parameters[name].detach()
        value = direction(grad, step).mul_(-rate).add_(own)
        moved += int((value != own).sum())
        grads[name] = value
    numel = sum(parameter.numel() for parameter in parameters.values())
    return grads, moved / numel


def _try(
    model: nn.Module, loss_fn: LossFunction, looked: dict[str, nn.Parameter], retain: Sequence[Any], batch: Any, rate: float, step: Step
) -> tuple[float, float]:
    """The retain loss after one step (not a number where it overflows), and the share of weights that moved."""
    with borrowed_grads(context(model, loss_fn, looked)):
        values, moved = stepped(looked, reference(model, loss_fn, looked, [batch]), rate, step)
        with swapped(looked, values):
            try:
                return mean_loss(model, loss_fn, retain), moved
            except InputError:  # the loss at the start is finite, so the step is what broke it
                return math.nan, moved
