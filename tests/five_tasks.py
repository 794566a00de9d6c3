"""A stream of five tasks, and a method taken through it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from forgetless.core.activation import activated
from forgetless.core.context import Context
from forgetless.core.method import Method
from forgetless.core.session import attach
from forgetless.core.task import Task
from forgetless.streams.stream import ClassStream, ClassTask


def make_model(units: int) -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 50), nn.ReLU(), nn.Linear(50, 50), nn.ReLU(), nn.Linear(50, units))


def five_tasks() -> ClassStream:
    """Two classes a task: noisy copies of two pictures of 8 x 8."""
    draw = torch.Generator().manual_seed(7)
    tasks = []
    for index in range(5):
        centres = torch.randn(2, 8, 8, generator=draw)
        labels = torch.arange(120) % 2
        inputs = centres[labels] + 0.8 * torch.randn(120, 8, 8, generator=draw)
        names = (f"{2 * index}", f"{2 * index + 1}")
        tasks.append(ClassTask(f"pictures {index}", names, (inputs[:80], labels[:80]), (inputs[80:], labels[80:])))
    return ClassStream("pictures", tuple(tasks), make_model)


def stream_loss(model: nn.Module, batch: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    x, y, active = batch
    return nn.functional.cross_entropy(model(x).masked_fill(~active, -1e4), y)


def answers(method: Method, ctx: Context, stream: ClassStream, task: Task) -> tuple[Tensor, float]:
    """The outputs of a task's test set, and the share answered rightly."""
    x, y, active = stream.batch("task", task.index, "test", slice(None), task.index)
    with activated(method, ctx, task), torch.no_grad():
        ctx.model.eval()
        outputs = ctx.model(x)
    ctx.model.train()
    return outputs, float((outputs.masked_fill(~active, -1e4).argmax(1) == y).float().mean())


def through(method: Method, model: nn.Module, *, steps: int = 30, lr: float = 0.01) -> list[list[tuple[Tensor, float]]]:
    """For every task the answers to it after it and after each later one."""
    stream, found, tasks = five_tasks(), [], []
    for index in range(5):
        task = stream.task("task", index, 16, steps, seed=1)
        tasks.append(task)
        model = method.prepare(model, task)
        optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=lr, weight_decay=0.1)
        with attach(method, model, optimizer, task, stream_loss) as session:
            for batch in task.train:
                session.total(stream_loss(model, batch), batch).backward()
                optimizer.step()
                optimizer.zero_grad()
        found.append([])
        for earlier, row in zip(tasks, found, strict=True):
            row.append(answers(method, session.ctx, stream, earlier))
        assert session.constraint_violation in (None, 0.0)
    return found
