"""The examples of a task, each once, however often the batches repeat it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from forgetless.core.predictions import Predictions

_END = object()


def distinct(batches: Iterable[Any], predictions: Predictions, but: Iterable[Any] = ()) -> Iterator[Any]:
    """The different examples of ``batches`` in order of first sight, as batches of one (views, not copies).

    Two examples are the same where all their tensors have the same bytes, apart from padding that a mapping's
    ``attention_mask`` marks on the right. Remembers a hash for each example.

    Args:
        batches: walked once.
        predictions: how to read them.
        but: examples to leave out.
    """
    seen = {key for example in but for key in _keys(example, predictions)}
    for batch in quietly(batches):
        pieces = [predictions.collate([e]) for e in predictions.examples(batch)] if isinstance(batch, Mapping) else [batch]
        for piece in pieces:
            fresh = []
            for place, key in enumerate(_keys(piece, predictions)):
                if key not in seen:
                    seen.add(key)
                    fresh.append(place)
            examples = predictions.examples(piece) if fresh else []
            yield from (examples[place] for place in fresh)


def quietly(batches: Iterable[Any]) -> Iterator[Any]:
    """Walk batches without using up torch's random numbers (a DataLoader draws some even where it does not shuffle)."""
    state, walk = torch.get_rng_state(), None
    while True:
        with torch.random.fork_rng(devices=()):
            torch.set_rng_state(state)
            walk = iter(batches) if walk is None else walk
            batch = next(walk, _END)
            state = torch.get_rng_state()
        if batch is _END:
            return
        yield batch


def _keys(batch: Any, predictions: Predictions) -> list[int]:
    """A hash for each example of a batch, good for one process."""
    size = predictions.size(batch)  # of a single example every tensor is its own, whatever its shape (a pair of answers has two rows)
    columns = [_rows(tensor, size) for tensor in _tensors(batch) if tensor.ndim and (size == 1 or tensor.shape[0] == size)]
    return [hash(row) for row in zip(*columns, strict=True)]


def _tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    inner: Iterable[Any] = ()
    if isinstance(value, Mapping):
        inner = [value[key] for key in sorted(value)]
    elif isinstance(value, Sequence) and not isinstance(value, str):
        inner = value
    return [tensor for item in inner for tensor in _tensors(item)]


def _rows(tensor: Tensor, size: int) -> list[bytes]:
    if not tensor.numel():
        return [b""] * size
    flat = tensor.detach().to("cpu").reshape(size, -1).contiguous().view(torch.uint8)
    return [row.tobytes() for row in flat.numpy()]
