"""Gradient protection: smaller steps where the gradient has varied much of late."""

from __future__ import annotations

from collections.abc import Callable
from math import log
from typing import ClassVar, Literal

import torch

from forgetless.core import options
from forgetless.core.context import Context, Share, Tree
from forgetless.core.method import Method, State
from forgetless.errors import InputError


class GradientProtection(Method):
    r"""Scales gradients down by the variance of their recent history.

    For each tensor, with :math:`h_1, \dots, h_n` its entries in the history (the last ``history`` steps, this one included),

    .. math:: I = \sigma\Big(\tfrac{1}{n-1}\textstyle\sum_i (h_i - \bar h)^2\Big), \qquad
        g \leftarrow (1 - I)\, g \ \text{ where } I > \text{threshold}, \qquad \theta \leftarrow \theta - \eta\, u(g)

    with σ the sigmoid and u the optimizer's step. With fewer than two entries there is no variance: the gradient passes
    untouched. An entry is the gradient as it comes to this method (in a chain: with what the methods before it added or
    changed), before it is scaled, once an optimizer step. The history goes on from task to task.

    As a variance is never negative, :math:`I \ge \tfrac12`: a threshold below 0.5 is the same as protecting always, and at the
    default 0.5 all that varied at all is at least halved. Where variances are far below 1, as is usual, that is all it does:
    a learning rate of one half, which Adam's scaling cancels. A threshold above 0.5 protects only where the variance
    exceeds log(threshold / (1 - threshold)).

    There is no paper, and no reference code that we know of; the definition is this one: sigmoid of the variance over the
    last 100 gradients. Taken by element it keeps 100 gradients, too much for a large model, so by default the
    history holds one number for each tensor, its gradient's norm, and the whole tensor is scaled by one factor.

    Memory: 8 · ``history`` bytes a tensor; with ``statistic="element"`` ``history`` copies of the gradients (400 bytes per
    parameter in fp32 at 100). Cost: a norm of each gradient; by element a pass over the history.

    Args:
        statistic: ``"norm"``: the variance of the tensor's gradient norm; ``"element"``: of each scalar of the gradient by itself.
        history: steps that the variance looks back.
        threshold: the importance above which a gradient is scaled, in [0, 1).

    Raises:
        InputError: an option is out of range.

    Examples:
        >>> GradientProtection(threshold=0.6).history
        100
    """

    state_names: ClassVar[tuple[str, ...]] = ("entries", "seen")
    summary: ClassVar[str] = "scales gradients down where they varied much over the last 100 steps; a cheap heuristic, last in a chain"
    source: ClassVar[str] = "no paper; 1 - sigmoid(variance of the last 100 gradients)"
    extra_memory: ClassVar[str] = "none (statistic=element: a copy of the gradients for each step of history)"
    extra_compute: ClassVar[str] = "a norm of each gradient (statistic=element: a pass over the history)"

    def __init__(self, *, statistic: Literal["norm", "element"] = "norm", history: int = 100, threshold: float = 0.5) -> None:
        self.statistic = options.choice("gradient-protection.statistic", statistic, ("norm", "element"))
        self.history = options.whole("gradient-protection.history", history, 2)
        self.threshold = options.number("gradient-protection.threshold", threshold)
        if self.threshold >= 1:
            mend = "Give a number from 0 up to, but not including, 1"
            raise InputError(f"{threshold!r} is not allowed", where="gradient-protection.threshold", mend=mend)
        self.entries: Tree = {}  # by parameter: the last entries, along the first dimension, in the order of a ring
        self.seen: dict[str, int] = {}  # by parameter: entries ever taken

    def gradients(self, ctx: Context, grads: Tree) -> Tree:
        # sigmoid(variance) > threshold, said of the variance itself: no rounding near one half
        least = log(self.threshold / (1 - self.threshold)) if self.threshold > 0 else -float("inf")
        held: list[torch.Tensor] = []
        norms = self._norms(ctx, grads) if self.statistic == "norm" else {}
        for name, grad in grads.items():
            entry = norms.get(name, grad)
            if name not in self.entries or self.entries[name].shape[1:] != entry.shape:
                self.entries[name], self.seen[name] = entry.new_zeros((self.history, *entry.shape)), 0
            kept = self.entries[name] = self.entries[name].to(entry.device)
            kept[self.seen[name] % self.history] = entry
            self.seen[name] += 1
            if self.seen[name] < 2:
                continue
            variance = kept[: self.seen[name]].var(0)
            protected = variance > least
            grad.mul_(torch.where(protected, torch.sigmoid(-variance), 1.0))  # 1 - sigmoid(v) = sigmoid(-v)
            held.append(protected.double().expand(grad.shape).sum())
        if held:
            ctx.report("protected_fraction", Share(sum(float(count) for count in held), sum(grad.numel() for grad in grads.values())))
        return grads

    def gather_state(self, ctx: Context, state: State) -> State:
        return self._each_entry(ctx, state, lambda name, entry: ctx.full(name, entry).cpu())

    def shard_state(self, ctx: Context, state: State) -> State:
        return self._each_entry(ctx, state, ctx.held.own) if set(state) == set(self.state_names) else state

    def _each_entry(self, ctx: Context, state: State, change: Callable[[str, torch.Tensor], torch.Tensor]) -> State:
        """Entries that are gradients are sharded as these are; norms are of whole tensors."""
        if self.statistic == "norm" or not ctx.held.sharded:
            return state
        return state | {"entries": {k: torch.stack([change(k, entry) for entry in kept]) for k, kept in state["entries"].items()}}

    def _norms(self, ctx: Context, grads: Tree) -> Tree:
        """The norm of each whole gradient."""
        found = {k: torch.linalg.vector_norm(g, dtype=torch.promote_types(g.dtype, torch.float32)).double() for k, g in grads.items()}
        if not ctx.world.shards:
            return found
        squares = ctx.world.sum_shards(torch.stack([norm.square() for norm in found.values()]))
        return dict(zip(found, squares.sqrt(), strict=True))
