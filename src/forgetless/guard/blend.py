"""Points on the straight line between the weights at the start and at the end of training."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

Weights = dict[str, Tensor]
BISECTIONS = 5
"""Looks on the line: the share of the way is found to 1/32."""


def trained(model: nn.Module) -> Weights:
    """Copies, in main memory, of the trainable weights."""
    return {name: tensor.detach().to("cpu", copy=True) for name, tensor in model.named_parameters() if tensor.requires_grad}


def put(model: nn.Module, start: Weights, end: Weights, alpha: float) -> None:
    r"""Set the weights to :math:`(1 - \alpha)\,\theta_0 + \alpha\,\theta_1` (Wortsman et al. 2021, arXiv 2109.01903, Eq. 1).

    Of a low-rank adapter, whose product B A is what counts, A stays as at the end and B is blended: where B began at zero this is the
    straight line between the merged weights. At ``alpha`` 1 and 0 the result is the end and the start, bit for bit (at 0 but for A).
    """
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name in end:
                parameter.copy_(end[name] if alpha == 1.0 or _inner(name) else _between(start[name], end[name], alpha))


def _between(start: Tensor, end: Tensor, alpha: float) -> Tensor:
    if alpha == 0.0:
        return start
    return ((1 - alpha) * start.double() + alpha * end.double()).to(end.dtype) if start.is_floating_point() else end


def _inner(name: str) -> bool:
    """Whether a weight is the A of a low-rank adapter, as PEFT names it."""
    return "lora_A" in name.split(".") or "lora_embedding_A" in name.split(".")


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
