"""How long a reference stays true: the share of its signs that have turned after some steps."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import torch
from torch import nn

from forgetless.analysis.passes import reference, trainable
from forgetless.analysis.taylor import Step, stepped, swapped
from forgetless.core import options
from forgetless.core.context import LossFunction
from forgetless.ops import packing, signs
from forgetless.progress import Advance, silent

LASTS = (1, 4, 16)
SMALL = 1 << 30
"""Bytes of weights up to which all tensors are looked at."""
STRIDE = 7
"""A sample takes every seventh tensor, so that no kind and no part of the model is left out."""


def sample(model: nn.Module, most: int = SMALL) -> list[str] | None:
    """Names of tensors, spread over the model, that take an eighth of its weights; None (all) where these take at most ``most`` bytes."""
    looked = {name: parameter.numel() * parameter.element_size() for name, parameter in trainable(model).items()}
    whole = sum(looked.values())
    if whole <= most:
        return None
    chosen: list[str] = []
    taken = 0
    names = [name for start in range(STRIDE) for name in list(looked)[start::STRIDE]]
    for name in names:
        if taken + looked[name] <= whole // 8:
            chosen.append(name)
            taken += looked[name]
    return chosen or [min(looked, key=lambda name: looked[name])]


def sign_turns(
    model: nn.Module,
    loss_fn: LossFunction,
    retain: Sequence[Any],
    inject: Sequence[Any],
    rate: float,
    *,
    step: Step = "adamw",
    steps: Sequence[int] = LASTS,
    tensors: Collection[str] | None = None,
    advance: Advance = silent,
) -> list[tuple[int, float]]:
    r"""The share of the reference's weights whose sign turns between plus and minus after k steps, for each k.

    The k steps are one long one, :math:`\theta - k\,\eta\, d(I)`, along the inject set's mean gradient: what training does first, without
    what it corrects on the way and without the noise of its batches. (In real training it is ``sign_flips`` in ``metrics.jsonl``.)
    Memory: the weights twice, and the reference of ``tensors`` (`sample` picks few).

    Args:
        model, loss_fn, retain, inject: as for `forgetless.analysis.taylor.taylor_curve`.
        rate: learning rate.
        step: whose step.
        steps: the k.
        tensors: the tensors whose signs are compared; None takes all.
        advance: told of every k.

    Returns:
        Pairs of k and the share, in [0, 1]; 0.5 is what two unrelated references would have.
    """
    rate = options.number("rate", rate, above=True)
    looked = trainable(model)
    few = trainable(model, tensors)
    first = {name: packing.pack_signs(grad) for name, grad in reference(model, loss_fn, few, retain).items()}
    numel = sum(few[name].numel() for name in first)
    found = []
    for count in steps:
        options.whole("steps", count)
        values, _ = stepped(looked, reference(model, loss_fn, looked, inject), rate * count, step)
        with swapped(looked, values), torch.enable_grad():
            now = reference(model, loss_fn, few, retain)
        turned = sum(signs.flips(first[name], packing.pack_signs(now[name]), few[name].numel()) for name in first if name in now)
        found.append((count, turned / numel))
        advance(1)
    return found
