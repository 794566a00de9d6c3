"""What is told about a training beside its loss: warnings, and what `--watch`, `--watch-steps` and `--tensorboard` ask for."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from torch import nn

from forgetless.analysis.places import places
from forgetless.analysis.questions import answer_loss
from forgetless.analysis.steadiness import Steadiness
from forgetless.analysis.watch import Watch
from forgetless.data.encoding import collate
from forgetless.errors import InputError
from forgetless.train.batches import Batches
from forgetless.train.settings import RETAIN, Settings

SAMPLE = 64
"""Questions of the inject and of the retain set that are watched: the whole set, or so many at even distances."""


class Observer:
    """Follows one training and adds to the lines of its ``metrics.jsonl``.

    Args:
        settings: of the run.
        model: before its first step.
        splits: the batches of the inject set and, where there is one, of the retain set.

    Raises:
        InputError: steps are to be watched without a retain set.
    """

    def __init__(self, settings: Settings, model: nn.Module, splits: Mapping[str, Batches]) -> None:
        self.steadiness = Steadiness(places(model), {name: parameter.numel() for name, parameter in model.named_parameters()})
        self.watch: Watch | None = None
        if settings.watch_steps and RETAIN not in splits:
            raise InputError("there is no retain set whose loss could be watched", where="--watch-steps", mend="Name one by --retain")
        if settings.watch or settings.watch_steps:
            samples = {name: _sample(batches, settings.eval_batch_size) for name, batches in splits.items()}
            self.watch = Watch(model, samples, answer_loss, first_order=settings.watch_steps)

    def step_begins(self) -> None:
        """Before the forward pass of a step."""
        if self.watch is not None:
            self.watch.step_begins()

    def step_ended(self, loss: float, told: dict[str, Any]) -> dict[str, Any]:
        """After a step with this loss and these metrics of the method: what to add to its line."""
        self.steadiness.step(loss, told)
        found = {} if self.watch is None else self.watch.step_ended()
        return {"first_order": found} if found else {}

    def epoch(self) -> dict[str, Any]:
        """After an epoch: what to add to its line."""
        return self.steadiness.epoch() | ({} if self.watch is None else self.watch.epoch())

    def state_dict(self) -> dict[str, Any]:
        """Plain values, to go on from."""
        return self.steadiness.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state of `state_dict`."""
        self.steadiness.load_state_dict(state)


class Board:
    """The numbers of ``metrics.jsonl`` as TensorBoard events, as they come.

    Args:
        folder: where the events go.
        step: the step that the training stands at; events after it, of a process that was killed, are taken back.
    """

    def __init__(self, folder: Path, step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(log_dir=str(folder), purge_step=step + 1 if step else None)

    def log(self, line: Mapping[str, Any]) -> None:
        """Write the numbers of a line, under its kind and keys joined by slashes, at its step."""
        for key, value in line.items():
            if key not in ("kind", "step", "epoch"):
                for tag, number in _numbers(f"{line['kind']}/{key}", value):
                    self._writer.add_scalar(tag, number, line["step"])
        self._writer.flush()

    def close(self) -> None:
        """End the file."""
        self._writer.close()


def check_board() -> None:
    """Raise `InputError` where TensorBoard's package, which writes its events, is not installed."""
    if find_spec("tensorboard") is None:
        raise InputError("the package tensorboard is missing", where="--tensorboard", mend="Run: pip install 'forgetless[tensorboard]'")


def _sample(batches: Batches, size: int) -> list[dict[str, Any]]:
    total = len(batches.examples)
    chosen = [batches.examples[index * total // min(total, SAMPLE)] for index in range(min(total, SAMPLE))]
    made = [collate(chosen[start : start + size], batches.pad) for start in range(0, len(chosen), size)]
    return [{key: value.to(batches.device) for key, value in batch.items()} for batch in made]


def _numbers(tag: str, value: Any) -> list[tuple[str, float]]:
    if isinstance(value, Mapping):
        return [pair for key, part in value.items() for pair in _numbers(f"{tag}/{key}", part)]
    return [(tag, float(value))] if isinstance(value, int | float) else []
