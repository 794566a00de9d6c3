"""How far one model's answers are from another's: soft cross-entropy and KL divergence, row by row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

Group = Sequence[int] | None


def soft_cross_entropy(student: Tensor, teacher: Tensor, temperature: float = 1.0) -> Tensor:
    r"""For each row :math:`-T^2\sum_i \mathrm{softmax}(t/T)_i \log\mathrm{softmax}(s/T)_i`, in float32 or better.

    Args:
        student: logits of shape (rows, units).
        teacher: logits of the same shape.
        temperature: T; with the factor :math:`T^2` gradients keep their size (Hinton 2015).
    """
    student, teacher = _wide(student), _wide(teacher)
    return -(temperature**2) * ((teacher / temperature).softmax(-1) * (student / temperature).log_softmax(-1)).sum(-1)


def grouped(student: Tensor, teacher: Tensor, groups: Sequence[Group], temperature: float = 1.0) -> Tensor:
    """`soft_cross_entropy` with a softmax for each group of units (None: all), mean over rows and groups: a scalar."""
    parts = []
    for group in groups:
        s, t = (student, teacher) if group is None else (student[:, list(group)], teacher[:, list(group)])
        parts.append(soft_cross_entropy(s, t, temperature).mean())
    return torch.stack(parts).mean()


def replayed(student: Tensor, teacher: Tensor, group: Sequence[int], allowed: Sequence[int], temperature: float | None = None) -> Tensor:
    """Mean cross-entropy of ``student`` with what ``teacher`` calls each row, which is one of ``group``.

    Args:
        student: logits of shape (rows, units).
        teacher: likewise.
        group: the units that the teacher chooses among.
        allowed: the units that the student's softmax is over; ``group`` and possibly newer ones.
        temperature: None: the teacher's likeliest unit is the label; else its probabilities at this temperature are (and the
            same for the student, times the temperature squared). Newer units have the probability 0.
    """
    places = [list(allowed).index(unit) for unit in group]
    heat = temperature or 1.0
    log_p = (_wide(student)[:, list(allowed)] / heat).log_softmax(-1)[:, places]
    old = _wide(teacher)[:, list(group)]
    if temperature is None:
        return -log_p.gather(1, old.argmax(-1, keepdim=True)).mean()
    return -(heat**2) * ((old / heat).softmax(-1) * log_p).sum(-1).mean()


def kl_rows(base: Tensor, model: Tensor, direction: Literal["forward", "reverse"] = "forward") -> Tensor:
    r"""For each row of logits :math:`KL(base\|model)` (forward) or :math:`KL(model\|base)` (reverse), in nats.

    A unit with a very low logit in both (`INACTIVE`) adds exactly 0.
    """
    p, q = _wide(base).log_softmax(-1), _wide(model).log_softmax(-1)
    if direction == "reverse":
        p, q = q, p
    return (p.exp() * (p - q)).sum(-1)


def positions(owners: Tensor) -> Tensor:
    """For each row how many rows of the same owner come before it."""
    order = owners.argsort(stable=True)
    counts = torch.bincount(owners)
    before = (counts.cumsum(0) - counts)[owners[order]]
    return torch.empty_like(order).scatter_(0, order, torch.arange(len(order), device=order.device) - before)


def _wide(logits: Tensor) -> Tensor:
    return logits.float() if logits.dtype in (torch.bfloat16, torch.float16) else logits
