"""What a checkpoint holds beside the optimizer and the method: the weights, each once, and every source of random numbers."""

from __future__ import annotations

import random
from typing import Any

import numpy
import torch
from torch import Tensor, nn


def weights(model: nn.Module) -> dict[str, Tensor]:
    """The state of ``model`` without copies; of weights that share their memory only the first."""
    found: dict[str, Tensor] = {}
    seen: set[tuple[int, torch.Size, tuple[int, ...]]] = set()
    for name, tensor in model.state_dict().items():
        place = (tensor.data_ptr(), tensor.shape, tensor.stride())
        if not tensor.numel() or place not in seen:
            found[name] = tensor
        seen.add(place)
    return found


def versions(model: nn.Module) -> list[int]:
    """How often each weight and buffer has been written to: equal only where none was in between."""
    return [tensor._version for tensor in model.state_dict(keep_vars=True).values()]


def load_weights(model: nn.Module, state: dict[str, Tensor]) -> None:
    """Copy a state of `weights` into ``model``, which shares the same weights as the one it was taken from."""
    expected = set(weights(model))
    if set(state) != expected:
        raise ValueError(f"the checkpoint is of another model: {sorted(set(state) ^ expected)[:3]}")
    model.load_state_dict(state, strict=False)


def own(value: Any) -> Any:
    """``value`` with every tensor copied out of the file that it was read from, so that the file can be given up."""
    if isinstance(value, Tensor):
        return value.clone()
    if isinstance(value, dict):
        return {key: own(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(own(item) for item in value)
    return value


def seed_all(seed: int) -> None:
    """Seed every source of random numbers that a run may use."""
    random.seed(seed)
    numpy.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def random_state() -> dict[str, Any]:
    """The state of those sources, as tensors and plain values."""
    name, keys, position, has_gauss, cached = numpy.random.get_state(legacy=True)
    return {
        "torch": [torch.get_rng_state(), *(torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [])],
        "python": random.getstate(),
        "numpy": [str(name), [int(key) for key in keys], int(position), int(has_gauss), float(cached)],
    }


def set_random_state(state: dict[str, Any]) -> None:
    """Go on from a state of `random_state`."""
    torch.set_rng_state(state["torch"][0])
    if torch.cuda.is_available():
        for device, own in enumerate(state["torch"][1:][: torch.cuda.device_count()]):  # fewer GPUs may be visible now, or more
            torch.cuda.set_rng_state(own, device)
    random.setstate(state["python"])
    name, keys, *rest = state["numpy"]
    numpy.random.set_state((name, numpy.array(keys, dtype=numpy.uint32), *rest))
