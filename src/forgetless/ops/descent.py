"""The steps of well-known optimizers, written down so that somebody else can take them; each names the memory it moves."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

from torch import Tensor


@dataclass(frozen=True, slots=True)
class Plain:
    """`torch.optim.SGD`: ``w - rate * g``, with weight decay ``w - rate * (g + weight_decay * w)``."""

    rate: float
    weight_decay: float = 0.0

    def memory(self, part: int) -> list[Tensor]:
        """What else moves with the weights of tensor number ``part``, everywhere: nothing."""
        return []

    def factors(self) -> tuple[float, ...]:
        """Rate, decay in the gradient."""
        return -self.rate, self.weight_decay


@dataclass(frozen=True, slots=True)
class Momentum:
    """`torch.optim.SGD` with momentum: ``v = momentum * v + (1 - dampening) * g``, then ``w - rate * v``.

    With weight decay g is ``g + weight_decay * w``; ``nesterov`` goes along ``g + momentum * v`` instead of v. ``velocities``
    holds the v of each tensor that is stepped, in their order.
    """

    rate: float
    momentum: float
    dampening: float
    velocities: list[Tensor]
    weight_decay: float = 0.0
    nesterov: bool = False

    def memory(self, part: int) -> list[Tensor]:
        """What else moves with the weights of tensor number ``part``, everywhere."""
        return [self.velocities[part]]

    def factors(self) -> tuple[float, ...]:
        """Rate, decay in the gradient, momentum, share of g in v, whether it looks ahead."""
        return -self.rate, self.weight_decay, self.momentum, 1 - self.dampening, float(self.nesterov)


@dataclass(frozen=True, slots=True)
class Adam:
    """Torch's `Adam` (weight decay in the gradient) or, ``decoupled``, `AdamW`, after ``steps`` steps (this one counted).

    As it steps by default on a processor: operation by operation, or ``foreach``, which is the same there. ``means`` and
    ``squares`` hold the moments of each tensor that is stepped, in their order.
    """

    rate: float
    betas: tuple[float, float]
    eps: float
    weight_decay: float
    decoupled: bool
    steps: float
    means: list[Tensor]
    squares: list[Tensor]

    def memory(self, part: int) -> list[Tensor]:
        """What else moves with the weights of tensor number ``part``, everywhere."""
        return [self.means[part], self.squares[part]]

    def factors(self) -> tuple[float, ...]:
        """Decay of the weight, decay in the gradient, share of g in the mean, beta2, share of g² in the square, root, eps, rate."""
        first, second = self.betas
        decay = 1 - self.rate * self.weight_decay if self.decoupled else 1.0
        added = 0.0 if self.decoupled else self.weight_decay
        rate = -self.rate / (1 - first**self.steps)
        return decay, added, 1 - first, second, 1 - second, self.root(1 - second**self.steps), self.eps, rate

    def root(self, number: float) -> float:
        """The square root in which the bias of the squares is corrected."""
        found: float = number**0.5
        return found


@dataclass(frozen=True, slots=True)
class FusedAdam(Adam):
    """The same with ``fused=True``: in one pass, rounded a little differently, above all the last few weights of a tensor."""

    def root(self, number: float) -> float:
        """The square root in which the bias of the squares is corrected."""
        return sqrt(number)


Descent = Plain | Momentum | Adam
