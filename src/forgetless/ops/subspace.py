"""Matrices whose change may have no part in a protected subspace."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

ROUNDINGS = 4096
"""A change smaller than so many roundings of the matrix is measured against that much: the rest is arithmetic."""


class Factors(NamedTuple):
    """A matrix as the product ``u @ diag(s) @ v``."""

    u: Tensor
    s: Tensor
    v: Tensor

    def flipped(self) -> Factors:
        """The transposed matrix."""
        return Factors(self.v.T, self.s, self.u.T)


class Subspace(NamedTuple):
    """A protected subspace, by orthonormal columns that span it, or with ``complement`` all that is at right angles to it."""

    basis: Tensor
    complement: bool = False

    def part(self, vectors: Tensor) -> Tensor:
        """The part of each column of ``vectors`` in it."""
        spanned = self.basis @ (self.basis.T @ vectors)
        return vectors - spanned if self.complement else spanned

    def rest(self, vectors: Tensor) -> Tensor:
        """The part of each column of ``vectors`` at right angles to it."""
        spanned = self.basis @ (self.basis.T @ vectors)
        return spanned if self.complement else vectors - spanned


def protected_share(now: Factors, start: Factors, left: Subspace, right: Subspace, *, directions: int | None = None) -> float:
    r"""The share of the change :math:`\Delta` of a matrix that lies in its protected subspaces:
    :math:`(\lVert P_l \Delta\rVert^2 + \lVert \Delta P_r\rVert^2) / \lVert\Delta\rVert^2`, 0 where nothing has changed.

    Args:
        now, start: the matrix in factors, whose differences are small against them.
        left, right: what is protected, of the columns' space and of the rows' space.
        directions: estimate it from so many random directions a side, at the cost of as many products with the factors;
            None: exactly, at the cost of the whole matrix.
    """
    return _share(now, start, left, directions) + _share(now.flipped(), start.flipped(), right, directions)


def _share(now: Factors, start: Factors, protected: Subspace, directions: int | None) -> float:
    seen = None
    if directions is not None:
        size = start.v.shape[1]
        draw = torch.Generator().manual_seed(size)
        seen = torch.randn(size, directions, generator=draw, dtype=start.v.dtype).to(start.v.device)
    kinds = torch.finfo(start.u.dtype)
    moved, whole = _change(now, start, seen), _product(start, seen)
    floor = (ROUNDINGS * kinds.eps) ** 2 * whole.square().sum()
    return float(protected.part(moved).square().sum() / torch.maximum(moved.square().sum(), floor).clamp_min(kinds.tiny))


def _product(matrix: Factors, seen: Tensor | None) -> Tensor:
    return matrix.u @ (matrix.s[:, None] * (matrix.v if seen is None else matrix.v @ seen))


def _change(now: Factors, start: Factors, seen: Tensor | None) -> Tensor:
    """``now - start``, put together from the small differences so that it does not drown in the rounding of the large products."""
    parts = (
        Factors(now.u - start.u, now.s, now.v),
        Factors(start.u, now.s - start.s, now.v),
        Factors(start.u, start.s, now.v - start.v),
    )
    return sum((_product(part, seen) for part in parts[1:]), _product(parts[0], seen))
