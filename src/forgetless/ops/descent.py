"""The steps of well-known optimizers, written down so that somebody else can take them; each names the memory it moves."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

from torch import Tensor


@dataclass(frozen=True, slots=True)
class Plain:
    """`torch.optim.SGD`: ``w - rate * g``."""

    rate: float

    def memory(self, part: int) -> list[Tensor]:
        """What else moves with the weights of tensor number ``part``, everywhere: nothing."""
        return []


@dataclass(frozen=True, slots=True)
class Momentum:
    """`torch.optim.SGD` with momentum: ``v = momentum * v + (1 - dampening) * g``, then ``w - rate * v``.

    ``velocities`` holds the v of each tensor that is stepped, in their order.
    """

    rate: float
    momentum: float
    dampening: float
    velocities: list[Tensor]

    def memory(self, part: int) -> list[Tensor]:
        """What else moves with the weights of tensor number ``part``, everywhere."""
        return [self.velocities[part]]


@dataclass(frozen=True, slots=True)
class Adam:
    """Torch's fused `Adam` (weight decay in the gradient) or, ``decoupled``, `AdamW`, after ``steps`` steps (this one counted).

    ``means`` and ``squares`` hold the moments of each tensor that is stepped, in their order.
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
        root, rate = sqrt(1 - second**self.steps), -self.rate / (1 - first**self.steps)
        return decay, added, 1 - first, second, 1 - second, root, self.eps, rate


Descent = Plain | Momentum | Adam
