"""The recipe: what to run where nobody wants to choose."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

from forgetless.core import options
from forgetless.core.context import Context
from forgetless.core.method import Chain
from forgetless.methods.lwf import LwF
from forgetless.methods.null_space import NullSpace
from forgetless.methods.replay import Replay


class SelfDistillation(LwF):
    """`LwF` as long as texts that the model made up are all that stands for the old; else it does nothing, and keeps nothing.

    Args:
        space: what makes them up; it begins its task before.
        strength: of `LwF`.
    """

    def __init__(self, space: NullSpace, *, strength: float) -> None:
        super().__init__(strength=strength)
        self.space = space

    def begin_task(self, ctx: Context) -> None:
        self.teacher = {}
        if self.space.made_up and self.space.protects(ctx):
            super().begin_task(ctx)


class Auto(Chain):
    r"""The default: a quarter of a batch of replay, steps only where old inputs do not lie: ``replay(ratio=0.25) >> null-space``.

    .. math:: \theta \leftarrow \theta + u\big(\nabla_\theta [L(\theta; B) + L(\theta; B_M)]\big)\, P, \qquad |B_M| = \tfrac14 |B|

    with u the optimizer's step and P the projector of `NullSpace`. Replay keeps what the retain set covers, the projector what it does not:
    other kinds of knowledge, other formats. Without a retain set there is nothing to replay in the first task, and the old inputs are those
    of texts that a causal language model makes up itself; with ``distillation`` the model's old answers on the new inputs are kept too
    (`LwF`): it is ``lwf >> null-space`` then. `docs/results/study.md` has the measurements that chose it.

    Memory and cost: those of its parts.

    Args:
        ratio: of replay: old examples for each new one.
        strength: of null-space; 0 turns replay and lwf off as well.
        distillation: the strength of lwf, where there is no retain set. More is kept then, but what is learned may hold in fewer
            phrasings; from about half on (1 over lwf's temperature) an old answer can stay the likelier one however long it is trained.
        texts, length, prompted: of null-space: what a language model makes up.
        target: of null-space: the layers that are trained.
        seed: of both.

    Raises:
        InputError: an option is out of range.

    Examples:
        >>> [type(method).__name__ for method in Auto(ratio=0.25).methods]
        ['Replay', 'NullSpace', 'SelfDistillation']
    """

    summary: ClassVar[str] = "the recipe: a quarter of a batch of replay, and steps only where old inputs do not lie; what to run first"
    source: ClassVar[str] = "docs/results/study.md; arXiv 1902.10486 (replay), 2103.07113 and 1810.01256 (null-space), 1606.09282 (lwf)"
    keeps_examples: ClassVar[bool] = Replay.keeps_examples
    extra_memory: ClassVar[str] = f"{NullSpace.extra_memory}; with distillation a copy of the trained weights"
    extra_compute: ClassVar[str] = f"a quarter of a batch more, with distillation a forward pass; {NullSpace.extra_compute}"
    scope: ClassVar[str] = NullSpace.scope
    owns: ClassVar[str] = NullSpace.owns

    def __init__(
        self,
        *,
        ratio: float | Literal["auto"] = 0.25,
        strength: float | Literal["auto"] | None = None,
        distillation: float = 0.0,
        texts: int = 64,
        length: int = 16,
        prompted: int = 512,
        target: str | Sequence[str] = "auto",
        seed: int = 0,
    ) -> None:
        on = strength != 0
        space = NullSpace(strength=strength, texts=texts, length=length, prompted=prompted, target=target, seed=seed)
        teaching = SelfDistillation(space, strength=options.number("auto.distillation", distillation) if on else 0.0)
        super().__init__(Replay(ratio=ratio, strength=float(on), seed=seed), space, teaching)
