"""L2-SP: stay near the weights that training began with."""

from __future__ import annotations

from typing import ClassVar, Literal

from torch import Tensor

from forgetless.core import options
from forgetless.core.context import Context, Tree
from forgetless.core.strength import Adjustable, number_or_auto
from forgetless.core.teacher import kept_groups
from forgetless.ops import quadratic


class L2SP(Adjustable):
    r"""L2-SP (Li, Grandvalet & Davoine 2018, arXiv 1802.01483, Eq. 3): a uniform quadratic penalty on the way from the start.

    .. math:: \tilde L(\theta) = L(\theta) + \frac{\text{strength}}{2} \sum_i (\theta_i - \theta^0_i)^2

    where :math:`\theta^0` are the weights at the beginning of the first task (the pretrained ones).

    Deviations from the paper: it penalises every trainable parameter; the paper's second term, plain weight decay on a new
    output layer (:math:`\beta`), is left to the optimizer. A parameter that appears after the first task is not penalised.

    Memory: 4 bytes per parameter (the start). Cost: a few element-wise operations per weight and step, no data.

    Args:
        strength: :math:`\alpha` of the paper, which tries 0.001 to 1; ``"auto"`` finds it as a task begins (`Adjustable`).
        anchor: ``"start"``: stay near the weights before the first task; ``"task"``: near those before the current one.

    Raises:
        InputError: an option is out of range.

    Examples:
        >>> L2SP(strength=0.01).anchor
        'start'
    """

    state_names: ClassVar[tuple[str, ...]] = ("weights", "found")
    sharded_state: ClassVar[tuple[str, ...]] = ("weights",)
    label: ClassVar[str] = "l2sp.strength"
    summary: ClassVar[str] = "pulls every weight back to where it started, all alike; needs no data, knows nothing of which weights matter"
    source: ClassVar[str] = "Li et al. 2018, arXiv 1802.01483, Eq. 3"
    extra_memory: ClassVar[str] = "4 bytes per parameter"
    extra_compute: ClassVar[str] = "element-wise only, no data"

    def __init__(self, *, strength: float | Literal["auto"] = 0.1, anchor: Literal["start", "task"] = "start") -> None:
        self.strength = number_or_auto(self.label, strength)
        self.anchor = options.choice("l2sp.anchor", anchor, ("start", "task"))
        self.weights: Tree = {}

    def begin_task(self, ctx: Context) -> None:
        if not self.weights or self.anchor == "task":
            self.weights = quadratic.copies(ctx.parameters)

    def protects(self, ctx: Context) -> bool:
        return bool(kept_groups(ctx.task))

    def penalty(self, ctx: Context) -> Tensor | None:
        strength = self.in_force(ctx)
        return quadratic.penalty(ctx.parameters, self.weights, None, strength / 2) if strength else None
