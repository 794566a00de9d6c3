"""Synaptic Intelligence: hold each weight by how much its way lowered the loss while it learned."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import Tensor

from forgetless.core import options
from forgetless.core.context import Context, Tree
from forgetless.core.strength import Adjustable, number_or_auto
from forgetless.ops import quadratic


class SI(Adjustable):
    r"""Synaptic Intelligence (Zenke, Poole & Ganguli 2017, arXiv 1703.04200, Eq. 3-5): importance along the path of training.

    .. math:: \tilde L(\theta) = L(\theta) + \text{strength} \sum_i \Omega_i (\theta_i - \theta^*_i)^2, \qquad
        \omega_i = -\sum_t g_i(t)\, \Delta\theta_i(t), \qquad
        \Omega_i \leftarrow \max\Big(0,\; \Omega_i + \frac{\omega_i}{\Delta_i^2 + \xi}\Big)

    (without the factor 1/2, as in the paper), where :math:`g` is the gradient of the task's loss as the optimizer saw it, without this
    penalty's own part, :math:`\Delta\theta` the real displacement of each optimizer step (momentum, weight decay and all),
    :math:`\Delta` the displacement over the task, and :math:`\theta^*` the weights at its end, from which the next task begins.

    Deviations from the paper: the maximum with zero, which the authors' code has too (a negative importance would push weights
    away without bound). If gradients are clipped, or other methods of a chain add to them or change them, the integral is of what
    the optimizer saw. What clipping takes away of the penalty's part is not known here: all of that part is taken out, so that from the
    second task on a share of it counts with the other sign wherever clipping (which trainers do at a norm of 1) is in force.
    A method after this one in a chain may change the displacement unseen, so put it last.

    Memory: 12 bytes per parameter (path integral, importance, anchor), and the session's chunk. Cost: element-wise per step, no data.
    It protects what was learned under it: not what a pretrained model brought along.

    Args:
        strength: :math:`c` of the paper, which has 0.1 for permuted and 1 for split MNIST; ``"auto"`` finds it as a task
            begins (`Adjustable`).
        xi: :math:`\xi`, which bounds the importance of weights that hardly moved.

    Raises:
        InputError: an option is out of range.

    Examples:
        >>> SI(xi=0.01).strength
        0.1
    """

    state_names: ClassVar[tuple[str, ...]] = ("path", "importance", "anchor", "found")
    sharded_state: ClassVar[tuple[str, ...]] = ("path", "importance", "anchor")
    label: ClassVar[str] = "si.strength"
    summary: ClassVar[str] = (
        "holds each weight by how much its way lowered the loss; needs no data, protects only what was learned under it"
    )
    source: ClassVar[str] = "Zenke et al. 2017, arXiv 1703.04200, Eq. 3-5"
    extra_memory: ClassVar[str] = "12 bytes per parameter, and chunk_bytes"
    extra_compute: ClassVar[str] = "element-wise only, no data"

    def __init__(self, *, strength: float | Literal["auto"] = 0.1, xi: float = 0.1) -> None:
        self.strength = number_or_auto(self.label, strength)
        self.xi = options.number("si.xi", xi, above=True)
        self.path: Tree = {}
        self.importance: Tree = {}
        self.anchor: Tree = {}

    def begin_task(self, ctx: Context) -> None:
        self.anchor = quadratic.copies(ctx.parameters)
        self.path = {name: torch.zeros_like(anchor) for name, anchor in self.anchor.items()}

    def protects(self, ctx: Context) -> bool:
        return bool(self.importance)

    def penalty(self, ctx: Context) -> Tensor | None:
        strength = self.in_force(ctx)
        if not strength or not self.importance:
            return None
        return quadratic.penalty(ctx.parameters, self.anchor, self.importance, strength)

    def update(self, ctx: Context, before: Tree, after: Tree) -> Tree:
        strength = self.in_force(ctx)
        for name, now in after.items():
            if name not in self.path or name not in ctx.gradients:
                continue
            self.path[name], self.anchor[name] = self.path[name].to(now.device), self.anchor[name].to(now.device)
            piece = slice(ctx.offsets.get(name, 0), ctx.offsets.get(name, 0) + now.numel())
            path, anchor = self.path[name].view(-1)[piece], self.anchor[name].view(-1)[piece]
            gradient, was = ctx.gradients[name].reshape(-1).to(path.dtype), before[name].reshape(-1)
            if strength and name in self.importance:
                held = self.importance[name].to(now.device).view(-1)[piece]
                gradient = gradient - quadratic.pull(was, anchor, held, strength)
            path.addcmul_(gradient, now.reshape(-1).to(path.dtype) - was.to(path.dtype), value=-1)
        return after

    def end_task(self, ctx: Context) -> None:
        if ctx.task.last:
            return
        for name, path in self.path.items():
            moved = ctx.parameters[name].detach().to(path.dtype) - self.anchor[name].to(path.device)
            gained = path.div_(moved.square_().add_(self.xi))
            if name in self.importance:
                gained.add_(self.importance[name].to(path.device))
            self.importance[name] = gained.clamp_(min=0)
        self.path, self.anchor = {}, quadratic.copies(ctx.parameters)
