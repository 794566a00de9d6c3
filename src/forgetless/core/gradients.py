"""Reference gradients: the mean gradient of the loss on some batches, at the current weights."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn

from forgetless.core.context import Context, Tree
from forgetless.core.method import Method
from forgetless.core.predictions import to
from forgetless.core.sharding import reducing, reshard
from forgetless.errors import InputError, ProtectionError


def batch_size(batch: Any) -> int:
    """Examples in a batch: the first dimension of its first tensor, the length of a plain sequence of no tensors, else 1."""
    if isinstance(batch, Tensor):
        return batch.shape[0] if batch.ndim else 1
    if isinstance(batch, Mapping):
        return next((batch_size(value) for value in batch.values() if isinstance(value, Tensor)), 1)
    if isinstance(batch, Sequence) and not isinstance(batch, str):
        return next((batch_size(value) for value in batch if isinstance(value, Tensor)), len(batch))
    return 1


Size = Callable[[Any], int]


@contextmanager
def quiet(model: nn.Module) -> Iterator[None]:
    """Evaluation mode (no dropout, batch norm on its running statistics), with gradients, without using up random numbers."""
    modes = [(module, module.training) for module in model.modules()]
    devices = sorted({p.device.index or 0 for p in model.parameters() if p.device.type == "cuda"})
    try:
        model.eval()
        with torch.random.fork_rng(devices), torch.enable_grad():
            yield
    finally:
        for module, training in modes:
            module.training = training


def _checkpoints(module: nn.Module) -> bool:
    """Whether a module recomputes what its children give, and does nothing else by its mode: it has no dropout of its own."""
    drops = (value for key, value in vars(module).items() if "drop" in key and isinstance(value, int | float))
    return getattr(module, "gradient_checkpointing", False) is True and not any(drops)


@contextmanager
def borrowed_grads(ctx: Context) -> Iterator[None]:
    """Set every ``.grad`` aside while a reference is computed, and put it back."""
    reshard(ctx.model)
    saved = {parameter: parameter.grad for parameter in ctx.model.parameters()}
    try:
        for parameter in saved:
            parameter.grad = None
        yield
    finally:
        for parameter, grad in saved.items():
            parameter.grad = grad


def mean_gradient(
    ctx: Context,
    batches: Iterable[Any],
    *,
    each: Callable[[Tree], None] | None = None,
    everywhere: bool | None = None,
    size: Size = batch_size,
) -> Tree:
    r"""The gradient of the mean loss on ``batches``: :math:`\frac{1}{N}\sum_b n_b \nabla_\theta L_b`.

    Computed in evaluation mode, in the parameters' own dtype, in the memory that ``.grad`` would take. Of several processes each
    works on its own batches, and the mean is over all of them, as the gradients of training are. It is a collective then.

    Args:
        ctx: the session's context.
        batches: walked once; each is weighted by its ``size``.
        each: called with the gradient of every single batch (costs one more copy of the gradients); of several processes with that
            of the batches which they have at the same time, together.
        everywhere: whether every process is given the same batches; then each works on its share of them. Left out: as the task says.
        size: of a batch; the number of its examples.

    Returns:
        Gradients by name, of those parameters that the loss depends on.

    Raises:
        InputError: there is no batch.
        ProtectionError: a loss is not a finite scalar.
    """
    total: Tree = {}
    seen = first = 0
    same = ctx.task.everywhere if everywhere is None else everywhere
    with borrowed_grads(ctx), quiet(ctx.model), reducing(ctx.model):
        for module in filter(_checkpoints, ctx.model.modules()):
            module.training = True  # transformers recomputes activations in training mode only
        for batch, weight, count in _rounds(ctx, batches, same, size, together=each is not None):
            first = first or count
            seen += count
            loss = ctx.loss_fn(ctx.model, batch)
            if loss.ndim != 0 or not torch.isfinite(loss.detach()):
                raise ProtectionError(
                    f"the reference loss is {loss.detach().tolist()!r:.80}, not a finite scalar; loss_fn(model, batch) must give one"
                )
            (loss * (weight / first)).backward()  # type: ignore[no-untyped-call]  # torch leaves backward untyped
            if each is not None:
                part = _summed(ctx, _take(ctx))
                each(part)
                total = {name: total[name] + grad if name in total else grad for name, grad in part.items()} | {
                    name: grad for name, grad in total.items() if name not in part
                }
        if each is None:
            total = _take(ctx)
            if ctx.world.size > 1 and not ctx.held.sharded:
                for grad in total.values():
                    grad.mul_(first)
                total, first, seen = _summed(ctx, total), 1, int(ctx.world.sum(torch.tensor(seen)))
    if not seen:
        raise InputError("the retain set gives no batch", mend="Give task.retain batches that can be walked again (a list, a DataLoader)")
    if not total:
        raise ProtectionError("the loss on the retain set depends on no trainable parameter")
    if first != seen:
        for grad in total.values():
            grad.mul_(first / seen)
    return total


def edit_gradients(method: Method, ctx: Context) -> None:
    """Add the gradient of the method's penalty to the accumulated gradients, and let the method edit them."""
    ctx.held.bind()
    with torch.enable_grad():
        penalty = method.penalty(ctx)
    if penalty is not None:
        parts = torch.autograd.grad(penalty, list(ctx.parameters.values()), allow_unused=True)
        for parameter, part in zip(ctx.parameters.values(), parts, strict=True):
            if part is not None:
                parameter.grad = part if parameter.grad is None else parameter.grad.add_(part)
    grads = {name: parameter.grad for name, parameter in ctx.parameters.items() if parameter.grad is not None}
    sparse = next((name for name, grad in grads.items() if grad.is_sparse), None)
    if sparse is not None:
        raise ProtectionError(f"the gradient of {sparse!r} is sparse, which is not supported; build the embedding with sparse=False")
    for name, grad in method.gradients(ctx, grads).items():
        if grad is not ctx.parameters[name].grad:
            ctx.parameters[name].grad = grad
    ctx.held.give_back()


def _rounds(ctx: Context, batches: Iterable[Any], same: bool, size: Size, *, together: bool) -> Iterator[tuple[Any, float, int]]:
    """This process's batches, the factor of each loss, and the examples that count for it.

    Where a backward pass is a collective (FSDP), or the gradient of every batch is asked for, processes go through their batches
    side by side; one that has no more goes along with a weight of zero.
    """
    world = ctx.world
    if world.size == 1:
        for batch in batches:
            count = size(batch)
            yield batch, count, count
        return
    if not ctx.held.sharded and not together:
        for batch in islice(iter(batches), world.rank, None, world.size) if same else batches:
            count = size(batch)
            yield batch, count, count
        return
    walk = islice(iter(batches), world.rank, None, world.size) if same and not together else iter(batches)
    latest: Any = None
    while True:
        found = list(islice(walk, 1))
        counts = world.shares(size(found[0]) if found else 0)
        if not sum(counts):
            return
        if latest is None and 0 in counts:  # some process has none at all
            latest = next(one for parts in world.gather([to(one, "cpu") for one in found]) for one in parts)
            latest = to(latest, next(iter(ctx.parameters.values())).device)
        latest = found[0] if found else latest
        factor = world.size if ctx.held.sharded else 1  # FSDP takes the mean over processes, we want the sum
        yield latest, counts[world.rank] * factor, sum(counts)


def _take(ctx: Context) -> Tree:
    taken = ctx.held.gradients()
    for parameter in ctx.model.parameters():
        parameter.grad = None
    return taken


def _summed(ctx: Context, grads: Tree) -> Tree:
    """The sum over processes that hold all weights, each with gradients of its own batches; FSDP's are summed already."""
    if ctx.world.size == 1 or ctx.held.sharded:
        return grads
    known = ctx.world.sum(torch.tensor([name in grads for name in ctx.parameters], dtype=torch.int32)).tolist()
    return {
        name: ctx.world.sum(grads[name] if name in grads else torch.zeros_like(parameter))
        for (name, parameter), count in zip(ctx.parameters.items(), known, strict=True)
        if count
    }
