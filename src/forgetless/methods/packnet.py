"""PackNet: train, prune, retrain, freeze; one network, many tasks, a mask each."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _NormBase

from forgetless.core import options
from forgetless.core.context import Context, Tree
from forgetless.core.method import Method
from forgetless.core.sharding import full, local, reshard
from forgetless.errors import InputError
from forgetless.ops.masks import prune_smallest

_FREE = 0
_MOST = 254


class PackNet(Method):
    r"""PackNet (Mallya & Lazebnik 2018, arXiv 1711.05769, section 3).

    With :math:`O_j \in \{0, 1, 2, \dots\}` the task that owns weight j (0: free), task k trains the free weights only,
    prunes the smallest of them in every layer, retrains the kept ones, and freezes them:

    .. math:: \theta_j \leftarrow \begin{cases}\theta_j - \eta\,u_j & O_j = 0 \text{ (before pruning)},\ O_j = k \text{ (after)}\\
        0 & O_j = 0 \text{ (after pruning)}\\ \theta_j & 0 < O_j < k\end{cases} \qquad
        \text{pruned: } |\theta_j| \le \text{the smallest share of } \{|\theta_i| : O_i = 0\}

    where :math:`\eta u` is the optimizer's whole step. Task k is answered with the weights of tasks 1 to k; all others are zero.
    Biases and norm parameters (fewer than two dimensions) learn in the first task only.

    Deviations from the paper and its code: the loop is the user's, so pruning falls within training, at the share
    1 - ``retrain`` of the task's planned steps, and one learning rate serves both parts; frozen weights stand still because the
    step is filtered (theirs: zeroed gradients, which momentum and weight decay escape); every trainable weight of at least two
    dimensions is managed, embeddings and output layers too (theirs: convolutions and hidden linear layers; a head each task);
    the last task of a stream is not pruned; running statistics of norm layers are kept per task (theirs: frozen after the
    first). What the network knew before the first task is not protected: give it as a task of its own.

    Memory: 1 byte per weight. Cost: a filter over the optimizer's step; once a task a selection in every layer.

    Args:
        prune: the share, in (0, 1), of the weights that a task trained which it hands on.
        retrain: the last share, in [0, 1), of a task's steps, in which the kept weights are retrained. Where the task does not say how
            many steps it has (``Task.steps``), or ends early, it is pruned at its end, without retraining (metric ``packnet_retrained``).

    Raises:
        InputError: an option is out of range; no weight is free for another task.

    Examples:
        >>> PackNet(prune=0.75).prune
        0.75
    """

    state_names: ClassVar[tuple[str, ...]] = ("owners", "tasks", "pruned", "statistics")
    sharded_state: ClassVar[tuple[str, ...]] = ("owners",)
    summary: ClassVar[str] = "gives each task weights of its own in one network: train, prune, retrain, freeze; earlier tasks stay exact"
    source: ClassVar[str] = "Mallya & Lazebnik 2018, arXiv 1711.05769, section 3"
    needs_task_id = True
    owns: ClassVar[str] = "the architecture"
    extra_memory: ClassVar[str] = "1 byte per parameter, and chunk_bytes"
    extra_compute: ClassVar[str] = "a filter over the step; once a task a selection by magnitude"

    def __init__(self, *, prune: float = 0.5, retrain: float = 0.33) -> None:
        self.prune = options.number("packnet.prune", prune, above=True, below=1.0)
        self.retrain = options.number("packnet.retrain", retrain, below=1.0)
        self.owners: Tree = {}  # for each managed weight the place of its task in `tasks`, from 1; 0: free
        self.tasks: list[int] = []  # their indices, in the order in which they were trained
        self.pruned = False  # whether the task in training has chosen the weights that it keeps
        self.statistics: dict[str, Tree] = {}  # running statistics of norm layers at the end of each task, by its index

    def begin_task(self, ctx: Context) -> None:
        if not self.tasks:
            self.owners = {k: torch.zeros(p.shape, dtype=torch.uint8, device=p.device) for k, p in ctx.parameters.items() if p.ndim >= 2}
        if ctx.task.index in self.tasks:
            raise InputError(
                "it was trained before", where=f"task {ctx.task.name!r}", mend="Give every task of a stream an index of its own"
            )
        free = torch.tensor([float(any((owner == _FREE).any() for owner in self.owners.values()))])
        if len(self.tasks) == _MOST or not ctx.world.max(free):
            raise InputError(
                f"no weight is free for task {ctx.task.name!r}",
                where="packnet.prune",
                mend="Begin again with a larger share, and with last=True only on the last task",
            )
        self.tasks, self.pruned = [*self.tasks, ctx.task.index], False

    def gradients(self, ctx: Context, grads: Tree) -> Tree:
        planned = ctx.task.steps
        due = planned is not None and ctx.step >= round((1 - self.retrain) * planned)
        if due and self.retrain > 0 and not self.pruned and not ctx.task.last:
            self._choose(ctx, self.prune)
        return grads

    def update(self, ctx: Context, before: Tree, after: Tree) -> Tree:
        kept: Tree = {}
        for name, new in after.items():
            owner = self._owner(ctx, name, new)
            if owner is None:
                kept[name] = new if len(self.tasks) == 1 else before[name]
                continue
            kept[name] = torch.where(owner == (len(self.tasks) if self.pruned else _FREE), new, before[name])
            if self.pruned:
                kept[name].masked_fill_(owner == _FREE, 0)
        return kept

    def violation(self, ctx: Context, before: Tree, written: Tree) -> float | None:
        own, worst = len(self.tasks), 0.0
        if own == 1 and not self.pruned:
            return None
        for name, now in written.items():
            owner, moved = self._owner(ctx, name, now), now - before[name]
            if owner is not None:
                moved = torch.where((owner == _FREE) | (owner == own), 0, moved)
                if self.pruned:
                    moved = torch.where(owner == _FREE, now, moved)
            if (owner is not None or own > 1) and now.numel():
                worst = max(worst, float(moved.abs().max()))
        return worst

    def end_task(self, ctx: Context) -> None:
        ctx.report("packnet_retrained", self.pruned or ctx.task.last)
        if not self.pruned:
            self._choose(ctx, 0.0 if ctx.task.last else self.prune)
        self._keep_only(ctx, len(self.tasks))
        norms = {name for name, module in ctx.model.named_modules() if isinstance(module, _NormBase)}
        running = {name: buffer.clone() for name, buffer in ctx.model.named_buffers() if name.rpartition(".")[0] in norms}
        self.statistics = self.statistics | {str(ctx.task.index): running}

    def activate(self, ctx: Context) -> None:
        """Zero the weights that later tasks own and those that are free; a task not trained yet is answered as the latest one."""
        if ctx.task.index in self.tasks[:-1]:
            self._keep_only(ctx, self.tasks.index(ctx.task.index) + 1)
        ctx.write(self.statistics.get(str(ctx.task.index), {}))

    def _choose(self, ctx: Context, share: float) -> None:
        """Give the task in training all free weights but the smallest."""
        owners: Tree = {}
        reshard(ctx.model)
        for name, real in ctx.model.named_parameters():
            if name in self.owners:
                parameter = local(real.detach())
                owner = self.owners[name].to(parameter.device)
                free = owner == _FREE
                pruned = prune_smallest(full(real.detach()), ctx.full(name, free), share)
                owners[name] = owner.masked_fill(free & ~ctx.held.own(name, pruned), len(self.tasks))
        self.owners, self.pruned = owners, True

    def _keep_only(self, ctx: Context, place: int) -> None:
        """Zero all weights but those of the first ``place`` tasks."""
        reshard(ctx.model)
        for name, real in ctx.model.named_parameters():
            if name in self.owners:
                parameter = local(real.detach())
                owner = self.owners[name].to(parameter.device)
                ctx.write({name: parameter.masked_fill((owner == _FREE) | (owner > place), 0)})

    def _owner(self, ctx: Context, name: str, piece: Tensor) -> Tensor | None:
        """The owners of a parameter, or of the rows of it that are being stepped; None if it is not managed."""
        if name not in self.owners:
            return None
        start = ctx.offsets.get(name, 0)
        return self.owners[name].flatten()[start : start + piece.numel()].view(piece.shape).to(piece.device)
