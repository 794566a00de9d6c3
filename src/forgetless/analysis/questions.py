"""Questions as the batches that a diagnosis looks at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from forgetless.core.predictions import Predictions
from forgetless.data.encoding import Example, collate, pad_id, taught
from forgetless.data.model import Language
from forgetless.data.question import Question
from forgetless.errors import InputError

Batch = dict[str, Tensor]
UNGROUPED = "all"
MOST_GROUPS = 12


def encoded(language: Language, questions: Sequence[Question], template: str | None) -> list[Example]:
    """The questions with the answers that training on them teaches, as `forgetless.train` encodes them."""
    return taught(questions, language.tokenizer, template, room=language.room)


def batches(language: Language, examples: Sequence[Example], size: int) -> list[Batch]:
    """The examples in batches of at most ``size``, in their order, on the model's device."""
    pad, device = pad_id(language.tokenizer), language.model.device
    made = [collate(examples[start : start + size], pad) for start in range(0, len(examples), size)]
    return [{key: value.to(device) for key, value in batch.items()} for batch in made]


def grouped(questions: Sequence[Question], by: str) -> dict[str, list[int]]:
    """The indexes of the questions by subject (``by="subject"``; those without one are ``other``), largest group first, or all in one.

    Beyond `MOST_GROUPS` the smallest are put together as ``other``.

    Raises:
        InputError: ``by`` is neither ``subject`` nor ``none``.
    """
    if by not in ("subject", "none"):
        raise InputError(f"{by!r} is unknown", where="group-by", mend="Give subject or none")
    found: dict[str, list[int]] = {}
    for index, question in enumerate(questions):
        found.setdefault((question.subject or "other") if by == "subject" else UNGROUPED, []).append(index)
    if len(found) == 1:
        return {UNGROUPED: next(iter(found.values()))}
    order = sorted(found, key=lambda name: (name == "other", -len(found[name]), name))
    if len(order) > MOST_GROUPS:
        kept = [name for name in order if name != "other"][: MOST_GROUPS - 1]
        rest = sorted(index for name in order if name not in kept for index in found[name])
        return {name: found[name] for name in kept} | {"other": rest}
    return {name: found[name] for name in order}


def answer_loss(model: nn.Module, batch: Mapping[str, Any]) -> Tensor:
    r"""The mean over a batch's B examples of each example's loss, over the :math:`T_i` tokens of its answer, in nats:
    :math:`\frac1B\sum_i \frac{1}{T_i}\sum_t -\log p(y_{i,t} \mid x_i, y_{i,<t})`.

    So the loss of a set does not depend on how it is cut into batches (a mean over all tokens of a batch would).
    """
    predictions = Predictions()
    inputs = {key: value for key, value in batch.items() if key != "labels"}
    rows = predictions.logits(model(**inputs), batch)
    owners = predictions.owners(batch).to(rows.device)
    losses = cross_entropy(rows.float(), predictions.labels(batch).to(rows.device), reduction="none")
    counts = torch.bincount(owners, minlength=predictions.size(batch)).clamp(min=1)
    return (losses / counts[owners]).sum() / predictions.size(batch)
