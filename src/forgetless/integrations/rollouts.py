"""Completions that GRPOTrainer has written and not yet learned from: TRL keeps them in memory only, a resumed training needs them."""

from __future__ import annotations

from typing import Any

from forgetless.core.method import State
from forgetless.core.predictions import to


def pending(trainer: Any) -> State:
    """How far it is, and the micro-batches still to be used, with their rewards and the log-probabilities of their time; else nothing."""
    if not hasattr(trainer, "_buffered_inputs"):
        return {}
    between = trainer._step % (trainer.args.steps_per_generation * trainer.num_iterations) == 0 or trainer._buffered_inputs is None
    return {"step": trainer._step, "batches": None if between else [dict(batch) for batch in trainer._buffered_inputs]}


def take_up(trainer: Any, state: State) -> None:
    """Put back what `pending` gave."""
    if state:
        trainer._step = state["step"]
        trainer._buffered_inputs = None if state["batches"] is None else [to(batch, trainer.args.device) for batch in state["batches"]]
