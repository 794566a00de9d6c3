"""Batches of questions that can be walked again and continued in the middle."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from forgetless.data.encoding import collate, pad_id, taught
from forgetless.data.model import Language
from forgetless.data.question import Question

Batch = dict[str, Tensor]


class Batches:
    """Questions as padded batches, in the order that ``(seed, epoch)`` decides, or in the given order without a seed.

    Args:
        questions: at least one.
        language: whose tokenizer, room and device to use.
        template: a template's name, or None.
        size: questions in a batch; the last one may hold fewer.
        seed: shuffle by this seed, or None to keep the order.

    Attributes:
        epoch: which shuffling `__iter__` gives.
        skip: batches that the next walk leaves out at its start (a run that goes on in the middle of an epoch).
        examples: the questions as tokens, in the order given.
        pad, device: the token to pad with, and where batches go.
    """

    def __init__(self, questions: Sequence[Question], language: Language, template: str | None, size: int, seed: int | None = None) -> None:
        self.examples = taught(questions, language.tokenizer, template, room=language.room)
        self.size, self.seed, self.epoch, self.skip = size, seed, 0, 0
        self.pad, self.device = pad_id(language.tokenizer), language.model.device

    def __len__(self) -> int:
        return -(-len(self.examples) // self.size)

    def __iter__(self) -> Iterator[Batch]:
        order = list(range(len(self.examples)))
        if self.seed is not None:
            order = torch.randperm(
                len(order), generator=torch.Generator().manual_seed((self.seed * 1_000_003 + self.epoch) % 2**63)
            ).tolist()
        skip, self.skip = self.skip, 0
        for start in range(skip * self.size, len(order), self.size):
            batch = collate([self.examples[index] for index in order[start : start + self.size]], self.pad)
            yield {key: value.to(self.device) for key, value in batch.items()}


def answer_loss(model: nn.Module, batch: Any) -> Tensor:
    """Mean cross-entropy over the answers' tokens of a batch, as a scalar."""
    loss: Tensor = model(**batch).loss
    return loss
