"""Backward passes whose gradients are used tensor by tensor and then freed, so that no whole gradient need be kept."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from forgetless.core.context import Context, LossFunction, Tree
from forgetless.core.gradients import batch_size, borrowed_grads, mean_gradient, quiet
from forgetless.core.task import Task
from forgetless.errors import InputError

BROKEN = "Its weights or its outputs are broken (NaN); take an earlier copy"
HOLD_BYTES = 3 << 30
"""What references may take by default, if the weights take less."""
Visit = Callable[[str, Tensor], None]


def trainable(model: nn.Module, tensors: Collection[str] | None = None) -> dict[str, nn.Parameter]:
    """The trainable parameters by name; of these only ``tensors``, where given.

    Raises:
        InputError: there is none, or a name is not that of a trainable parameter.
    """
    found = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    if tensors is not None:
        if unknown := [name for name in tensors if name not in found]:
            raise InputError(f"{unknown[0]!r} is no trainable parameter", where="tensors", mend="Take names of model.named_parameters()")
        found = {name: found[name] for name in found if name in set(tensors)}
    if not found:
        raise InputError("the model has no trainable parameter", where="model", mend="Set requires_grad on what is to be looked at")
    return found


@contextmanager
def only(model: nn.Module, names: Collection[str]) -> Iterator[None]:
    """Inside, gradients are worked out for the parameters ``names`` alone: a backward pass ends at the first of them."""
    wanted = set(names)
    changed = [parameter for name, parameter in model.named_parameters() if parameter.requires_grad and name not in wanted]
    try:
        for parameter in changed:
            parameter.requires_grad_(False)
        yield
    finally:
        for parameter in changed:
            parameter.requires_grad_(True)


@contextmanager
def consuming(parameters: Mapping[str, nn.Parameter], visit: Visit) -> Iterator[None]:
    """Inside, ``backward`` hands every parameter's gradient to ``visit(name, gradient)`` as soon as it is whole, then frees it.

    So the gradients of a backward pass never exist together: the most is that of the largest tensor.
    """

    def hook(name: str) -> Callable[[Tensor], None]:
        def use(parameter: Tensor) -> None:
            if parameter.grad is not None:
                with torch.no_grad():
                    visit(name, parameter.grad)
                parameter.grad = None

        return use

    handles = [p.register_post_accumulate_grad_hook(hook(name)) for name, p in parameters.items()]  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def context(model: nn.Module, loss_fn: LossFunction, parameters: dict[str, nn.Parameter]) -> Context:
    """What the functions of `forgetless.core` look at, without a session: nothing is trained."""
    return Context(model, torch.optim.SGD(parameters.values(), lr=0.0), Task("diagnosis", ()), loss_fn, parameters)


def parts(parameters: dict[str, nn.Parameter], groups: int, hold_bytes: int | None = None) -> Iterator[dict[str, nn.Parameter]]:
    """Cut the parameters into parts whose references (one a group, and the inject set's) take at most ``hold_bytes``, last tensors first.

    Raises:
        InputError: ``hold_bytes`` is less than 1.
    """
    weights = sum(p.numel() * p.element_size() for p in parameters.values())
    room = max(HOLD_BYTES, weights) if hold_bytes is None else hold_bytes
    if isinstance(room, bool) or not isinstance(room, int) or room < 1:
        raise InputError(f"{room!r} is no size", where="hold_bytes", mend="Give a positive number of bytes")
    part: dict[str, nn.Parameter] = {}
    size = 0
    for name, parameter in reversed(parameters.items()):
        own = parameter.numel() * parameter.element_size() * (groups + 1)
        if part and size + own > room:
            yield part
            part, size = {}, 0
        part[name] = parameter
        size += own
    yield part


def reference(model: nn.Module, loss_fn: LossFunction, parameters: dict[str, nn.Parameter], batches: Iterable[object]) -> Tree:
    """`forgetless.core.gradients.mean_gradient` of ``parameters`` alone, in their shapes and dtypes.

    Raises:
        InputError: there is no batch, or a loss is not a finite scalar.
    """
    with only(model, parameters):
        return mean_gradient(context(model, lambda inner, batch: finite(loss_fn(inner, batch)), parameters), batches)


@contextmanager
def watching(
    model: nn.Module, loss_fn: LossFunction, parameters: dict[str, nn.Parameter], visit: Visit
) -> Iterator[Callable[[object], float]]:
    """A function that takes one batch through a backward pass whose gradients go to ``visit``, and gives the loss.

    Evaluation mode; the user's gradients are set aside and put back.

    Raises:
        InputError: from that function, where the loss is not a finite scalar.
    """

    def take(batch: object) -> float:
        loss = finite(loss_fn(model, batch))
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves backward untyped
        return float(loss.detach())

    with borrowed_grads(context(model, loss_fn, parameters)), quiet(model), only(model, parameters), consuming(parameters, visit):
        yield take


def mean_loss(model: nn.Module, loss_fn: LossFunction, batches: Iterable[object]) -> float:
    r"""The mean loss :math:`\frac1N \sum_b n_b L_b` over batches of :math:`n_b` examples, in evaluation mode.

    Raises:
        InputError: there is no batch, or a loss is not a finite scalar.
    """
    total, seen = 0.0, 0
    with quiet(model), torch.no_grad():
        for batch in batches:
            count = batch_size(batch)
            total, seen = total + count * float(finite(loss_fn(model, batch))), seen + count
    if not seen:
        raise InputError("the data gives no batch", mend="Give batches that can be walked again (a list, a DataLoader)")
    return total / seen


def finite(loss: Tensor) -> Tensor:
    """``loss`` itself, or `InputError` where it is not a finite scalar."""
    if loss.ndim or not bool(torch.isfinite(loss.detach())):
        shown = f"{loss.detach().tolist()!r:.60}"
        raise InputError(
            f"the loss is {shown}, not a finite number",
            where="model",
            mend=BROKEN,
        )
    return loss
