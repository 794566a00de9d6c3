"""What a model gives on some labelled examples: accuracy, probability and loss of the right labels."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from forgetless.core.context import Context
from forgetless.core.gradients import quiet
from forgetless.core.predictions import Predictions
from forgetless.errors import InputError


class Level(NamedTuple):
    """Means over examples, each example's own being the mean over its rows (see `Predictions`).

    Attributes:
        accuracy: the share of rows whose most probable label is the right one.
        probability: of the right labels.
        loss: the right labels' negative log-probability, in nats.
    """

    accuracy: float
    probability: float
    loss: float

    @property
    def score(self) -> float:
        """The mean of accuracy and probability: an accuracy that small changes move too."""
        return (self.accuracy + self.probability) / 2


NOTHING = Level(-math.inf, -math.inf, math.inf)
"""Of a training whose loss is not finite."""


def level(ctx: Context, batches: Iterable[Any]) -> Level:
    """What the model gives on ``batches``, in evaluation mode; leaves gradients and random numbers alone. No row at all: not a number.

    Raises:
        InputError: the batches hold no labels, or labels that are no classes or tokens.
    """
    read = ctx.task.predictions
    sums, count = torch.zeros(3, dtype=torch.float64), 0
    with quiet(ctx.model), torch.no_grad():
        for batch in batches:
            logs = read.logits(read.outputs(ctx.model, batch), batch).float().log_softmax(-1)
            labels, owners = _labels(read, batch).to(logs.device), read.owners(batch).to(logs.device)
            own = logs.gather(-1, labels[:, None])[:, 0].double()
            right = (logs.argmax(-1) == labels).double()
            rows = torch.bincount(owners)
            each = rows.clamp(min=1)[owners]
            sums += torch.stack([(values / each).sum() for values in (right, own.exp(), -own)]).cpu()
            count += int((rows > 0).sum())
    accuracy, probability, loss = (sums / count).tolist() if count else [math.nan] * 3
    return Level(accuracy, probability, loss)


def _labels(read: Predictions, batch: Any) -> Tensor:
    try:
        found = read.labels(batch)
    except (KeyError, IndexError) as error:
        raise InputError(
            f"a batch holds no labels ({error})", where="task", mend="Give labelled batches, or a number in place of auto"
        ) from error
    if found.is_floating_point():
        raise InputError(
            "the labels are no classes or tokens, so nothing is right or wrong", where="task", mend="Give a number in place of auto"
        )
    return found
