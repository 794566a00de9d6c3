"""Generative replay: rehearse what the model, or a generator, makes up."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Literal, Protocol

import torch
from torch import Tensor

from forgetless.core import options
from forgetless.core.context import Context, Tree
from forgetless.core.method import Method, State
from forgetless.core.predictions import to
from forgetless.core.teacher import kept_groups, snapshot, teacher_logits
from forgetless.errors import InputError
from forgetless.memory.spoken import beginnings, is_language, opening, prompts_of, speak
from forgetless.memory.store import Store
from forgetless.modules.vae import VAEGenerator, inputs
from forgetless.ops.distillation import grouped, replayed


class Generator(Protocol):
    """What ``generator=`` may be. Its state must be tensors and plain values."""

    learned: int
    """Tasks whose inputs it can make; 0: none yet. One that was trained elsewhere says 1."""

    def learn(self, batches: Iterable[Any], draw: torch.Generator) -> Any:
        """Learn the inputs of a task that has ended, and keep those of earlier ones (by samples of itself, say)."""

    def sample(self, count: int, draw: torch.Generator) -> Any:
        """Inputs, with a first dimension of ``count``; the old model labels them. A mapping with labels is replayed as it is."""

    def state_dict(self) -> State: ...

    def load_state_dict(self, state: State) -> Any: ...


class GenerativeReplay(Method):
    r"""Generative replay (pseudo-rehearsal): no old data is stored, it is made up and mixed in.

    With made-up inputs :math:`\tilde x` and the answers :math:`\tilde y` of the model as the task began, :math:`\theta^*`,

    .. math:: L(\theta) + \lambda\, \mathbb{E}_{\tilde x}\, \ell\big(f_\theta(\tilde x), \tilde y\big), \qquad
        \tilde y = \arg\max f_{\theta^*}(\tilde x) \ \text{ or, soft, } \ \mathrm{softmax}(f_{\theta^*}(\tilde x)/T)

    *Causal language models* make up ``count`` texts before each task (Robins 1995's pseudo-rehearsal), after a start token or after the
    prompts of ``task.retain``; the tokens drawn are the labels, of the user's own loss. *Other models* have a generator, which learns
    each task when it has ended (Shin et al. 2017, arXiv 1705.08690, Eq. 2-3; van de Ven & Tolias 2019, arXiv 1904.07734): by default a
    `VAEGenerator`, or the user's (`Generator`). The old model labels over the units of earlier tasks: where the new batches may use
    these too, the softmax is theirs (class setting), else each earlier head has its own, and the heads are averaged (task setting).

    Deviations: Shin et al. have a GAN, van de Ven & Tolias a VAE trained along with the classifier, here it is trained after it on the
    same batches; losses are added, not weighed by 1/n and 1 - 1/n (``strength="balanced"`` has that ratio). Soft labels give units that
    are new the probability 0. In the first task there is nothing to replay, unless ``task.retain`` is given: the generator learns it.

    Memory: a copy of the trainable weights, and the generator; for language models the texts alone, with soft targets the copy too.
    Cost: forward and backward passes over the replayed examples, one forward pass of the copy; learning the generator.

    Args:
        strength: :math:`\lambda`; ``"balanced"`` takes the number of earlier tasks (at least 1).
        ratio: replayed examples per new one in each batch (at least one).
        targets: ``"hard"`` or ``"soft"``.
        temperature: T of soft targets.
        generator: ``"auto"``: the model for causal language models, else the VAE; ``"model"``; ``"vae"``; or a `Generator`.
        count, length: of a language model's texts: how many, and the most tokens made up for each.
        sampling_temperature, top_k: of drawing their tokens (None: among all).
        start: ids that a text begins with; None: the model's BOS, or end of text.
        prompts: ``"none"``; ``"retain"``: begin with what stands before the labels of ``task.retain``, in turn; or ``"task"``: as the
            task's own prompts begin, up to a random place in their first half.
        hidden, latent, generator_steps, generator_lr: of the `VAEGenerator`; steps None: as many as the task has batches.
        seed: of the generator of random numbers that it owns.

    Raises:
        InputError: an option is out of range; the batches do not fit the generator.

    Examples:
        >>> GenerativeReplay(targets="soft").temperature
        2.0
    """

    state_names: ClassVar[tuple[str, ...]] = ("speaks", "teacher", "stored", "maker", "random")
    summary: ClassVar[str] = "rehearses examples that the model itself or a generator makes up; for when no old data may be kept"
    source: ClassVar[str] = "Robins 1995; Shin et al. 2017, arXiv 1705.08690; van de Ven & Tolias 2019, arXiv 1904.07734"
    extra_memory: ClassVar[str] = "4 bytes per trainable parameter (fp32) and the generator; language models: the texts"
    extra_compute: ClassVar[str] = "passes over ratio times the batch; learning the generator"
    needs_one_process: ClassVar[str] = "each would make up and rehearse the same examples"

    def __init__(
        self,
        *,
        strength: float | Literal["balanced"] = 1.0,
        ratio: float = 1.0,
        targets: Literal["hard", "soft"] = "hard",
        temperature: float = 2.0,
        generator: Literal["auto", "model", "vae"] | Generator = "auto",
        count: int = 64,
        length: int = 32,
        sampling_temperature: float = 1.0,
        top_k: int | None = None,
        start: Sequence[int] | None = None,
        prompts: Literal["none", "retain", "task"] = "none",
        hidden: Sequence[int] = (400, 400),
        latent: int = 100,
        generator_steps: int | None = None,
        generator_lr: float = 1e-3,
        seed: int = 0,
    ) -> None:
        at = "generative-replay."
        self.strength = strength if strength == "balanced" else options.number(f"{at}strength", strength)
        self.ratio = options.number(f"{at}ratio", ratio, above=True)
        self.targets = options.choice(f"{at}targets", targets, ("hard", "soft"))
        self.temperature = options.number(f"{at}temperature", temperature, above=True)
        given = callable(getattr(generator, "learn", None)) and callable(getattr(generator, "sample", None))
        self.generator = "given" if given else options.choice(f"{at}generator", generator, ("auto", "model", "vae"))
        self.count, self.length = options.whole(f"{at}count", count), options.whole(f"{at}length", length)
        self.sampling_temperature = options.number(f"{at}sampling_temperature", sampling_temperature, above=True)
        self.top_k = options.count(f"{at}top_k", top_k)
        self.start = None if start is None else [options.whole(f"{at}start", token, 0) for token in _listed(f"{at}start", start)]
        self.prompts = options.choice(f"{at}prompts", prompts, ("none", "retain", "task"))
        self.needs_retain = prompts == "retain"
        widths = [options.whole(f"{at}hidden", width) for width in _listed(f"{at}hidden", hidden)]
        options.whole(f"{at}latent", latent)
        options.count(f"{at}generator_steps", generator_steps)
        options.number(f"{at}generator_lr", generator_lr, above=True)
        self.draw = torch.Generator().manual_seed(options.seed(f"{at}seed", seed))
        made = VAEGenerator(widths, latent, generator_steps, generator_lr, seed)
        self.maker: Generator = generator if given else made  # type: ignore[assignment]  # checked above
        self.speaks = False
        self.teacher: Tree = {}
        self.stored = Store()

    @property
    def random(self) -> Tensor:
        """The state of its generator of random numbers."""
        return self.draw.get_state()

    @random.setter
    def random(self, state: Tensor) -> None:
        self.draw.set_state(state.cpu())

    def begin_task(self, ctx: Context) -> None:
        self.teacher, self.stored = {}, Store()
        if not self.strength:
            return
        task, groups = ctx.task, kept_groups(ctx.task)
        with torch.random.fork_rng([]):  # a DataLoader draws when it is walked
            first = next(iter(task.train), None)
        self.speaks = self.generator in ("auto", "model") and is_language(first)
        if self.generator == "model" and not self.speaks:
            raise InputError(
                "only a causal language model can make up its own examples", where="generative-replay.generator", mend="Give 'vae'"
            )
        if self.speaks and getattr(getattr(ctx.model, "config", None), "is_encoder_decoder", False):
            raise InputError(
                "an encoder-decoder answers inputs that it cannot make up",
                where="generative-replay.generator",
                mend="Give a generator of your own, or use replay, lwf or kl",
            )
        if self.speaks and groups:
            own = self.start or opening(ctx.model)
            begin = self._beginnings(ctx, own)
            heat, few = self.sampling_temperature, self.top_k
            for example in speak(ctx.model, begin, self.length, task.predictions, temperature=heat, top_k=few, draw=self.draw):
                self.stored.add(example)
        elif not self.speaks:
            if self.generator != "given" and first is not None:
                inputs(first)  # refuses what it could not learn before training begins
            if task.retain is not None and not self.maker.learned:
                self.maker.learn(task.retain, self.draw)
        if groups and (self.targets == "soft" if self.speaks else self.maker.learned):
            self.teacher = snapshot(ctx.model)

    def loss(self, ctx: Context, batch: Any, outputs: Any) -> Tensor | None:
        if not len(self.stored) and (self.speaks or not self.teacher):
            return None
        count = max(1, round(self.ratio * ctx.task.predictions.size(batch)))
        device = next(iter(ctx.parameters.values())).device
        if self.speaks:
            places = [int(torch.randint(len(self.stored), (1,), generator=self.draw)) for _ in range(count)]
            made = self.stored.batch(places, ctx.task.predictions, device)
            made = {key: value for key, value in made.items() if key in batch or key == "labels"}
        else:
            made = to(self.maker.sample(count, self.draw), device)
        value = self._whole(ctx, made) if isinstance(made, Mapping) else self._labelled(ctx, batch, made)
        weight = max(1, ctx.task.index) if self.strength == "balanced" else float(self.strength)
        return weight * value

    def end_task(self, ctx: Context) -> None:
        if self.strength and not self.speaks and not ctx.task.last:
            self.maker.learn(ctx.task.train, self.draw)

    def _beginnings(self, ctx: Context, own: list[int]) -> list[list[int]]:
        """What each text begins with; ``own`` where there is nothing else."""
        task = ctx.task
        if self.prompts == "none":
            return [own] * self.count
        with torch.random.fork_rng([]):  # a DataLoader draws when it is walked
            found = prompts_of(task.retain or () if self.prompts == "retain" else task.train, self.count, task.predictions)
        begin = [prompt or own for prompt in found] or [own]
        if self.prompts == "task":
            return [one for same in beginnings(begin, self.count, self.draw) for one in same]
        return [begin[index % len(begin)] for index in range(self.count)]

    def _whole(self, ctx: Context, made: Any) -> Tensor:
        """The loss on examples that come with labels."""
        if self.targets == "hard":
            return ctx.loss_fn(ctx.model, made)
        read = ctx.task.predictions
        student = read.logits(read.outputs(ctx.model, made), made, every=True)
        return grouped(student, teacher_logits(ctx.model, self.teacher, made, read), [None], self.temperature)

    def _labelled(self, ctx: Context, batch: Any, x: Tensor) -> Tensor:
        """The loss on made-up inputs, with the labels of the old model."""
        read, groups = ctx.task.predictions, kept_groups(ctx.task)
        like = inputs(batch) if x.is_floating_point() else x
        made: Any = x.to(like.dtype)
        if isinstance(batch, Mapping):
            made = {next(key for key, value in batch.items() if value is like): made}
        teacher = teacher_logits(ctx.model, self.teacher, made, read)
        student = read.logits(read.outputs(ctx.model, made), made, every=True)
        units, active = range(student.shape[1]), read.active(batch)
        now = set(units) if active is None else set(active.any(0).nonzero().flatten().tolist())
        parts = []
        for group in [tuple(units) if group is None else group for group in groups]:
            shared = set(group) <= now and (active is not None or len(groups) == 1)
            allowed = sorted(now) if shared else group
            parts.append(replayed(student, teacher, group, allowed, self.temperature if self.targets == "soft" else None))
        return torch.stack(parts).mean()


def _listed(where: str, value: Any) -> Sequence[int]:
    if isinstance(value, str) or not isinstance(value, Sequence) or not value:
        raise InputError(f"{value!r} is not allowed", where=where, mend="Give a list of whole numbers, such as [400, 400]")
    return value
