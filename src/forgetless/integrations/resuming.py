"""Which checkpoint a training goes on from: transformers tells its callbacks the step, but not the folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers.trainer_utils import get_last_checkpoint


class Resuming:
    """Mixed into the class of a watched trainer, before it.

    Attributes:
        resumed_from: the checkpoint folder that the latest ``train()`` was given; None where it began anew.
    """

    resumed_from: Path | None = None

    def train(self, *args: Any, **options: Any) -> Any:
        this: Any = self
        given = args[0] if args else options.get("resume_from_checkpoint")
        found = get_last_checkpoint(this.args.output_dir) if given is True else given
        self.resumed_from = Path(found) if found else None
        return super().train(*args, **options)  # type: ignore[misc]  # the trainer's


def remember_checkpoint(trainer: Any) -> None:
    """Let a trainer, protected or not, remember at ``resumed_from`` which folder its ``train()`` was given."""
    if not isinstance(trainer, Resuming):
        own = type(trainer)
        trainer.__class__ = type(f"Watched{own.__name__}", (Resuming, own), {"__module__": Resuming.__module__})
