"""Whether the disk can hold what a run will write."""

from __future__ import annotations

from torch import nn

from forgetless.train.folder import RunFolder
from forgetless.train.optimizer import moments
from forgetless.train.settings import Settings
from forgetless.train.snapshot import weights


def check_space(folder: RunFolder, settings: Settings, model: nn.Module, *, prepared: bool) -> None:
    """Refuse a disk that is too small; a method that has yet to change the model may train only a small part of it.

    Args:
        folder: of the run.
        settings: of the run; under a budget a checkpoint also holds the last good point.
        model: in training.
        prepared: whether the method has changed the model already.

    Raises:
        InputError: the disk is too small.
    """
    whole = sum(tensor.numel() * tensor.element_size() for tensor in weights(model).values())
    trained = sum(p.numel() * p.element_size() for p in model.parameters() if p.requires_grad) if prepared else 0
    more = 0 if settings.budget is None else (1 + moments(settings)) * trained
    folder.check_space(whole, moments(settings) * trained + more)
