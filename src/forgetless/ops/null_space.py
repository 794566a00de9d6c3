"""Steps that leave what a linear layer says of some inputs as it is, as far as they allow."""

from __future__ import annotations

import torch
from torch import Tensor


def projector(covariance: Tensor, strength: float) -> Tensor:
    r"""The soft projector away from the directions in which inputs lie: :math:`P = (I + \text{strength} \cdot C / \bar e)^{-1}`.

    A direction of eigenvalue e of C is shrunk to :math:`1 / (1 + \text{strength} \cdot e / \bar e)`, with :math:`\bar e` the mean
    eigenvalue: one in which no input lies passes whole. Worked out in fp64, since eigenvalues differ by many orders.

    Args:
        covariance: C, the uncentred covariance of the inputs, of shape (inputs, inputs).
        strength: 0 gives the identity.
    """
    wide = covariance.double()
    mean = wide.diagonal().mean()
    inside = wide * (strength / mean) if mean > 0 else torch.zeros_like(wide)
    inside.diagonal().add_(1)
    return torch.cholesky_inverse(torch.linalg.cholesky(inside))


def projected(before: Tensor, after: Tensor, right: Tensor) -> Tensor:
    r"""The weights after a step of which only :math:`(\theta' - \theta) P` is taken; a weight that did not move stays where it is.

    Args:
        before, after: weights before and after the optimizer's step, of shape (outputs, inputs); half precision is taken in fp32.
        right: P, of shape (inputs, inputs), in the dtype to work in.
    """
    start = before.to(right.dtype)
    moved = after.to(right.dtype) - start
    kept = torch.addmm(start, moved, right).to(after.dtype)
    return torch.where(moved == 0, before, kept)
