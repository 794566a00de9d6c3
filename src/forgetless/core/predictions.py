"""How methods read a batch and a model's outputs on it: the predicted rows, their labels, single examples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from forgetless.errors import InputError

IGNORE = -100
"""The label of a position that no loss looks at."""
INACTIVE = -1e4
"""The logit of an output unit that the batch rules out."""
_PADDING = {"labels": IGNORE}


class Predictions:
    """The usual forms of batches; derive from it for others, and give it to `Task`.

    A batch is one of:

    - ``(x, y)``: the model is called with ``x``, ``y`` holds class labels of shape (examples,);
    - ``(x, y, active)``: with bool ``active`` of shape (examples, units), the output units that each example may use;
    - a mapping with ``labels`` (and ``input_ids``, ``attention_mask`` ...): the model is called with its entries by name.
      Labels of two dimensions are a causal language model's: position t predicts label t + 1, and -100 counts for nothing;
    - a bare tensor ``x``, unlabelled.

    A *row* is one prediction: an example of a classifier, a labelled position of a language model.
    """

    def outputs(self, model: nn.Module, batch: Any) -> Any:
        """The model's outputs on a batch."""
        if isinstance(batch, Mapping):
            return model(**batch)
        return model(batch[0] if isinstance(batch, Sequence) else batch)

    def logits(self, outputs: Any, batch: Any, *, every: bool = False) -> Tensor:
        """The predicted rows, of shape (rows, units).

        Args:
            outputs: what `outputs` gave (a tensor, or something with ``logits``), in a session also the user's own.
            batch: the batch that they belong to.
            every: also the units that ``active`` rules out, which otherwise have the logit `INACTIVE`.

        Raises:
            InputError: the outputs hold no logits (some fused losses return none).
        """
        found = outputs if isinstance(outputs, Tensor) else getattr(outputs, "logits", None)
        if found is None and isinstance(outputs, Mapping):
            found = outputs.get("logits")
        if found is None and isinstance(outputs, tuple) and outputs and isinstance(outputs[0], Tensor):
            found = outputs[0]
        if found is None:
            raise InputError(
                f"a {type(outputs).__name__} holds no logits",
                where="the model's outputs",
                mend="Give Task(..., predictions=...) a Predictions of your own whose outputs() returns them",
            )
        if found.ndim == 3:
            return found[self._positions(batch, found)]
        active = None if every else self.active(batch)
        return found if active is None else found.masked_fill(~active.to(found.device), INACTIVE)

    def labels(self, batch: Any) -> Tensor:
        """The labels of the rows, of shape (rows,)."""
        if isinstance(batch, Mapping):
            labels = batch["labels"]
            if labels.ndim == 2:
                return _tensor(labels[:, 1:][labels[:, 1:] != IGNORE])
            return _tensor(labels)
        return _tensor(batch[1])

    def with_labels(self, batch: Any, labels: Tensor) -> Any:
        """The batch with other labels for its rows, of shape (rows,)."""
        if isinstance(batch, Mapping):
            old = batch["labels"]
            new = labels.to(old)
            if old.ndim == 2:
                new = old.clone()
                new[:, 1:][old[:, 1:] != IGNORE] = labels.to(old)
            return {**batch, "labels": new}
        return (batch[0], labels, *batch[2:])

    def as_language(self, batch: Any) -> Any:
        """A causal language model's batch as ``input_ids`` and ``labels`` of each position, where it holds its tokens otherwise."""
        return batch

    def owners(self, batch: Any) -> Tensor:
        """For each row the example of the batch that it belongs to, of shape (rows,)."""
        if isinstance(batch, Mapping):
            kept = self._kept(batch)
            if kept is not None:
                return kept.nonzero()[:, 0]
        return torch.arange(self.size(batch))

    def terms(self, batch: Any) -> int:
        """How many things the task's mean loss of a batch is over: its rows. Several processes weigh their parts of a batch by it."""
        return len(self.owners(batch))

    def active(self, batch: Any) -> Tensor | None:
        """Bool of shape (examples, units): the units that each example may use; None: all."""
        if isinstance(batch, Sequence) and not isinstance(batch, str) and len(batch) == 3:
            return _tensor(batch[2])
        return None

    def update_active(self, old: Any, new: Any, heads: Sequence[Sequence[int]] | None) -> Any:
        """A batch of old examples, with the units that they may use now.

        Old examples were stored with the units of their time. Where all tasks share one growing softmax (the class setting:
        ``heads`` is one group, and the new batch may use all of it) an old example must also be told from the classes
        that came since, so it may use what the new ones may. Else (a softmax for each task, or none of the two says
        its units) the old batch stays as it is.

        Args:
            old: a batch of stored examples.
            new: the batch in training.
            heads: `Task.earlier_heads`.
        """
        before, now = self.active(old), self.active(new)
        if before is None or now is None or heads is None or len(heads) != 1:
            return old
        if not bool(now[:, list(heads[0])].all()):
            return old
        return (old[0], old[1], before | now.any(0).to(before.device))

    def size(self, batch: Any) -> int:
        """How many examples a batch holds."""
        if isinstance(batch, Mapping):
            return next(int(value.shape[0]) for value in batch.values() if isinstance(value, Tensor) and value.ndim)
        return int((batch[0] if isinstance(batch, Sequence) else batch).shape[0])

    def examples(self, batch: Any) -> list[Any]:
        """The batch cut into batches of one example (views, not copies)."""
        size = self.size(batch)
        return _cut(batch, size) if size else []

    def collate(self, examples: Sequence[Any]) -> Any:
        """One batch of several: along the first dimension; shorter sequences are padded on the right (labels with -100)."""
        first = examples[0]
        if isinstance(first, Mapping):
            batch = {key: _join([e[key] for e in examples], _PADDING.get(key, 0)) for key in first}
            mask = batch.get("attention_mask")
            if isinstance(mask, Tensor) and mask.ndim == 2:  # cut what is padding for all of them
                length = int(mask.any(0).nonzero()[-1]) + 1 if mask.any() else mask.shape[1]
                same = {k: v[:, :length] if isinstance(v, Tensor) and v.shape[:2] == mask.shape else v for k, v in batch.items()}
                return same
            return batch
        if isinstance(first, Sequence):
            return tuple(_join([e[part] for e in examples], 0) for part in range(len(first)))
        return _join(list(examples), 0)

    def _kept(self, batch: Mapping[str, Any]) -> Tensor | None:
        """Of a sequence batch: bool (examples, positions - 1), which positions predict something that counts."""
        if "labels" in batch:
            labels = batch["labels"]
            return labels[:, 1:] != IGNORE if labels.ndim == 2 else None
        if "attention_mask" in batch:
            return _tensor(batch["attention_mask"])[:, 1:].bool()
        return None

    def _positions(self, batch: Any, logits: Tensor) -> Tensor:
        kept = self._kept(batch) if isinstance(batch, Mapping) else None
        found = torch.zeros(logits.shape[:2], dtype=torch.bool, device=logits.device)
        found[:, :-1] = True if kept is None else kept.to(logits.device)
        return found


def to(batch: Any, device: torch.device | str) -> Any:
    """A batch with its tensors on ``device``, detached from any graph."""
    if isinstance(batch, Tensor):
        return batch.detach().to(device)
    if isinstance(batch, Mapping):
        return {key: to(value, device) for key, value in batch.items()}
    if isinstance(batch, Sequence) and not isinstance(batch, str):
        return tuple(to(value, device) for value in batch)
    return batch


def _tensor(value: Any) -> Tensor:
    return value if isinstance(value, Tensor) else torch.as_tensor(value)


def _cut(value: Any, size: int) -> list[Any]:
    """For each of ``size`` examples its part of ``value``; what has not so many parts belongs to each."""
    if isinstance(value, Tensor):
        return list(value.split(1)) if value.ndim and value.shape[0] == size else [value] * size  # type: ignore[no-untyped-call]
    if isinstance(value, Mapping):
        columns = [_cut(item, size) for item in value.values()]
        return [dict(zip(value, parts, strict=True)) for parts in zip(*columns, strict=True)] if columns else [{}] * size
    if isinstance(value, Sequence) and not isinstance(value, str):
        return list(zip(*[_cut(item, size) for item in value], strict=True)) if len(value) else [()] * size
    return [value] * size


def _join(parts: list[Any], padding: int) -> Any:
    if not isinstance(parts[0], Tensor):
        return parts[0]
    if parts[0].ndim < 2 or len({part.shape[1:] for part in parts}) == 1:
        return torch.cat(parts)
    length = max(part.shape[1] for part in parts)
    return torch.cat([nn.functional.pad(part, (0, length - part.shape[1]), value=padding) for part in parts])
