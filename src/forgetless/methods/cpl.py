"""Collaborative Parameter Learning: update only the weights on which old and new data agree."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from forgetless.core import options
from forgetless.core.context import Context, Share, Tree
from forgetless.core.gradients import mean_gradient
from forgetless.core.method import Method, State
from forgetless.ops import packing, signs
from forgetless.ops.descent import Descent
from forgetless.ops.masks import coins

Refresh = int | Literal["epoch", "task", "streaming"]


class CPL(Method):
    r"""Collaborative Parameter Learning (arXiv 2601.21577, Eq. 17-19; its v1 calls it CNL).

    For each scalar weight, with the mean gradient :math:`g(M)` of the loss on the retain set (the reference) and the
    gradient :math:`g(I)` of this step's inject batch, both at the current weights,

    .. math:: s_j = g_j(M)\, g_j(I), \qquad
        \theta_j \leftarrow \theta_j - \eta\, u_j \cdot \mathbb{1}[s_j \ge 0]

    where :math:`\eta u` is the optimizer's whole effective step (for AdamW with its weight decay); moments come from the
    unmasked gradient, as in the paper's own momentum, Adam and AdamW variants.

    Deviations from the authors' code: only the sign of the reference is kept, in two bits (theirs: a second copy of the
    weights in fp32), so a product that underflows to zero still counts by its sign; the reference is taken in evaluation
    mode; batches may hold more than one example.

    Memory: 0.25 bytes per parameter, and the session's chunk; ``refresh="streaming"`` one more copy of the gradients.
    Cost: one forward and backward pass over the retain set at each refresh, and a filter over the optimizer's step.

    Args:
        level: ``"update"`` masks the effective step, so a conflicting weight does not move by one bit; ``"gradient"``
            masks the gradient before the optimizer (then momentum and weight decay still move it).
        mask: ``"dynamic"`` compares at every step with that step's gradient; ``"fixed"`` compares once, at the start of
            the task, with the mean gradient over the whole inject set, and freezes the conflicting weights for the task.
        refresh: when the reference is taken anew: every ``"epoch"``, once a ``"task"``, every k steps (an int), or
            ``"streaming"``: a running mean that takes in ``retain_batches`` batches at every step.
        confidence: in [0, 1). Above 0 a weight counts as collaborative only where the sign of the retain gradient is
            consistent: :math:`|\sum_b \mathrm{sign}\,g_j^b| \ge \text{confidence} \cdot \#\{b: g_j^b \ne 0\}` over the retain batches b.
        retain_batches: batches of the retain set that one refresh looks at, in turn; None means all (streaming: 1).
        decay: weight of the past in the running mean of ``refresh="streaming"``.
        compact_state: with ``mask="fixed"``: let the optimizer keep its state for the weights that may move only (AdamW: 8 bytes less
            for every frozen one). They move as without it (bit for bit, but for fused optimizers, which round the last few of a tensor in
            another way). For torch's own optimizers that treat every weight by itself; a step takes longer. The state is
            dropped when the task ends, so in the next task the optimizer begins anew.
        control: of studies: a seed of coins, thrown in place of the reference's signs, so that half of the weights move.

    Raises:
        InputError: an option is out of range; ``compact_state`` cannot be kept with the optimizer, the model or the chain.

    Examples:
        >>> CPL(refresh=4, retain_batches=2).refresh
        4
    """

    state_names: ClassVar[tuple[str, ...]] = ("reference", "mean", "taken_epoch", "taken_step", "position", "hurried")
    sharded_state: ClassVar[tuple[str, ...]] = ("mean",)
    summary: ClassVar[str] = "updates only weights on which retain and inject gradients agree in sign; protects what the reference covers"
    source: ClassVar[str] = "arXiv 2601.21577, Eq. 17-19"
    needs_retain = True
    extra_memory: ClassVar[str] = "0.25 bytes per parameter (streaming: and a copy of the gradients), and chunk_bytes"
    extra_compute: ClassVar[str] = "a pass over the retain set at each refresh, a filter over the step"

    def __init__(
        self,
        *,
        level: Literal["update", "gradient"] = "update",
        mask: Literal["dynamic", "fixed"] = "dynamic",
        refresh: Refresh = "epoch",
        confidence: float = 0.0,
        retain_batches: int | None = None,
        decay: float = 0.9,
        compact_state: bool = False,
        control: int | None = None,
    ) -> None:
        self.level = options.choice("cpl.level", level, ("update", "gradient"))
        self.mask = options.choice("cpl.mask", mask, ("dynamic", "fixed"))
        self.confidence = options.number("cpl.confidence", confidence, below=1.0)
        self.decay = options.number("cpl.decay", decay, above=True, below=1.0)
        steps = isinstance(refresh, int) and not isinstance(refresh, bool) and refresh >= 1
        if not steps and refresh not in ("epoch", "task", "streaming"):
            raise options.refused("cpl.refresh", refresh, "'epoch', 'task', 'streaming' or a number of steps")
        if mask == "fixed" and refresh not in ("epoch", "task"):
            raise options.refused("cpl.refresh", refresh, "nothing with mask='fixed', which never refreshes")
        self.compact_state = options.flag("cpl.compact_state", compact_state)
        if compact_state and (mask, level) != ("fixed", "update"):
            raise options.refused("cpl.compact_state", compact_state, "False, or mask='fixed' and level='update'")
        if confidence and refresh == "streaming":
            raise options.refused("cpl.confidence", confidence, "0 with refresh='streaming'")
        self.control = None if control is None else options.seed("cpl.control", control)
        if control is not None and (confidence or refresh == "streaming"):
            raise options.refused("cpl.control", control, "nothing with confidence or refresh='streaming'")
        self.refresh: Refresh = "task" if mask == "fixed" else refresh
        few = options.count("cpl.retain_batches", retain_batches)
        self.retain_batches = 1 if few is None and refresh == "streaming" else few
        self.reference: Tree = {}
        self.mean: Tree = {}
        self.taken_epoch = self.taken_step = self.position = 0
        self.hurried = 0  # steps between refreshes once tightened; 0: as refresh says
        self._held: dict[str, Share] = {}  # by parameter, "" for all: weights held back of those seen in this step

    @property
    def _freezes(self) -> bool:
        """Whether the reference may hold frozen codes."""
        return self.mask == "fixed" or self.confidence > 0

    def begin_task(self, ctx: Context) -> None:
        self.reference, self.mean, self.position = {}, {}, 0
        self._take_reference(ctx)
        if self.mask == "fixed":
            self._fix(ctx)

    def begin_step(self, ctx: Context) -> None:
        self._held = {}
        for tree in (self.reference, self.mean):  # a state that was loaded is on the CPU
            tree.update((name, tensor.to(ctx.parameters[name].device)) for name, tensor in tree.items())
        if self.hurried:
            due = ctx.step - self.taken_step >= self.hurried
        elif self.refresh == "epoch":
            due = ctx.epoch != self.taken_epoch
        elif self.refresh == "streaming":
            due = ctx.step > self.taken_step
        else:
            due = isinstance(self.refresh, int) and ctx.step - self.taken_step >= self.refresh
        if due:
            old = self.reference
            self._take_reference(ctx)
            turned = {k: signs.flips(old[k], v, ctx.parameters[k].numel()) for k, v in self.reference.items() if k in old}
            ctx.report("sign_flips", Share(sum(turned.values()), sum(parameter.numel() for parameter in ctx.parameters.values())))
            ctx.report("sign_flips_by_layer", {k: Share(count, ctx.parameters[k].numel()) for k, count in turned.items()})
            ctx.report("refresh", True)

    def tighten(self, ctx: Context, factor: float) -> str:
        """Take the reference anew at the next step, and more often: every 4 steps, then every 2 but no oftener (it costs a pass each)."""
        steps = self.hurried or (self.refresh if isinstance(self.refresh, int) else round(4 * factor))
        if self.mask == "fixed" or self.refresh == "streaming" or steps <= 2:
            return ""
        self.hurried = max(2, int(steps / factor))
        self.taken_step = ctx.step - self.hurried
        return f"cpl refreshes every {self.hurried} steps"

    @property
    def edits_gradients(self) -> bool:
        return self.level == "gradient"

    def gradients(self, ctx: Context, grads: Tree) -> Tree:
        if self.level == "gradient":
            grads = {name: grad.contiguous() for name, grad in grads.items()}
            parts = [signs.Part(self.reference[name], 0, grad) for name, grad in grads.items() if name in self.reference]
            self._count(ctx, grads, signs.zero_conflicts(parts, frozen=self._freezes))
        return grads

    def update(self, ctx: Context, before: Tree, after: Tree) -> Tree:
        if self.level == "gradient":
            return after
        kept = {name: tensor.contiguous() for name, tensor in after.items()}
        known = [name for name in kept if name in self.reference]
        parts = [signs.Part(self.reference[name], ctx.offsets.get(name, 0), ctx.gradients[name]) for name in known]
        held = signs.hold_back(parts, [before[name] for name in known], [kept[name] for name in known], frozen=self._freezes)
        self._count(ctx, kept, held)
        return kept

    def descend(self, ctx: Context, parameters: Tree, step: Descent) -> bool:
        """A whole step of the optimizer, without `update`: to the same effect, bit for bit."""
        if self.level == "gradient" or type(self).update is not CPL.update or not parameters.keys() <= self.reference.keys():
            return False
        parts = [signs.Part(self.reference[name], 0, ctx.gradients[name]) for name in parameters]
        held = signs.descend(parts, list(parameters.values()), step, frozen=self._freezes)
        if held is not None:
            self._count(ctx, parameters, held)
        return held is not None

    def violation(self, ctx: Context, before: Tree, written: Tree) -> float | None:
        if self.level == "gradient":
            return None
        worst = 0.0
        for name, now in written.items():
            if name in self.reference and now.numel():
                start = ctx.offsets.get(name, 0)
                codes = packing.unpack(self.reference[name], start, start + now.numel()).view(now.shape)
                held = torch.sign(ctx.gradients[name]) * torch.sign(codes.to(now.dtype)) < 0
                if self._freezes:
                    held |= codes == packing.FROZEN
                worst = max(worst, float(((now - before[name]).abs() * held).max()))
        return worst

    def frozen(self, name: str, shape: torch.Size) -> Tensor:
        """Which weights of parameter ``name`` stand still whatever the step's gradient says: bool of ``shape``.

        With ``mask="fixed"`` these are the conflicting weights; with ``confidence`` those whose sign is not consistent.
        """
        return self.standing(name, 0, shape.numel()).view(shape)

    def standing(self, name: str, start: int, stop: int) -> Tensor:
        """Which of the elements ``start:stop`` of parameter ``name`` stand still in the whole task (of ``mask="fixed"``): bool."""
        if name not in self.reference:
            return torch.zeros(stop - start, dtype=torch.bool)
        return packing.unpack(self.reference[name], start, stop) == packing.FROZEN

    def stood(self, ctx: Context, parameters: Tree, held: list[int]) -> None:
        """Report a step in which so many weights of each of ``parameters`` stood still."""
        self._count(ctx, parameters, [count for name, count in zip(parameters, held, strict=True) if name in self.reference])

    def gather_state(self, ctx: Context, state: State) -> State:
        """The packed signs of shards, packed anew as those of whole tensors: stripes do not end where shards do."""
        return self._repacked(ctx.parameters, ctx.full, super().gather_state(ctx, state)) if ctx.held.sharded else state

    def shard_state(self, ctx: Context, state: State) -> State:
        if not ctx.held.sharded or set(state) != set(self.state_names):
            return state
        return self._repacked(ctx.held.real, ctx.held.own, super().shard_state(ctx, state))

    @staticmethod
    def _repacked(of: Mapping[str, Tensor], change: Callable[[str, Tensor], Tensor], state: State) -> State:
        def anew(name: str, packed: Tensor) -> Tensor:
            codes = packing.unpack(packed, 0, of[name].numel()).view(of[name].shape)
            return packing.pack_codes(change(name, codes))

        return state | {"reference": {name: anew(name, packed) for name, packed in state["reference"].items()}}

    def _batches(self, ctx: Context) -> Iterator[Any]:
        """The retain batches of one refresh: all, or the next few in turn."""
        retain = ctx.task.retain or ()
        if self.retain_batches is None:
            yield from retain
            return
        wanted, fresh = self.retain_batches, True
        while wanted:
            taken = 0
            for batch in islice(iter(retain), self.position, self.position + wanted):
                taken += 1
                yield batch
            wanted, self.position = wanted - taken, self.position + taken
            if wanted:
                if not taken and self.position == 0 and fresh:
                    return  # the retain set is empty: mean_gradient says so
                self.position, fresh = 0, taken > 0

    def _take_reference(self, ctx: Context) -> None:
        total: Tree = {}
        votes: Tree = {}

        def vote(grads: Tree) -> None:
            for name, grad in grads.items():
                sign = grad.sign().to(torch.int16)
                total[name] = total[name] + sign if name in total else sign.clone()
                votes[name] = votes[name] + sign.abs() if name in votes else sign.abs()

        thrown = None if self.control is None else coins(ctx.parameters, self.control + 1_000_003 * ctx.step)
        grads = thrown or mean_gradient(ctx, self._batches(ctx), each=vote if self.confidence else None)
        if self.refresh == "streaming":
            for name, grad in grads.items():
                self.mean[name] = self.mean[name].lerp_(grad, 1 - self.decay) if name in self.mean else grad
            grads = dict(self.mean)
        self.reference = {}
        while grads:
            name, grad = grads.popitem()
            if self.confidence:
                codes = grad.sign().to(torch.int8)
                codes[total[name].abs() < self.confidence * votes[name]] = -2
                self.reference[name] = packing.pack_codes(codes)
            else:
                self.reference[name] = packing.pack_signs(grad)
        self.taken_epoch, self.taken_step = ctx.epoch, ctx.step

    def _fix(self, ctx: Context) -> None:
        """Turn the reference into the mask of the whole task: frozen where it conflicts with the inject set's mean gradient."""
        inject = mean_gradient(ctx, ctx.task.train)
        for name, packed in self.reference.items():
            numel = ctx.parameters[name].numel()
            codes = packing.unpack(packed, 0, numel)
            held = codes == packing.FROZEN
            if name in inject:
                held |= codes.mul_(inject[name].reshape(-1).sign().to(torch.int8)) < 0
            self.reference[name] = packing.pack_codes(held.to(torch.int8).mul_(packing.FROZEN))

    def _count(self, ctx: Context, stepped: Tree, held: list[signs.Count]) -> None:
        """Add up the weights held back in this step (``held`` is of the tensors with a reference), and report the shares so far."""
        counts, shares = iter(held), ctx.metrics.setdefault("conflicting_by_layer", {})
        total, seen = self._held.get("", Share(0, 0))[:2]
        for name, tensor in stepped.items():
            found, numel = next(counts) if name in self.reference else 0, tensor.numel()
            total, seen = total + found, seen + numel
            before = self._held.get(name, Share(0, 0))  # of its rows that were stepped before
            self._held[name] = shares[name] = Share(found + before.part, numel + before.whole)
        if seen:
            self._held[""] = Share(total, seen)
            ctx.report("conflicting_fraction", self._held[""])
