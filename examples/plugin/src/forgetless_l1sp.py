"""L1-SP: L2-SP with absolute values, so that most weights stay exactly near their start and few go far."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from forgetless.core import options
from forgetless.core.context import Context, Tree
from forgetless.core.method import Method


class L1SP(Method):
    r"""A penalty on the way from the start, by its absolute value.

    .. math:: \tilde L(\theta) = L(\theta) + \text{strength} \sum_i \lvert\theta_i - \theta^0_i\rvert

    Memory: 4 bytes a weight. Cost: element-wise, no data.

    Args:
        strength: of the penalty.

    Raises:
        InputError: the strength is negative or no number.

    Example:
        >>> L1SP(strength=1e-3).strength
        0.001
    """

    state_names: ClassVar[tuple[str, ...]] = ("start",)
    summary: ClassVar[str] = "pulls every weight back to where it started, by its absolute distance; needs no data"
    source: ClassVar[str] = "an example"
    extra_memory: ClassVar[str] = "4 bytes per parameter"
    extra_compute: ClassVar[str] = "element-wise only, no data"

    def __init__(self, *, strength: float = 1e-4) -> None:
        self.strength = options.number("l1sp.strength", strength)
        self.start: Tree = {}

    def begin_task(self, ctx: Context) -> None:
        if not self.start:
            self.start = {name: parameter.detach().clone() for name, parameter in ctx.parameters.items()}

    def penalty(self, ctx: Context) -> Tensor | None:
        if not self.strength:
            return None
        terms = [(parameter - self.start[name]).abs().sum() for name, parameter in ctx.parameters.items() if name in self.start]
        return self.strength * torch.stack(terms).sum()
