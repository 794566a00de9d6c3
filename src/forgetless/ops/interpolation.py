"""Points on the straight line between two sets of weights."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

BISECTIONS = 5
"""Trials on the line: the share of the way is found to 1/32."""


def between(start: Tensor, end: Tensor, alpha: float) -> Tensor:
    r""":math:`\theta_0 + \alpha (\theta_1 - \theta_0)`, worked out in float64: the ends themselves at 0 and 1, and where both are equal.

    Args:
        start, end: of one shape and floating-point type; ``start`` is moved to where ``end`` is.
        alpha: the share of the way, in [0, 1].
    """
    start = start.to(end.device)
    if alpha == 1.0:
        return end
    return start if alpha == 0.0 else (start.double() + alpha * (end.double() - start.double())).to(end.dtype)


def stays(name: str) -> bool:
    """Whether the weight ``name`` is the A of a low-rank adapter, as PEFT names it, which stays as at the end.

    What an adapter adds is the product B A. Where B began at zero, as it does, scaling B alone is the straight line between the merged
    weights; scaling both would bend it.
    """
    return not {"lora_A", "lora_embedding_A"}.isdisjoint(name.split("."))


def largest(good: Callable[[float], bool], tries: int = BISECTIONS) -> float:
    """The largest share of the way, to 2 to the power of minus ``tries``, at which ``good`` holds, if it holds up to there and not beyond.

    ``good(0)`` is taken for granted and ``good(1)`` for false; neither is asked.
    """
    low, high = 0.0, 1.0
    for _ in range(tries):
        middle = (low + high) / 2
        if good(middle):
            low = middle
        else:
            high = middle
    return low


def least(good: Callable[[float], bool], tries: int = BISECTIONS) -> float:
    """The least share of the way, to 2 to the power of minus ``tries``, from which on ``good`` holds, if it holds from there to the end.

    ``good(1)`` is taken for granted and ``good(0)`` for false; neither is asked. The last share for which it held is the one returned.
    """
    return 1.0 - largest(lambda back: good(1.0 - back), tries)
