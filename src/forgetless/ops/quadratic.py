"""Quadratic penalties on the distance of weights from where they stood, weighted by how much each matters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from forgetless.errors import ProtectionError


def wide(dtype: torch.dtype) -> torch.dtype:
    """The type in which importances are summed: float32 for half precision (squares and small additions would be lost), else its own."""
    return torch.float32 if dtype in (torch.float16, torch.bfloat16) else dtype


def copies(parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copies of the weights, in the type in which importances are summed."""
    return {
        name: parameter.detach().to(wide(parameter.dtype), copy=True, memory_format=torch.contiguous_format)
        for name, parameter in parameters.items()
    }


def penalty(
    parameters: Mapping[str, Tensor], anchor: dict[str, Tensor], importance: dict[str, Tensor] | None, factor: float
) -> Tensor | None:
    r""":math:`\text{factor} \cdot \sum_i \Omega_i (\theta_i - \theta^*_i)^2`, differentiable once.

    Nothing the size of the weights is kept for the backward pass. Tensors of ``anchor`` and ``importance`` that are on another
    device than their parameter are moved there for good (in the dictionaries given).

    Args:
        parameters: by name; those that ``anchor`` does not hold are not penalised.
        anchor: where the weights stood.
        importance: how much each matters; None: all alike, 1.
        factor: of the sum.

    Returns:
        A scalar in the widest type of the anchors, or None where nothing is penalised.

    Raises:
        ProtectionError: a parameter has another shape than its anchor.
    """
    total: Tensor | None = None
    for name, parameter in parameters.items():
        if name not in anchor or (importance is not None and name not in importance):
            continue
        if parameter.shape != anchor[name].shape:
            raise ProtectionError(
                f"{name!r} has the shape {tuple(parameter.shape)}, but what is to be kept has {tuple(anchor[name].shape)}; "
                "a parameter that grew cannot be protected by a penalty on its old values"
            )
        anchor[name] = anchor[name].to(parameter.device)
        if importance is not None:
            importance[name] = importance[name].to(parameter.device)
        term = _Distance.apply(parameter, anchor[name], None if importance is None else importance[name], factor)  # type: ignore[no-untyped-call]
        total = term if total is None else total + term.to(total.device)
    return total


def pull(parameter: Tensor, anchor: Tensor, importance: Tensor | None, factor: float) -> Tensor:
    r"""The gradient of `penalty`: :math:`2 \cdot \text{factor} \cdot \Omega (\theta - \theta^*)`, in the type of the anchor."""
    distance = parameter.detach().to(anchor.dtype) - anchor
    return (distance if importance is None else distance.mul_(importance)).mul_(2 * factor)


def fold(anchor: Tensor, importance: Tensor, new_anchor: Tensor, new_importance: Tensor) -> Tensor:
    r"""Make one quadratic of two, exactly: ``anchor`` and ``importance`` take up the new ones, in place.

    .. math:: A (\theta - m)^2 + F (\theta - t)^2 = (A + F) (\theta - m')^2 + \frac{A F}{A + F} (m - t)^2,
        \qquad m' = m + \frac{F}{A + F} (t - m)

    Where neither matters (:math:`A + F = 0`) the new anchor stands.

    Returns:
        The sum of the last term, which no weight can change.
    """
    both = importance + new_importance
    share = torch.where(both > 0, new_importance / both, 1.0)
    constant = (importance * share * (anchor - new_anchor).square()).sum()
    anchor.lerp_(new_anchor, share)
    importance.copy_(both)
    return constant


class _Distance(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, parameter: Tensor, anchor: Tensor, importance: Tensor | None, factor: float) -> Tensor:
        ctx.save_for_backward(parameter, anchor, importance)
        ctx.factor = factor
        distance = (parameter.to(anchor.dtype) - anchor).square_()
        return (distance if importance is None else distance.mul_(importance)).sum().mul_(factor)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None, None, None]:
        parameter, anchor, importance = ctx.saved_tensors
        return (pull(parameter, anchor, importance, ctx.factor).mul_(upstream).to(parameter.dtype), None, None, None)
