"""The weights of a model on the straight line between the start and the end of training."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from forgetless.ops.interpolation import between, largest, least, stays

Weights = dict[str, Tensor]


def trained(model: nn.Module) -> Weights:
    """Copies, in main memory, of the trainable weights."""
    return {name: tensor.detach().to("cpu", copy=True) for name, tensor in model.named_parameters() if tensor.requires_grad}


def stand(model: nn.Module, weights: Weights) -> bool:
    """Whether the trainable weights equal those of ``weights``."""
    own = ((name, tensor) for name, tensor in model.named_parameters() if tensor.requires_grad)
    return all(name in weights and tensor.dtype == weights[name].dtype and torch.equal(tensor.cpu(), weights[name]) for name, tensor in own)


def put(model: nn.Module, start: Weights, end: Weights, alpha: float) -> None:
    r"""Set the weights to :math:`(1 - \alpha)\,\theta_0 + \alpha\,\theta_1` (Wortsman et al. 2021, arXiv 2109.01903, Eq. 1).

    Of a low-rank adapter only B is blended (`stays`). At ``alpha`` 1 and 0 the result is the end and the start, bit for bit.
    """
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name in end:
                parameter.copy_(end[name] if stays(name) else between(start[name], end[name], alpha))


def farthest(model: nn.Module, start: Weights, good: Callable[[], bool], tries: int) -> tuple[float, Weights]:
    """Go back from the weights that stand to the largest share of the way from ``start`` at which ``good()`` holds.

    Returns:
        The share (found to 2 to the power of minus ``tries``; 0: nowhere but at the start), and the weights that stood.
    """
    end = trained(model)

    def there(alpha: float) -> bool:
        put(model, start, end, alpha)
        return good()

    alpha = largest(there, tries)
    put(model, start, end, alpha)
    return alpha, end


def nearest(model: nn.Module, start: Weights, enough: Callable[[], bool], tries: int) -> tuple[float, Weights]:
    """Go back to the least share of the way from which on ``enough()`` holds, as `farthest`; 1: only the end is enough."""
    end = trained(model)

    def there(alpha: float) -> bool:
        put(model, start, end, alpha)
        return enough()

    alpha = least(there, tries)
    put(model, start, end, alpha)
    return alpha, end
