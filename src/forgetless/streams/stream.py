"""A stream: an ordered list of tasks, and its three readings (van de Ven & Tolias 2019, arXiv 1904.07734)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Literal

import torch
from torch import Tensor, nn

from forgetless.core.task import Task
from forgetless.data.question import Question
from forgetless.errors import InputError

Setting = Literal["task", "class", "domain"]
SETTINGS: tuple[Setting, ...] = ("task", "class", "domain")
"""task: which task it is is known at use; domain: it is not, and need not be; class: it is not, and must be told from the input."""

Batch = tuple[Tensor, Tensor, Tensor]


@dataclass(frozen=True, slots=True)
class ClassTask:
    """One task of a stream of classifications.

    Attributes:
        name: such as "digits 2 and 3".
        classes: names of its classes.
        train, test: inputs of shape (examples, ...) and labels of shape (examples,), from 0 on within this task.
        items: names of the test examples, for the picture of each; None numbers them.
    """

    name: str
    classes: tuple[str, ...]
    train: tuple[Tensor, Tensor]
    test: tuple[Tensor, Tensor]
    items: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class ClassStream:
    """A stream of classifications, and how a network sees it in each setting.

    Attributes:
        name: as the command line knows it.
        tasks: in order.
        make_model: ``make_model(units)``: a fresh network with so many output units, from torch's random state.
        source: where the data comes from, in words, with its licence.
    """

    name: str
    tasks: tuple[ClassTask, ...]
    make_model: Callable[[int], nn.Module]
    source: str = ""

    @property
    def task_names(self) -> tuple[str, ...]:
        """Names of the tasks, in order."""
        return tuple(task.name for task in self.tasks)

    def units(self, setting: Setting) -> int:
        """Output units of the network: one a class of every task; in the domain setting the tasks share theirs."""
        sizes = [len(task.classes) for task in self.tasks]
        return max(sizes) if setting == "domain" else sum(sizes)

    def group(self, setting: Setting, index: int) -> range:
        """The output units of one task."""
        size = len(self.tasks[index].classes)
        start = 0 if setting == "domain" else sum(len(task.classes) for task in self.tasks[:index])
        return range(start, start + size)

    def active(self, setting: Setting, index: int, upto: int) -> Tensor:
        """Bool of shape (units,): what an example of task ``index`` may be called once task ``upto`` has been trained."""
        found = torch.zeros(self.units(setting), dtype=torch.bool)
        for known in [index] if setting != "class" else range(upto + 1):
            found[list(self.group(setting, known))] = True
        return found

    def batch(self, setting: Setting, index: int, which: Literal["train", "test"], rows: Tensor | slice, upto: int) -> Batch:
        """Examples of one task as ``(x, units, active)``."""
        x, y = getattr(self.tasks[index], which)
        x, y = x[rows], y[rows]
        return x, y + self.group(setting, index).start, self.active(setting, index, upto).expand(len(y), -1)

    def task(self, setting: Setting, index: int, batch_size: int, steps: int, seed: int) -> Task:
        """What a method is given to learn: ``steps`` batches drawn from the task's examples, alike for every method."""
        groups = [tuple(self.group(setting, known)) for known in range(index)]
        if setting == "domain":
            earlier: tuple[tuple[int, ...], ...] = tuple(groups[:1])
        else:
            earlier = tuple(groups) if setting == "task" else ((tuple(unit for group in groups for unit in group),) if groups else ())
        return Task(
            self.tasks[index].name,
            _Draws(self, setting, index, batch_size, steps, seed),
            index=index,
            earlier_heads=earlier,
            last=index == len(self.tasks) - 1,
            steps=steps,
        )


class _Draws:
    """``steps`` shuffled batches of one task; every walk gives the same."""

    def __init__(self, stream: ClassStream, setting: Setting, index: int, batch_size: int, steps: int, seed: int) -> None:
        self.stream, self.setting, self.index, self.size, self.steps, self.seed = stream, setting, index, batch_size, steps, seed

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[Batch]:
        total = len(self.stream.tasks[self.index].train[1])
        draw = torch.Generator().manual_seed((self.seed * 1_000_003 + self.index) % 2**63)
        order = torch.empty(0, dtype=torch.int64)
        for _ in range(self.steps):
            while len(order) < self.size:
                order = torch.cat([order, torch.randperm(total, generator=draw)])
            rows, order = order[: self.size], order[self.size :]
            yield self.stream.batch(self.setting, self.index, "train", rows, self.index)


@dataclass(frozen=True, slots=True)
class LanguageTask:
    """One task of a stream for language models: questions to learn, and others on the same matter that are only scored."""

    name: str
    train: tuple[Question, ...]
    test: tuple[Question, ...] = ()


@dataclass(frozen=True, slots=True)
class LanguageStream:
    """A stream of question sets for a language model."""

    name: str
    tasks: tuple[LanguageTask, ...]
    source: str = ""

    @property
    def task_names(self) -> tuple[str, ...]:
        """Names of the tasks, in order."""
        return tuple(task.name for task in self.tasks)


Stream = ClassStream | LanguageStream


def fingerprint(stream: Stream, probes: Mapping[str, Sequence[Question]] | None = None) -> str:
    """SHA-256 of what a stream's tasks hold, and its probes: their names, examples and questions, in their order."""
    found = sha256()
    for name, questions in (probes or {}).items():
        found.update(repr((name, list(questions))).encode())
    for task in stream.tasks:
        found.update(task.name.encode())
        parts: tuple[object, ...] = (task.train, task.test)
        if isinstance(task, ClassTask):
            parts = (*task.train, *task.test, task.classes, task.items)
        for part in parts:
            if isinstance(part, Tensor):
                found.update(f"{part.dtype} {tuple(part.shape)}".encode())
                found.update(part.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
            else:
                found.update(repr(part).encode())
    return found.hexdigest()


def check_setting(stream: Stream, setting: str) -> Setting:
    """The setting, checked.

    Raises:
        InputError: it is unknown, or a language model's stream is to be read class by class.
    """
    if setting not in SETTINGS:
        raise InputError(f"{setting!r} is no setting", where="--setting", mend=f"Choose among {', '.join(SETTINGS)}")
    if isinstance(stream, LanguageStream) and setting == "class":
        raise InputError("a language model has no classes to tell apart", where="--setting", mend="Choose task or domain")
    return setting
