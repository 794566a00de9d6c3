"""What one seed of a run through a stream leaves behind, and the methods it is run with."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from forgetless.core.method import Chain, Method
from forgetless.errors import InputError

Verdicts = list[bool]
PROBE = 256
"""Examples of each earlier task, drawn from what it was trained on, that a search for a strength may look at."""
PROBE_SEED = 7919
"""Added to the seed of the run, so that they are others than those stored for the method, where there are enough."""


@dataclass(slots=True)
class SeedRecord:
    """Attributes:
    seed: of the weights and the order of the data.
    accuracy: the matrix of shares; None where a method has no weights for a task to come.
    baseline: accuracy of the untrained model on each task.
    seconds: training time of each task, with what the method does before and after it.
    steps: optimizer steps of each task.
    state_bytes: what the method keeps after each task, beyond the model.
    model_bytes: the model's own size after each task.
    items: for each task, for each of its test items, whether it was right after each task from its own on.
    heldout: for a language model, the matrix of shares on the questions of each task that are never trained; else empty.
    probes: by probe, by the id of each question that the untrained model had right, whether it was right after each task.
    """

    seed: int
    accuracy: list[list[float | None]]
    baseline: list[float]
    seconds: list[float]
    steps: list[int]
    state_bytes: list[int]
    model_bytes: list[int]
    items: list[list[Verdicts]]
    heldout: list[list[float | None]] = field(default_factory=list)
    probes: dict[str, dict[str, Verdicts]] = field(default_factory=dict)


def for_first_task(method: Method) -> Method:
    """The part of a chain that needs no old data: there is none yet."""
    parts = [part for part in (method.methods if isinstance(method, Chain) else (method,)) if not part.needs_retain]
    return Chain(*parts) if parts else Method()


def check_task_identity(method: Method, name: str, setting: str) -> None:
    """Raise `InputError` where a method must be told the task and the setting does not tell it."""
    if method.needs_task_id and setting != "task":
        raise InputError(
            f"{name} must be told which task it is at use, which the {setting} setting does not tell",
            where="--method",
            mend="Choose --setting task, or another method (forgetless methods says which)",
        )


def share(verdicts: Verdicts) -> float:
    """The share that is right."""
    return sum(verdicts) / len(verdicts) if verdicts else 0.0


def model_bytes(model: nn.Module) -> int:
    """Bytes of all weights and buffers."""
    return tensor_bytes([*model.parameters(), *model.buffers()])


def tensor_bytes(value: Any) -> int:
    """Bytes of all tensors in nested dictionaries and lists."""
    if isinstance(value, Tensor):
        return value.numel() * value.element_size()
    if isinstance(value, dict):
        return sum(tensor_bytes(item) for item in value.values())
    if isinstance(value, list | tuple):
        return sum(tensor_bytes(item) for item in value)
    return 0
