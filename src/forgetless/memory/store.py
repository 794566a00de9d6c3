"""Examples kept from batches, each by itself, and batches made of them again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from forgetless.core.predictions import Predictions, to


class Store:
    """A list of examples (batches of one, in the memory of the CPU), with what belongs to each.

    Attributes:
        examples: the examples.
        extras: for each example a dictionary of tensors kept with it (its logits, its task), each with a first dimension of
            its own length.
    """

    def __init__(self) -> None:
        self.examples: list[Any] = []
        self.extras: list[dict[str, Tensor]] = []

    def __len__(self) -> int:
        return len(self.examples)

    def add(self, example: Any, extra: dict[str, Tensor] | None = None) -> None:
        """Append an example."""
        self.examples.append(own(example))
        self.extras.append({key: own(value) for key, value in (extra or {}).items()})

    def replace(self, index: int, example: Any, extra: dict[str, Tensor] | None = None) -> None:
        """Put an example in the place of another."""
        self.examples[index] = own(example)
        self.extras[index] = {key: own(value) for key, value in (extra or {}).items()}

    def batch(self, indices: Sequence[int], predictions: Predictions, device: torch.device | str) -> Any:
        """The examples of these places as one batch on ``device``."""
        return to(predictions.collate([self.examples[index] for index in indices]), device)

    def extra(self, name: str, indices: Sequence[int], device: torch.device | str) -> Tensor:
        """What is kept under ``name`` with these examples, along the first dimension."""
        return torch.cat([self.extras[index][name] for index in indices]).to(device)

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain values; examples of one shape share one tensor."""
        return {"examples": _pack(self.examples), "extras": _pack(self.extras)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up what `state_dict` gave."""
        self.examples, self.extras = _unpack(state["examples"]), _unpack(state["extras"])


def own(value: Any) -> Any:
    """A copy on the CPU that shares no memory with a batch."""
    if isinstance(value, Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, dict):
        return {key: own(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return tuple(own(item) for item in value)
    return value


def _pack(items: list[Any]) -> dict[str, Any]:
    """Stacked where all have one shape, else one by one."""
    if not items:
        return {"each": []}
    if isinstance(items[0], dict) and all(isinstance(item, dict) and item.keys() == items[0].keys() for item in items):
        return {"fields": {key: _pack([item[key] for item in items]) for key in items[0]}, "count": len(items)}
    if isinstance(items[0], tuple) and all(isinstance(item, tuple) and len(item) == len(items[0]) for item in items):
        return {"parts": [_pack([item[part] for item in items]) for part in range(len(items[0]))]}
    if all(isinstance(item, Tensor) and item.shape == items[0].shape and item.dtype == items[0].dtype for item in items):
        return {"stacked": torch.stack(items)}
    return {"each": list(items)}


def _unpack(state: dict[str, Any]) -> list[Any]:
    if "fields" in state:
        columns = {key: _unpack(value) for key, value in state["fields"].items()}
        return [{key: column[index] for key, column in columns.items()} for index in range(state["count"])]
    if "parts" in state:
        return list(zip(*[_unpack(part) for part in state["parts"]], strict=True))
    if "stacked" in state:
        return list(state["stacked"].clone().unbind(0))
    return list(state["each"])
