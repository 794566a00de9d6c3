"""Parameters that a method freezes from `Method.prepare` to the end of a task, noted on the model so that none stays frozen unseen."""

from __future__ import annotations

from collections.abc import Container, Iterator

from torch import nn

from forgetless.core.method import Chain, Method
from forgetless.errors import InputError

NOTE = "_forgetless_frozen"
"""The attribute of the model: the name of the method's class, and the names of the parameters."""


def freeze(model: nn.Module, method: Method, *, but: Container[str]) -> None:
    """Freeze what is trainable and not named, until `thaw`."""
    names = [name for name, parameter in model.named_parameters() if parameter.requires_grad and name not in but]
    for name in names:
        model.get_parameter(name).requires_grad_(False)
    setattr(model, NOTE, (type(method).__name__, names))


def thaw(model: nn.Module) -> None:
    """Make trainable again what a method (`NullSpace`, and so `Auto`) froze until its task ends, where that end never came.

    A training that ends with an error or by hand leaves it frozen, so that it can be gone on with. ``prepare`` of those methods does
    this too, and a session of any other refuses such a model.

    Args:
        model: the model that was trained, or one that contains it.
    """
    for module, (_, names) in _notes(model):
        for name, parameter in module.named_parameters():
            if name in names:
                parameter.requires_grad_(True)
        delattr(module, NOTE)


def check_thawed(method: Method, model: nn.Module) -> None:
    """Raise `InputError` where a method that is not at work left parameters frozen, since its training was broken off."""
    parts = {type(part).__name__ for part in (method.methods if isinstance(method, Chain) else (method,))}
    for _, (by, names) in _notes(model):
        if names and by not in parts:
            raise InputError(
                f"a training with {by} was broken off, and {len(names)} parameters are frozen since, such as {names[0]!r}",
                where="model",
                mend="Call forgetless.thaw(model) before the optimizer is made, or load the model anew",
            )


def _notes(model: nn.Module) -> Iterator[tuple[nn.Module, tuple[str, list[str]]]]:
    for module in list(model.modules()):
        if NOTE in vars(module):
            yield module, vars(module)[NOTE]
