"""The recipe: what to run where nobody wants to choose."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

from forgetless.core.method import Chain
from forgetless.methods.null_space import NullSpace
from forgetless.methods.replay import Replay


class Auto(Chain):
    r"""The default: a quarter of a batch of replay, and steps only where old inputs do not lie: ``replay(ratio=0.25) >> null-space``.

    .. math:: \theta \leftarrow \theta + u\big(\nabla_\theta [L(\theta; B) + L(\theta; B_M)]\big)\, P, \qquad |B_M| = \tfrac14 |B|

    with u the optimizer's step and P the projector of `NullSpace`. Replay keeps what the retain set covers, the projector what it does not:
    other kinds of knowledge, other formats. Without a retain set replay does nothing in the first task, and the old inputs are those of
    texts that a causal language model makes up itself. `docs/results/study.md` has the measurements that chose it.

    Memory and cost: those of its parts.

    Args:
        ratio: of replay: old examples for each new one.
        strength: of null-space; 0 turns replay off as well.
        texts, length, prompted: of null-space: what a language model makes up.
        target: of null-space: the layers that are trained.
        seed: of both.

    Raises:
        InputError: an option is out of range.

    Examples:
        >>> [type(method).__name__ for method in Auto(ratio=0.25).methods]
        ['Replay', 'NullSpace']
    """

    summary: ClassVar[str] = "the recipe: a quarter of a batch of replay, and steps only where old inputs do not lie; what to run first"
    source: ClassVar[str] = "docs/results/study.md; replay: arXiv 1902.10486; null-space: arXiv 2103.07113 and 1810.01256"
    keeps_examples: ClassVar[bool] = Replay.keeps_examples
    extra_memory: ClassVar[str] = NullSpace.extra_memory
    extra_compute: ClassVar[str] = f"a quarter of a batch more; {NullSpace.extra_compute}"
    scope: ClassVar[str] = NullSpace.scope
    owns: ClassVar[str] = NullSpace.owns

    def __init__(
        self,
        *,
        ratio: float | Literal["auto"] = 0.25,
        strength: float | Literal["auto"] | None = None,
        texts: int = 64,
        length: int = 16,
        prompted: int = 512,
        target: str | Sequence[str] = "auto",
        seed: int = 0,
    ) -> None:
        space = NullSpace(strength=strength, texts=texts, length=length, prompted=prompted, target=target, seed=seed)
        super().__init__(Replay(ratio=ratio, strength=0.0 if strength == 0 else 1.0, seed=seed), space)
