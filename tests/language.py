"""A tiny language model and batches for it, in memory."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn

from tiny import make_tiny_model


@lru_cache
def _weights(seed: int) -> Any:
    from transformers import AutoModelForCausalLM

    with TemporaryDirectory() as folder:
        return AutoModelForCausalLM.from_pretrained(make_tiny_model(Path(folder), seed=seed, hidden=16, layers=1))


def language_model(seed: int = 0, dtype: torch.dtype = torch.float32) -> nn.Module:
    """A fresh copy of a one-layer Llama."""
    import copy

    return copy.deepcopy(_weights(seed)).to(dtype)


def language_batches(count: int, seed: int, size: int = 4, length: int = 8, vocabulary: int = 200) -> list[dict[str, Tensor]]:
    """Random tokens; the first two to four of each example are its prompt, the last may be padding."""
    draw = torch.Generator().manual_seed(seed)
    found = []
    for _ in range(count):
        ids = torch.randint(1, vocabulary, (size, length), generator=draw)
        mask, labels = torch.ones_like(ids), ids.clone()
        for row in range(size):
            labels[row, : 2 + row % 3] = -100
            end = length - row % 2
            ids[row, end:], mask[row, end:], labels[row, end:] = 0, 0, -100
        found.append({"input_ids": ids, "attention_mask": mask, "labels": labels})
    return found


def language_loss(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    return model(**batch).loss
