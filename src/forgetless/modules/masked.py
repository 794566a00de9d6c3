"""Layers whose frozen weights are seen through a learned binary mask."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from forgetless.ops.masks import top_share

Kind = Literal["threshold", "topk"]

_PIGGYBACK = 1e-2


class WeightMask(nn.Module):
    r"""A weight as :math:`\theta \odot m(s)`, with a score per weight; the gradient passes straight through the mask.

    :math:`m = \mathbb{1}[s > \tau]` with ``kind="threshold"`` (Piggyback), the share of highest :math:`|s|` with ``kind="topk"``
    (edge-popup, as SupSup has it).

    Attributes:
        score: what is learned.
        fixed: a bool mask that stands in for the one of the scores; None: the scores count.
        task: the index of the task that the scores were made for.
    """

    def __init__(self, weight: Tensor, kind: Kind, share: float, threshold: float) -> None:
        super().__init__()
        self.kind, self.share, self.threshold = kind, share, threshold
        self.score = nn.Parameter(torch.full_like(weight, _PIGGYBACK))
        self.fixed: Tensor | None = None
        self.task: int | None = None

    def forward(self, weight: Tensor) -> Tensor:
        if self.fixed is not None:
            return weight * self.fixed.to(weight)
        merit = self._merit()
        return weight * (self.mask().to(weight.dtype) + (merit - merit.detach()))  # the second term is zero and carries the gradient

    @torch.no_grad()
    def mask(self) -> Tensor:
        """The mask in use: bool, shaped like the weight."""
        if self.fixed is not None:
            return self.fixed
        return top_share(self._merit(), self.share) if self.kind == "topk" else self._merit() > self.threshold

    @torch.no_grad()
    def reset(self, draw: torch.Generator) -> None:
        """Scores to begin a task with: 0.01 everywhere (Piggyback), or uniform as torch draws the weights of a layer (SupSup)."""
        if self.kind == "threshold":
            self.score.fill_(_PIGGYBACK)
        else:
            bound = 1 / math.sqrt(max(1, self.score[0].numel()))
            self.score.copy_(torch.empty(self.score.shape).uniform_(-bound, bound, generator=draw))

    def _merit(self) -> Tensor:
        return self.score.abs() if self.kind == "topk" else self.score


def mask_layers(model: nn.Module, kind: Kind, share: float, threshold: float) -> dict[str, WeightMask]:
    """Freeze every parameter and put a mask over the weight of every linear and conv layer, in place.

    A layer whose weight another module shares (a tied output layer) is frozen and left without a mask.
    """
    owners: dict[int, int] = {}
    for module in model.modules():
        for parameter in module.parameters(recurse=False):
            owners[id(parameter)] = owners.get(id(parameter), 0) + 1
    model.requires_grad_(False)
    for module in list(model.modules()):
        layer = (
            isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d) or type(module).__name__ == "Conv1D"
        )  # that of transformers
        weight = getattr(module, "weight", None)
        if layer and isinstance(weight, Tensor) and owners[id(weight)] == 1:
            parametrize.register_parametrization(module, "weight", WeightMask(weight, kind, share, threshold))
    return dict(masks_of(model))


def masks_of(model: nn.Module) -> Iterator[tuple[str, WeightMask]]:
    """The masks of a model, by the name of their layer."""
    for name, module in model.named_modules():
        if parametrize.is_parametrized(module, "weight"):
            for part in module.parametrizations["weight"]:
                if isinstance(part, WeightMask):
                    yield name, part


def bake(model: nn.Module) -> nn.Module:
    """Put the masked weights, under the masks in use, into plain layers, in place."""
    for name in dict(masks_of(model)):
        parametrize.remove_parametrizations(model.get_submodule(name), "weight", leave_parametrized=True)
    return model
