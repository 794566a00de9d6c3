"""Nested state on disk: tensors in safetensors, plain values as JSON in its header. Never pickle."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from torch import Tensor

from forgetless.errors import InputError
from forgetless.files import replacing

_PLAIN = "forgetless"


def flatten(value: Any, prefix: str, tensors: dict[str, Tensor]) -> Any:
    """``value`` with every tensor replaced by ``{"$tensor": key}`` and put into ``tensors``."""
    if isinstance(value, Tensor):
        tensors[prefix] = value.detach().contiguous()
        return {"$tensor": prefix}
    if isinstance(value, dict):
        return {"$dict": [[key, flatten(item, f"{prefix}/{key}", tensors)] for key, item in value.items()]}
    if isinstance(value, tuple | list):
        kind = "$tuple" if isinstance(value, tuple) else "$list"
        return {kind: [flatten(item, f"{prefix}/{index}", tensors) for index, item in enumerate(value)]}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"state at {prefix!r} is a {type(value).__name__}; only tensors and plain values can be saved")


def restore(value: Any, tensors: dict[str, Tensor]) -> Any:
    """The inverse of `flatten`."""
    if not isinstance(value, dict):
        return value
    ((kind, body),) = value.items()
    if kind == "$tensor":
        return tensors[body]
    if kind == "$dict":
        return {key: restore(item, tensors) for key, item in body}
    items = [restore(item, tensors) for item in body]
    return tuple(items) if kind == "$tuple" else items


def save_state(path: Path, state: Any) -> None:
    """Write nested ``state`` to one safetensors file, whole or not at all.

    Args:
        path: the file.
        state: dictionaries (keys: str or int), lists and tuples of tensors, numbers, strings, booleans and None.

    Raises:
        TypeError: a leaf is anything else.
    """
    from safetensors.torch import save_file

    tensors: dict[str, Tensor] = {}
    plain = json.dumps(flatten(state, "state", tensors))
    storages: set[int] = set()
    for key, tensor in tensors.items():  # safetensors refuses two names for one memory
        if tensor.numel() and tensor.untyped_storage().data_ptr() in storages:
            tensors[key] = tensor.clone()
        storages.add(tensors[key].untyped_storage().data_ptr())
    with replacing(path) as temporary:
        save_file(tensors, temporary, metadata={_PLAIN: plain})


def load_state(path: Path, device: str = "cpu") -> Any:
    """Read what `save_state` wrote.

    Raises:
        InputError: the file is missing, broken, or not one of ours.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt", device=device) as handle:
            metadata = handle.metadata() or {}
            tensors = {key: handle.get_tensor(key) for key in handle.keys()}  # noqa: SIM118  # not a dict
        return restore(json.loads(metadata[_PLAIN]), tensors)
    except (SafetensorError, OSError, KeyError, ValueError, TypeError, RecursionError) as error:
        raise InputError(f"not a readable state file ({error})", where=str(path), mend="Start again without it") from error
