"""One method through one stream of classifications."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from forgetless.core.activation import activated
from forgetless.core.context import Context
from forgetless.core.method import Method
from forgetless.core.predictions import INACTIVE
from forgetless.core.session import attach
from forgetless.core.strength import automatic
from forgetless.core.task import Task
from forgetless.errors import ProtectionError
from forgetless.progress import Advance, silent
from forgetless.streams.record import PROBE, PROBE_SEED, SeedRecord, for_first_task, model_bytes, share, tensor_bytes
from forgetless.streams.stream import Batch, ClassStream, Setting


def class_loss(model: nn.Module, batch: Any) -> Tensor:
    """Mean cross-entropy over the units that each example may use."""
    return nn.functional.cross_entropy(_logits(model(batch[0]), batch), batch[1])


def run_classes(
    stream: ClassStream,
    setting: Setting,
    method: Method,
    *,
    seed: int,
    steps: int = 500,
    batch_size: int = 128,
    lr: float = 1e-3,
    optimizer: str = "adam",
    memory: int = 2000,
    advance: Advance = silent,
) -> SeedRecord:
    """Train on task after task; after each, test on all.

    Args:
        stream: the tasks.
        setting: how they are read.
        method: fresh; it goes through the whole stream.
        seed: of the network, the batches and the stored examples.
        steps, batch_size, lr, optimizer: of each task; the optimizer begins anew with every task.
        memory: examples of earlier tasks in all that a method in need of old data is given, alike from each task.
        advance: told of every step.
    """
    torch.manual_seed(seed)
    model = stream.make_model(stream.units(setting))
    count = len(stream.tasks)
    tasks = [stream.task(setting, index, batch_size, steps, seed) for index in range(count)]
    record = SeedRecord(seed, [], [], [], [], [], [], [[] for _ in range(count)])
    record.baseline = [share(_test(stream, setting, index, index, model)) for index in range(count)]
    rights: list[list[list[bool]]] = []
    for index, plain in enumerate(tasks):
        began = time.perf_counter()
        task, acting = plain, method
        if method.needs_retain:
            acting = method if index else for_first_task(method)
            task = replace(plain, retain=Kept(stream, setting, index, memory, batch_size, seed)) if index else plain
        if index and automatic(method):
            task = replace(task, probe=Kept(stream, setting, index, PROBE * index, batch_size, seed + PROBE_SEED))
        torch.manual_seed(seed * 1_000_003 + index)
        model = acting.prepare(model, task)
        ctx = _train(acting, model, task, optimizer, lr, advance)
        record.seconds.append(time.perf_counter() - began)
        record.steps.append(ctx.step)
        rights.append(_test_all(stream, setting, index, method, ctx, tasks))
        record.state_bytes.append(tensor_bytes(method.state_dict()))
        record.model_bytes.append(model_bytes(model))
    record.accuracy = [[share(found) if found else None for found in row] for row in rights]
    for index in range(count):
        items = range(len(rights[index][index]))
        record.items[index] = [[rights[later][index][item] for later in range(index, count)] for item in items]
    return record


def _train(method: Method, model: nn.Module, task: Task, optimizer: str, lr: float, advance: Advance) -> Context:
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    made = _OPTIMIZERS[optimizer](parameters, lr)
    model.train()
    with attach(method, model, made, task, class_loss) as session:
        for batch in task.train:
            out = model(batch[0])
            loss = nn.functional.cross_entropy(_logits(out, batch), batch[1])
            total = session.total(loss, batch, out)
            if not torch.isfinite(total.detach()):
                raise ProtectionError(f"the loss is {float(total.detach())} in task {task.name!r}; lower --lr")
            total.backward()  # type: ignore[no-untyped-call]  # torch leaves backward untyped
            made.step()
            made.zero_grad()
            advance(1)
    return session.ctx


def _test_all(stream: ClassStream, setting: Setting, trained: int, method: Method, ctx: Context, tasks: list[Task]) -> list[list[bool]]:
    found: list[list[bool]] = []
    for index, task in enumerate(tasks):
        if method.needs_task_id and index > trained:
            found.append([])
            continue
        with activated(method, ctx, task):
            found.append(_test(stream, setting, index, max(index, trained), ctx.model))
    return found


def _test(stream: ClassStream, setting: Setting, index: int, upto: int, model: nn.Module) -> list[bool]:
    batch = stream.batch(setting, index, "test", slice(None), upto)
    training = model.training
    model.eval()
    with torch.no_grad():
        right: list[bool] = (_logits(model(batch[0]), batch).argmax(1) == batch[1]).tolist()
    model.train(training)
    return right


def _logits(out: Tensor, batch: Batch) -> Tensor:
    return out.masked_fill(~batch[2], INACTIVE)


_OPTIMIZERS: dict[str, Callable[[list[nn.Parameter], float], torch.optim.Optimizer]] = {
    "adam": lambda parameters, lr: torch.optim.Adam(parameters, lr=lr),
    "adamw": lambda parameters, lr: torch.optim.AdamW(parameters, lr=lr),
    "sgd": lambda parameters, lr: torch.optim.SGD(parameters, lr=lr),
    "momentum": lambda parameters, lr: torch.optim.SGD(parameters, lr=lr, momentum=0.9),
}


@dataclass(frozen=True, slots=True)
class Kept:
    """Stored examples of the tasks before ``index``, as batches: the same number of each task, drawn by the seed."""

    stream: ClassStream
    setting: Setting
    index: int
    memory: int
    batch_size: int
    seed: int

    def __iter__(self) -> Iterator[Batch]:
        each = max(1, self.memory // self.index)
        parts = []
        for known in range(self.index):
            total = len(self.stream.tasks[known].train[1])
            draw = torch.Generator().manual_seed(self.seed * 1_000_003 + known)
            rows = torch.randperm(total, generator=draw)[:each]
            parts.append(self.stream.batch(self.setting, known, "train", rows, self.index))
        x, y, active = (torch.cat([part[which] for part in parts]) for which in range(3))
        order = torch.randperm(len(y), generator=torch.Generator().manual_seed(self.seed))
        for start in range(0, len(y), self.batch_size):
            rows = order[start : start + self.batch_size]
            yield x[rows], y[rows], active[rows]

    def __len__(self) -> int:
        each = max(1, self.memory // self.index)
        held = sum(min(each, len(task.train[1])) for task in self.stream.tasks[: self.index])
        return -(-held // self.batch_size)
