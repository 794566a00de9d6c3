"""WiSE-FT: after training, go back part of the way to where it began."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from forgetless.core import options
from forgetless.core.context import Context, Tree
from forgetless.core.method import Method
from forgetless.core.predictions import to
from forgetless.ops.interpolation import between, largest, least, stays


class Wise(Method):
    r"""WiSE-FT (Wortsman et al. 2021, arXiv 2109.01903, Eq. 1): weights between those at the start and those at the end of a task.

    .. math:: \theta = (1 - \alpha)\, \theta_0 + \alpha\, \theta_1

    Training itself is plain. As the task ends its weights :math:`\theta_1` are blended with those that it began with,
    :math:`\theta_0`. ``alpha="auto"`` takes the largest step on that line, to 1/32 by bisection, at which at most the share ``budget``
    of the retain set's examples is forgotten: right at :math:`\theta_0` and wrong now, where an example is right if each of its
    labelled rows has its label as the argmax. ``alpha="least"`` takes the smallest step from which on the share ``enough`` of the
    task's own examples that are right at :math:`\theta_1` still is: what learning does not need is given back. It needs no old data.

    Deviations from the paper: its start is the zero-shot model, here each task of a stream starts where the one before it ended; the
    searches are ours. Of a LoRA adapter, which adds a product B A that begins at B = 0, only B is blended, which is the line between
    the merged weights. Buffers (running means) stay as training left them. In a chain put it before methods that change weights as a
    task ends (packnet prunes) or measure there what the weights are (ewc, mas): these see the blend then, else what was trained.

    Memory: 4 bytes per trainable parameter (fp32), in main memory; a search takes 4 more as a task ends. Cost: none while training; as a
    task ends seven forward passes over the retain set with ``"auto"``, six over the task with ``"least"``.

    Args:
        alpha: the share of the way from the start, in [0, 1], ``"auto"`` or ``"least"``. The paper takes 0.5 where nothing is known.
        budget: with ``"auto"``: the share of what was known of the retain set that may be forgotten.
        enough: with ``"least"``: the share of what is right of the task's examples, as training ends, that must stay so.

    Raises:
        InputError: an option is out of range, or ``"auto"`` has no retain set.

    Examples:
        >>> Wise(alpha="auto", budget=0.02).needs_retain
        True
    """

    state_names: ClassVar[tuple[str, ...]] = ("weights", "chosen")
    sharded_state: ClassVar[tuple[str, ...]] = ("weights",)
    summary: ClassVar[str] = "blends the weights after training with those before it; cheap, needs no data, and as a task ends only"
    source: ClassVar[str] = "Wortsman et al. 2021, arXiv 2109.01903, Eq. 1"
    extra_memory: ClassVar[str] = "4 bytes per trainable parameter (fp32), in main memory; with a search for alpha 4 more as a task ends"
    extra_compute: ClassVar[str] = (
        "none; as a task ends alpha=auto: seven forward passes over the retain set, alpha=least: six over the task"
    )

    def __init__(self, *, alpha: float | Literal["auto", "least"] = 0.5, budget: float = 0.01, enough: float = 0.95) -> None:
        if isinstance(alpha, str):
            self.alpha: float | str = options.choice("wise.alpha", alpha, ("auto", "least"))
        else:
            self.alpha = options.number("wise.alpha", alpha, high=1.0)
        self.budget = options.number("wise.budget", budget, below=1.0)
        self.enough = options.number("wise.enough", enough, above=True, high=1.0)
        self.needs_retain = alpha == "auto"
        searched = {"auto": "the retain set", "least": "the task"}.get(alpha) if isinstance(alpha, str) else None
        self.needs_whole_weights = f"alpha={alpha} looks at {searched} with blended weights" if searched else ""  # type: ignore[misc]  # of this object
        self.weights: Tree = {}
        self.chosen: float | None = None  # the share of the way in the task that ended last

    def begin_task(self, ctx: Context) -> None:
        self.weights = {name: parameter.detach().to("cpu", copy=True) for name, parameter in ctx.parameters.items()}

    def end_task(self, ctx: Context) -> None:
        found = {name: ctx.parameters[name].detach() for name in self.weights if not stays(name)}
        end = {name: after.clone() for name, after in found.items()} if isinstance(self.alpha, str) else found

        def put(alpha: float) -> None:
            ctx.write((name, between(self.weights[name], after, alpha)) for name, after in end.items())  # no second copy of all

        try:
            if self.alpha == "auto":
                self.chosen = self._farthest(ctx, put)
            elif self.alpha == "least":
                self.chosen = self._nearest(ctx, put)
            else:
                self.chosen = float(self.alpha)
        except BaseException:
            put(1.0)  # what was trained is not lost with a search that fails
            raise
        put(self.chosen)
        ctx.report("wise_alpha", self.chosen)
        self.weights = {}

    def _farthest(self, ctx: Context, put: Callable[[float], None]) -> float:
        def right(alpha: float) -> Tensor:
            put(alpha)
            return _right(ctx, ctx.task.retain or ())

        known = right(0.0)

        def good(alpha: float) -> bool:
            forgotten, total = _counts(ctx, known & ~right(alpha), known)
            return forgotten <= self.budget * total + 1e-9

        return 1.0 if good(1.0) else largest(good)

    def _nearest(self, ctx: Context, put: Callable[[float], None]) -> float:
        def right(alpha: float) -> float:
            put(alpha)
            return _counts(ctx, _right(ctx, ctx.task.train))[0]

        most = right(1.0)
        return least(lambda alpha: right(alpha) >= self.enough * most - 1e-9)


def _counts(ctx: Context, *marks: Tensor) -> list[float]:
    """How many are true of each, over all processes."""
    own = torch.stack([mark.sum() for mark in marks]).double()
    counts: list[float] = (own if ctx.task.everywhere else ctx.world.sum(own)).tolist()
    return counts


def _right(ctx: Context, batches: Iterable[Any]) -> Tensor:
    """For each example whether all its labelled rows are right, bool of shape (examples,)."""
    read, found, device = ctx.task.predictions, [], next(iter(ctx.parameters.values())).device
    modes = [(module, module.training) for module in ctx.model.modules()]
    ctx.model.eval()
    try:
        with torch.no_grad():
            for given in batches:
                batch = to(given, device)
                hit = read.logits(read.outputs(ctx.model, batch), batch).argmax(-1).cpu() == read.labels(batch).cpu()
                wrong = torch.zeros(read.size(batch), dtype=torch.long).index_add_(0, read.owners(batch).cpu(), (~hit).long())
                found.append(wrong == 0)
    finally:
        for module, training in modes:
            module.training = training
    return torch.cat(found) if found else torch.zeros(0, dtype=torch.bool)
