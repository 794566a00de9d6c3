"""Elastic Weight Consolidation: hold each weight by how much it mattered to every earlier task."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from forgetless.core import importance, options
from forgetless.core.context import Context, Tree
from forgetless.core.strength import Adjustable, number_or_auto
from forgetless.ops import quadratic


class EWC(importance.Consolidating, Adjustable):
    r"""Elastic Weight Consolidation (Kirkpatrick et al. 2017, arXiv 1612.00796, Eq. 3), a penalty for each earlier task.

    .. math:: \tilde L(\theta) = L(\theta) + \frac{\text{strength}}{2} \sum_{k} \sum_i F^k_i (\theta_i - \theta^{*k}_i)^2,
        \qquad F^k_i = \frac1N \sum_n \Big(\frac{\partial \log p(y_n \mid x_n)}{\partial \theta_i}\Big)^2

    with the weights :math:`\theta^{*k}` at the end of task k, and the diagonal Fisher information there. The square is of each
    example's own gradient; a sequence's log-likelihood is the sum over its labelled tokens.

    A sum of quadratics is a quadratic: all penalties are folded into one, exactly, and only that one is kept (its value
    includes the constant, so it equals the sum). Fishers only ever add up, so the weights stiffen with every task:
    `online-ewc` forgets that gradually.

    Deviations from the paper: the log-likelihood is of the model's own outputs whatever ``loss_fn`` is; at most ``examples``
    examples are looked at, each in evaluation mode. Without an earlier task ``task.retain`` stands for one: the Fisher is
    then taken on it, at the weights that training begins with.

    Memory: 8 bytes per parameter (sum of Fishers, joint anchor), however many tasks. Cost: element-wise per step; at the end of
    a task a forward and backward pass for each of ``examples`` examples, one by one.

    Args:
        strength: :math:`\lambda`. It multiplies a mean over examples, so useful values are large and differ by orders
            of magnitude between problems: sweep it by factors of ten, or let ``"auto"`` find it as a task begins (`Adjustable`).
        labels: ``"model"``: labels drawn from the model's distribution (the Fisher information); ``"data"``: the true labels
            (the empirical Fisher, which vanishes where the model fits its data).
        examples: how many examples to draw for the Fisher; None takes all.
        seed: of the generator that draws labels and examples.

    Raises:
        InputError: an option is out of range.

    Examples:
        >>> EWC(strength=1000.0, labels="data", examples=None).labels
        'data'
    """

    state_names: ClassVar[tuple[str, ...]] = ("fisher", "anchor", "constant", "draws", "found")
    sharded_state: ClassVar[tuple[str, ...]] = ("fisher", "anchor")
    label: ClassVar[str] = "ewc.strength"
    summary: ClassVar[str] = (
        "holds each weight by its Fisher information on every earlier task; needs no old data in a stream, stiffens with tasks"
    )
    source: ClassVar[str] = "Kirkpatrick et al. 2017, arXiv 1612.00796, Eq. 3"
    extra_memory: ClassVar[str] = "8 bytes per parameter, however many tasks"
    extra_compute: ClassVar[str] = "element-wise; once a task a forward and backward pass for each of `examples` examples"

    def __init__(
        self,
        *,
        strength: float | Literal["auto"] = 10.0,
        labels: importance.Labels = "model",
        examples: int | None = 200,
        seed: int = 0,
    ) -> None:
        super().__init__("ewc", examples, seed)
        self.strength = number_or_auto(self.label, strength)
        self.labels = options.choice("ewc.labels", labels, ("model", "data"))
        self.fisher: Tree = {}
        self.constant = 0.0

    def protects(self, ctx: Context) -> bool:
        return bool(self.anchor)

    def penalty(self, ctx: Context) -> Tensor | None:
        strength = self.in_force(ctx)
        if not strength:
            return None
        found = quadratic.penalty(ctx.parameters, self.anchor, self.fisher, strength / 2)
        return None if found is None else found + strength / 2 * self.constant

    def consolidate(self, ctx: Context, batches: Iterable[Any]) -> None:
        """Add a penalty for the task that ``batches`` are of, at the current weights."""
        found = importance.fisher(ctx, batches, labels=self.labels, examples=self.examples, generator=self.generator)
        constant = 0.0
        for name, fisher in found.items():
            here = ctx.parameters[name].detach().to(fisher.dtype, copy=True)
            if name in self.fisher:
                self.fisher[name], self.anchor[name] = self.fisher[name].to(fisher.device), self.anchor[name].to(fisher.device)
                constant += float(quadratic.fold(self.anchor[name], self.fisher[name], here, fisher))
            else:
                self.fisher[name], self.anchor[name] = fisher, here
        self.constant += float(ctx.world.sum_shards(torch.tensor(constant, dtype=torch.float64)))
