"""What a comparison of two gradients found: by weight, tensor, layer, kind, example and group."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from forgetless.analysis.places import KINDS, Place
from forgetless.analysis.taylor import Step
from forgetless.ops.similarity import MagnitudeSketch


@dataclass(frozen=True, slots=True)
class TensorConflict:
    r"""One tensor, or several together.

    Attributes:
        name: of the tensor, the layer or the kind.
        numel: its weights.
        conflicting: how many of them have :math:`s_j < 0`.
        zero: how many have :math:`s_j = 0` (a gradient is zero); they count as collaborative.
        inner: :math:`\sum_j s_j`.
        size: :math:`\sum_j |s_j|`.
    """

    name: str
    numel: int
    conflicting: int
    zero: int
    inner: float
    size: float

    @property
    def share(self) -> float:
        """Conflicting weights as a share of all."""
        return self.conflicting / self.numel if self.numel else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        live = self.numel - self.zero
        return {
            "name": self.name,
            "weights": self.numel,
            "conflicting": self.conflicting,
            "share": self.share,
            "share_of_nonzero": self.conflicting / live if live else None,
            "zero": self.zero,
            "inner": self.inner,
            "abs": self.size,
        }


@dataclass(frozen=True, slots=True)
class Conflict:
    r"""What `conflict` found. M is the retain set, I the inject set, g(·) the mean gradient of the loss over a set.

    Attributes:
        step: ``sgd`` or ``adamw``: what d(i), the direction of a step on inject example i, is; for ``sgd`` it is g(i).
        groups: names of the retain groups, G of them.
        examples_retain: how many examples each group has.
        places: where each of the T tensors looked at stands, by name.
        similarity: :math:`S(M,I) = \langle g(M), g(I)\rangle`.
        norm_retain, norm_inject: :math:`\lVert g(M)\rVert, \lVert g(I)\rVert`.
        norm_groups: float64 of shape (G,).
        tensors: one for each tensor.
        sketch: the values :math:`s_j`.
        by_tensor: float64 of shape (n, T): :math:`\langle g(M), d(i)\rangle` of each inject example within each tensor.
        by_group: float64 of shape (n, G): :math:`\langle g(G), d(i)\rangle`.
        norms: float64 of shape (n,): :math:`\lVert d(i)\rVert`.
        losses: float64 of shape (n,): the loss of each inject example.
    """

    step: Step
    groups: tuple[str, ...]
    examples_retain: tuple[int, ...]
    places: dict[str, Place]
    similarity: float
    norm_retain: float
    norm_inject: float
    norm_groups: Tensor
    tensors: tuple[TensorConflict, ...]
    sketch: MagnitudeSketch
    by_tensor: Tensor
    by_group: Tensor
    norms: Tensor
    losses: Tensor

    @property
    def cosine(self) -> float:
        """S(M, I) divided by both norms; 0 where one is 0."""
        return _ratio(self.similarity, self.norm_retain * self.norm_inject)

    @property
    def inner(self) -> Tensor:
        r"""float64 of shape (n,): :math:`\langle g(M), d(i)\rangle`. Below zero the example pulls against the retain set."""
        return self.by_tensor.sum(1)

    @property
    def cosines(self) -> Tensor:
        """float64 of shape (n,): `inner` divided by both norms."""
        return _ratios(self.inner, self.norm_retain * self.norms)

    @property
    def group_cosines(self) -> Tensor:
        """float64 of shape (n, G): `by_group` divided by both norms."""
        return _ratios(self.by_group, self.norms[:, None] * self.norm_groups[None])

    def predicted(self, rate: float) -> Tensor:
        r"""float64 of shape (n,): :math:`-\eta\,\langle g(M), d(i)\rangle`, the first-order change of the mean retain loss, in nats, by one
        step on example i alone at the learning rate :math:`\eta`."""
        return -rate * self.inner

    def within(self, tensors: Collection[str]) -> Tensor:
        """`inner` of some of the tensors alone, float64 of shape (n,): what the fast mode of the ranking sees."""
        columns = [index for index, tensor in enumerate(self.tensors) if tensor.name in set(tensors)]
        return self.by_tensor[:, columns].sum(1)

    @property
    def whole(self) -> TensorConflict:
        """All tensors together."""
        return _together("all", self.tensors)

    def by_layer(self) -> list[TensorConflict]:
        """The numbered layers, from the first to the last, then ``outside``: what belongs to none."""
        layers = sorted({place.layer for place in self.places.values() if place.layer is not None})
        rows = [_together(str(layer), [t for t in self.tensors if self.places[t.name].layer == layer]) for layer in layers]
        outside = [tensor for tensor in self.tensors if self.places[tensor.name].layer is None]
        return [*rows, *([_together("outside", outside)] if outside else [])]

    def by_kind(self) -> list[TensorConflict]:
        """Attention, MLP, norm, embedding and other tensors, as far as there are any."""
        found = [(kind, [t for t in self.tensors if self.places[t.name].kind == kind]) for kind in KINDS]
        return [_together(kind, own) for kind, own in found if own]


def _together(name: str, tensors: Sequence[TensorConflict]) -> TensorConflict:
    return TensorConflict(
        name,
        sum(tensor.numel for tensor in tensors),
        sum(tensor.conflicting for tensor in tensors),
        sum(tensor.zero for tensor in tensors),
        math.fsum(tensor.inner for tensor in tensors),
        math.fsum(tensor.size for tensor in tensors),
    )


def _ratio(value: float, by: float) -> float:
    return value / by if by else 0.0


def _ratios(values: Tensor, by: Tensor) -> Tensor:
    return torch.where(by > 0, values / by, 0.0)
