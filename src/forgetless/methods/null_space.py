"""Null-space training: steps only where the inputs that must be answered as before do not lie."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import chain
from typing import Any, ClassVar, Literal, cast

import torch
from torch import Tensor, nn

from forgetless.core import options
from forgetless.core.context import Context, Share, Tree
from forgetless.core.freezing import freeze, thaw
from forgetless.core.gradients import quiet
from forgetless.core.predictions import to
from forgetless.core.strength import AUTO, Adjustable, number_or_auto
from forgetless.core.task import Task
from forgetless.errors import InputError, ProtectionError
from forgetless.memory.spoken import TOGETHER, beginnings, caches, opening, prompts_of, speak, speaks
from forgetless.modules import adapters
from forgetless.modules.input_covariance import Inputs, watch
from forgetless.ops.null_space import projected, projector

WIDEST = "widest"
Run = tuple[Callable[[], Any], Tensor | None]
"""Forward passes, and which positions of their batches hold no padding."""


class NullSpace(Adjustable):
    r"""Training in the null space of old inputs: Adam-NSCL (Wang et al. 2021, arXiv 2103.07113) with OWM's soft projector.

    A linear layer answers an old input x as before if its change is at right angles to it: :math:`\Delta W x = 0`. With C the
    uncentred covariance of all its old inputs (Adam-NSCL, Eq. 5), the step that the optimizer really took is projected,

    .. math:: \theta \leftarrow \theta + (\theta' - \theta)\, P, \qquad
        P = \Big(I + \text{strength}\, \frac{C}{\bar e}\Big)^{-1}, \qquad \bar e = \tfrac1d \operatorname{tr} C

    which is OWM's projector (Zeng et al. 2019, arXiv 1810.01256, Eq. 1) with :math:`\alpha = \bar e / \text{strength}`. As long as there is
    something to protect, all else is held still: embeddings, norms, biases, a tied output layer, layers that are not in ``target``. It
    is frozen in `prepare`, so that it costs neither gradients nor optimizer state, and trainable again as the task ends.

    Old inputs are, before the first task, those of ``task.retain`` if it is given, and for a causal language model those of ``texts``
    texts that it makes up itself. It needs no old data: ``prompted`` texts, which begin as the task's own prompts begin, up to a
    random place in their first half, stand in for a retain set. At the end of every task but the last those of the task come to them.

    *A model with LoRA adapters* (:math:`W + BA`): their first factors A are the layers. One whose B is still zero is begun in the
    null space, :math:`A \leftarrow AP` at the first step (LoRA-Null, Tang et al. 2025, arXiv 2503.02659, begins with the part of W that
    lies there), so that its B is free; of an adapter that was trained before, B is held still.

    Deviations: Adam-NSCL projects onto the eigenvectors of the smallest eigenvalues, all or nothing, OWM the gradient; here the soft
    projector acts on the step (an Adam step on a projected gradient leaves the null space). OWM updates P batch by batch, here it is
    worked out once from C, with the mean eigenvalue as its unit. An input longer than 3 times the median of its batch counts as of that
    length. Made-up texts are ours. In a chain a weight that a method before it held still stays still, though others of its row move.

    Memory: :math:`8 d^2` bytes for every distinct input of d features, half of it in main memory. Cost: a product of each step with
    P, 2 d operations a weight (a backward and forward pass costs 6 a token); once a task texts, a pass over old examples, a factorization.

    Args:
        strength: larger keeps more and learns more slowly; 0 protects nothing; ``"auto"`` finds it as the first task begins (`Adjustable`);
            None: 10, or 30 as long as texts that the model made up are all that stands for the old.
        texts: of a language model: how many texts to make up; 0: none.
        length: the most tokens made up for each.
        prompted: of a language model without a retain set: how many more texts to make up, begun as the task's prompts.
        examples: the most examples looked at of ``task.retain``, and of a task as it ends, from their beginning.
        target: the layers to train: ``"all-linear"``; ``"widest"``: those with the most input features, in a transformer the second layers
            of its MLPs, which hold what it knows (Geva et al. 2021, arXiv 2012.14913) and whose inputs overlap least; ``"auto"``: widest
            of a causal language model, else all; or names of layers. Of a model with adapters those on the layers named, else all.
        seed: of the generator of random numbers that it owns.

    Raises:
        InputError: an option is out of range, or the model has no linear layer, or adapters that are no LoRA.

    Examples:
        >>> NullSpace(strength=30.0).needs_retain
        False
    """

    label: ClassVar[str] = "null-space.strength"
    state_names: ClassVar[tuple[str, ...]] = ("covariance", "counts", "sources", "made_up", "free", "pending", "put", "random", "found")
    summary: ClassVar[str] = "steps only where old inputs do not lie; keeps what nothing else reaches, with no old data if it must"
    source: ClassVar[str] = "Wang et al. 2021, arXiv 2103.07113; Zeng et al. 2019, arXiv 1810.01256, Eq. 1"
    extra_memory: ClassVar[str] = "8 d² bytes for each distinct input of d features of a linear layer, half of it in main memory"
    extra_compute: ClassVar[str] = "2 d operations a weight and step; once a task texts, a pass over the old examples, a factorization"
    scope: ClassVar[str] = "linear and conv layers: it trains linear layers alone"
    owns: ClassVar[str] = "the architecture"

    def __init__(
        self,
        *,
        strength: float | Literal["auto"] | None = None,
        texts: int = 64,
        length: int = 16,
        prompted: int = 512,
        examples: int = 512,
        target: str | Sequence[str] = "auto",
        seed: int = 0,
    ) -> None:
        self.strength = None if strength is None else number_or_auto(self.label, strength)
        self.texts = options.whole("null-space.texts", texts, 0)
        self.length = options.whole("null-space.length", length)
        self.prompted = options.whole("null-space.prompted", prompted, 0)
        self.examples = options.whole("null-space.examples", examples)
        self.target = adapters.check_target("null-space.target", target)
        self.draw = torch.Generator().manual_seed(options.seed("null-space.seed", seed))
        self.covariance: Tree = {}  # by the first layer that is given an input: of that input
        self.counts: dict[str, int] = {}  # of inputs seen, likewise
        self.sources: dict[str, str] = {}  # by layer: under which name its input is kept
        self.made_up = False  # whether made-up texts alone stand for the old
        self.free: list[str] = []  # second factors of adapters that began in the null space
        self.pending: list[str] = []  # first factors of those
        self.put: dict[str, int] = {}  # the step that put each there
        self._shares: tuple[int, Any, Any] = (-1, 0.0, 0.0)  # the step that was reported last, and of it the squares taken and wanted
        self._right: dict[str, tuple[float, Tensor]] = {}  # P of each, with the strength that it is for

    @property
    def random(self) -> Tensor:
        """The state of its generator of random numbers."""
        return self.draw.get_state()

    @random.setter
    def random(self, state: Tensor) -> None:
        self.draw.set_state(state.cpu())

    @property
    def makes_up(self) -> bool:
        """Whether it makes up what stands for the old, where the model is a language model and there is no retain set."""
        return self.strength != 0 and bool(self.texts or self.prompted)

    def prepare(self, model: nn.Module, task: Task) -> nn.Module:
        thaw(model)  # what a training that was broken off left frozen
        if self.strength != 0 and (self.covariance or task.retain is not None or self._speaks_for(model, task)):
            freeze(model, self, but={f"{name}.weight" for name in (*self._layers(model, task), *self._fresh(model, task).values())})
        return model

    def begin_task(self, ctx: Context) -> None:
        self._right = {}
        if self.strength != 0 and not self.covariance:
            self._take(ctx, chain((self._look(ctx, batch) for batch in self._first(ctx, ctx.task.retain or ())), self._made_up(ctx)))
            self.made_up = ctx.task.retain is None
            if not self.covariance and ctx.task.last:
                what = "there is nothing to protect: no retain set, no task before this one, and the model makes up no texts"
                raise InputError(what, where="null-space", mend="Give a retain set, or take a method that needs no old data, such as kl")
        fresh = self._fresh(ctx.model, ctx.task) if self.strength != 0 and self.covariance else {}
        self.pending, self.free, self.put = list(fresh), list(fresh.values()), {}

    def begin_step(self, ctx: Context) -> None:
        lost = [name for name in self.free if f"{name}.weight" not in ctx.parameters]
        if lost:
            what = f"{len(lost)} second factors of adapters that were free to move are frozen, such as {lost[0]!r}"
            raise InputError(what, where="null-space", mend="Call method.prepare(model, task) before the saved weights are loaded")

    def end_task(self, ctx: Context) -> None:
        self._right = {}
        if self.strength != 0 and not ctx.task.last:
            self._take(ctx, (self._look(ctx, batch) for batch in self._first(ctx, ctx.task.train)))
            self.made_up = False
        thaw(ctx.model)

    def protects(self, ctx: Context) -> bool:
        return bool(self.covariance)

    def numbers(self, ctx: Context) -> tuple[float, ...]:
        return (1.0, 3.0, 10.0, 30.0, 100.0)

    def in_force(self, ctx: Context) -> float:
        if self.strength is None and self.found is None:
            return 30.0 if self.made_up else 10.0
        return super().in_force(ctx)

    def update(self, ctx: Context, before: Tree, after: Tree) -> Tree:
        strength = self.in_force(ctx)
        if not strength or not self.covariance:
            return after
        kept = {name: self._kept(ctx, name, before[name], new, strength) for name, new in after.items()}
        stepped = [name for name in after if not self._begins(ctx, name.removesuffix(".weight"))]
        self._report(ctx, *(sum(_square(tree[name], before[name]) for name in stepped) for tree in (kept, after)))
        return kept

    def violation(self, ctx: Context, before: Tree, written: Tree) -> float | None:
        if not self.covariance or not self.in_force(ctx):
            return None
        moving = {*self.sources, *self.free}
        held = [now - before[name] for name, now in written.items() if name.removesuffix(".weight") not in moving and now.numel()]
        return max((float(moved.abs().max()) for moved in held), default=0.0)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self._right = {}

    def _begins(self, ctx: Context, layer: str) -> bool:
        """Whether this step puts the first factor of an adapter into the null space: the first one in which it has a gradient."""
        return layer in self.pending and self.put.get(layer, ctx.step) == ctx.step

    def _kept(self, ctx: Context, name: str, before: Tensor, after: Tensor, strength: float) -> Tensor:
        layer = name.removesuffix(".weight")
        source = self.sources.get(layer)
        if source is None:
            return after if layer in self.free else before
        if source not in self.covariance:  # no old input reaches the layer
            return after
        if self._begins(ctx, layer):
            before, self.put[layer] = torch.zeros_like(before), ctx.step
        return projected(before, after, self._projector(source, strength, after))

    def _report(self, ctx: Context, taken: Tensor | float, whole: Tensor | float) -> None:
        """Add a chunk to the share of the step's square that is taken."""
        step, *sums = self._shares
        self._shares = (ctx.step, taken + sums[0], whole + sums[1]) if step == ctx.step else (ctx.step, taken, whole)
        ctx.report("null_space_share", Share(*self._shares[1:]))

    def _projector(self, source: str, strength: float, like: Tensor) -> Tensor:
        known, right = self._right.get(source, (None, None))
        if known != strength or right is None:
            dtype = torch.promote_types(like.dtype, torch.float32)
            right = projector(self.covariance[source].to(like.device), strength).to(dtype)
            self._right[source] = strength, right
        return right

    def _first(self, ctx: Context, batches: Iterable[Any]) -> Iterator[Any]:
        """Batches with the first ``examples`` examples, of several processes those of all."""
        left = self.examples
        with torch.random.fork_rng([]):  # a DataLoader draws when it is walked
            for batch in ctx.everyones(batches):
                yield batch
                left -= ctx.task.predictions.size(batch)
                if left <= 0:
                    return

    def _made_up(self, ctx: Context) -> Iterator[Run]:
        """Texts that a causal language model makes up, whose inputs are seen as it speaks, if it is given each token only once."""
        if not self._speaks_for(ctx.model, ctx.task):
            return
        read = ctx.task.predictions
        for begin in self._beginnings(ctx):
            say = partial(speak, ctx.model, begin, self.length, read, temperature=1.0, top_k=None, draw=self.draw)
            yield (say, None) if caches(ctx.model) else self._look(ctx, read.collate(say()))

    def _beginnings(self, ctx: Context) -> Iterator[list[list[int]]]:
        """What the texts begin with, those together that are made up in one batch since they have equally many tokens."""
        for first in range(0, self.texts, TOGETHER):
            yield [opening(ctx.model)] * min(TOGETHER, self.texts - first)
        if ctx.task.retain is not None:
            return
        found = prompts_of(self._first(ctx, ctx.task.train), self.examples, ctx.task.predictions)
        yield from beginnings([prompt for prompt in found if prompt] or [opening(ctx.model)], self.prompted, self.draw)

    def _look(self, ctx: Context, batch: Any) -> Run:
        """The pass of a batch."""
        device, mask = next(iter(ctx.parameters.values())).device, batch.get("attention_mask") if isinstance(batch, Mapping) else None
        return partial(ctx.task.predictions.outputs, ctx.model, to(batch, device)), mask if isinstance(mask, Tensor) else None

    def _take(self, ctx: Context, runs: Iterable[Run]) -> None:
        """Add the inputs of the layers in these passes to those that are protected."""
        layers = {name: layer for name, layer in self._layers(ctx.model, ctx.task).items() if f"{name}.weight" in ctx.parameters}
        if not layers:
            raise InputError("no linear layer is trained", where="null-space", mend="Take another method")
        with quiet(ctx.model):
            seen = watch(layers, runs)
        wrong = next((name for name in layers if name in seen.covariance and not seen.covariance[name].isfinite().all()), None)
        if wrong is not None:
            raise ProtectionError(f"null-space: an old input of {wrong} is not finite, so nothing tells where old inputs lie")
        if seen.covariance:
            whole = Inputs(self.covariance, self.counts, self.sources).and_more(seen)
            self.covariance, self.counts = whole.covariance, whole.counts
            self.sources = {name: whole.sources.get(name, name) for name in layers}

    def _layers(self, model: nn.Module, task: Task) -> dict[str, nn.Linear]:
        """The layers to train, by name."""
        named = self.target not in (WIDEST, AUTO)
        if adapters.adapted(model):
            wanted = [f".{name}." for name in ([self.target] if isinstance(self.target, str) else self.target)]
            every = not named or self.target == adapters.ALL_LINEAR
            own = [name for name in adapters.factors(model) if every or any(part in name for part in wanted)]
            if not own:
                mend = "Take another target, or another method, such as replay"
                raise InputError("it has adapters, none a trained LoRA on what is named", where="null-space", mend=mend)
            return {name: cast(nn.Linear, model.get_submodule(name)) for name in own}
        wide = self.target == WIDEST or (self.target == AUTO and speaks(model, task.train, task.predictions))
        found: dict[str, nn.Linear] = adapters.linears(model, self.target if named else adapters.ALL_LINEAR, (nn.Linear,))
        most = max(layer.in_features for layer in found.values())
        return {name: layer for name, layer in found.items() if layer.in_features == most or not wide}

    def _fresh(self, model: nn.Module, task: Task) -> dict[str, str]:
        return adapters.fresh(model, self._layers(model, task)) if adapters.adapted(model) else {}

    def _speaks_for(self, model: nn.Module, task: Task) -> bool:
        """Whether the model is to make up texts for the task."""
        return bool(self.texts or (self.prompted and task.retain is None)) and speaks(model, task.train, task.predictions)


def _square(one: Tensor, other: Tensor) -> Tensor:
    """The squared distance, a scalar that stays on its device."""
    moved: Tensor = torch.linalg.vector_norm(one - other, dtype=torch.promote_types(one.dtype, torch.float32))
    return moved.double().square()
