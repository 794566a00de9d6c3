"""What a run through a stream is asked to do, checked before anything is loaded or written."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from forgetless.core import options
from forgetless.data.placement import check_placement
from forgetless.streams.stream import SETTINGS
from forgetless.train.settings import OPTIMIZERS


@dataclass(frozen=True, slots=True)
class StreamSettings:
    """A run of one method through one stream.

    Attributes:
        stream: a name of the built-in streams, or question files joined by commas.
        stream_args: options of its builder.
        setting: ``task``, ``class`` or ``domain``.
        method, method_args: as in `forgetless.train.settings.Settings`.
        seeds: how many runs, with the seeds 0, 1, ...
        optimizer: adamw, adam, sgd or momentum; None: adam for classifiers, adamw for language models. New for each task.
        lr: None: 1e-3 for classifiers and by auto and null-space, 3e-5 for language models by others.
        steps: optimizer steps a task, for classifiers.
        epochs: the most passes over a task, for language models.
        until_learned: for language models, go on to the next task at this share of the task learned.
        batch_size: None: 128 for classifiers, 8 for language models.
        memory: examples of earlier tasks (in all) that methods in need of old data are given as their retain set.
        model: the language model.
        probes: by name, question files of what a language model knew before; asked after every task, never trained.
        device, dtype: where it computes and in which precision, as in `forgetless.data.placement.place`.

    Raises:
        InputError: a value is out of range.
    """

    stream: str
    stream_args: dict[str, Any] = field(default_factory=dict)
    setting: str = "task"
    method: tuple[str, ...] = ("none",)
    method_args: dict[str, dict[str, Any]] = field(default_factory=dict)
    seeds: int = 5
    optimizer: str | None = None
    lr: float | None = None
    steps: int = 500
    epochs: int = 10
    until_learned: float | None = 0.9
    batch_size: int | None = None
    memory: int = 2000
    model: str = "smollm2-135m"
    probes: dict[str, str] = field(default_factory=dict)
    device: str = "auto"
    dtype: str = "float32"

    def __post_init__(self) -> None:
        options.choice("--setting", self.setting, SETTINGS)
        if self.lr is not None:
            options.number("--lr", self.lr, above=True)
        for name in ("seeds", "steps", "epochs", "memory"):
            options.whole(f"--{name}", getattr(self, name))
        options.count("--batch-size", self.batch_size)
        if self.optimizer is not None:
            options.choice("--optimizer", self.optimizer, OPTIMIZERS)
        check_placement(self.device, self.dtype)
        if self.until_learned is not None:
            options.number("--until-learned", self.until_learned, above=True, high=1.0)
