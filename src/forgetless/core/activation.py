"""The weights of one task put in place for evaluation, and taken away again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from forgetless.core.context import Context
from forgetless.core.method import Method, overrides
from forgetless.core.sharding import local, reshard
from forgetless.core.task import Task


@contextmanager
def activated(method: Method, ctx: Context, task: Task) -> Iterator[None]:
    """Evaluate as ``task``: inside, ``ctx.model`` has the weights that the method keeps for it; afterwards all is as before.

    Costs one copy of the model's weights where the method has an `Method.activate`, else nothing.
    """
    if not overrides(method, "activate"):
        yield
        return
    training = ctx.task
    saved = {name: local(tensor.detach()).clone() for name, tensor in _tensors(ctx).items()}
    try:
        ctx.task = task
        method.activate(ctx)
        yield
    finally:
        ctx.task = training
        method.activate(ctx)
        now = _tensors(ctx)
        ctx.write({name: tensor for name, tensor in saved.items() if not torch.equal(tensor, local(now[name].detach()))})


def _tensors(ctx: Context) -> dict[str, torch.Tensor]:
    reshard(ctx.model)
    return {**dict(ctx.model.named_parameters()), **dict(ctx.model.named_buffers())}
