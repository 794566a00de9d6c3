"""The promise that a user asks for, and how closely it is watched."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from forgetless.core import options
from forgetless.data.question import Question
from forgetless.evaluation.score import check_scorer

GUARD_SHARE = 0.15
"""The share of a run's forward and backward passes that looks may take, beside the few early ones."""
EARLY = 1
"""Looks before the first regular one: after half of the interval, and so on."""
FORWARD = 1 / 3
"""What a forward pass costs of a forward and backward pass."""


@dataclass(frozen=True, slots=True)
class Budget:
    """Lose at most this share of what was known.

    Args:
        allowed: the share of the known items that may be forgotten, from 0 up and below 1.
        questions: what the model must stay good at, as questions or a question file: the guard's probe and the promise's items are
            taken from it. None: from the retain set, where that consists of questions. Else others than those of the retain set, or the
            very same.
        heldout: further questions, none of which stands elsewhere; the promise is then given on these alone.
        every: optimizer steps between looks; None: as many as keep the looks' cost below `GUARD_SHARE` of training.
        blend: as a last resort go back on the straight line to the start. Keeps a copy of the trainable weights in main memory.
        seed: of dealing the items out.
        scorer, template: how answers are judged and questions put, as in `forgetless.score`.
        batch_size: sequences in one forward pass of a look.

    Raises:
        InputError: an option is out of range.
    """

    allowed: float
    questions: Sequence[Question] | str | Path | None = None
    heldout: Sequence[Question] | str | Path | None = None
    every: int | None = None
    blend: bool = True
    seed: int = 0
    scorer: str = "exact"
    template: str | None = None
    batch_size: int = 32

    def __post_init__(self) -> None:
        check_share("budget", self.allowed)
        options.count("budget.every", self.every)
        options.seed("budget.seed", self.seed)
        options.whole("budget.batch_size", self.batch_size)
        check_scorer(self.scorer, right_and_wrong=True)


def check_share(where: str, allowed: float) -> float:
    """A share that may be forgotten: from 0 up and below 1.

    Raises:
        InputError: it is something else.
    """
    return options.number(where, allowed, below=1.0)


def interval(probe_tokens: float, step_tokens: float) -> int:
    """Optimizer steps between looks so that looks take at most `GUARD_SHARE` of training.

    Worked out from what is computed, not from the clock, so that a run repeats.

    Args:
        probe_tokens: of one look, forward only.
        step_tokens: of one optimizer step, forward and backward, without what the method adds.
    """
    return max(1, -(-round(1e6 * FORWARD * probe_tokens) // max(1, round(1e6 * GUARD_SHARE * step_tokens))))


def due(step: int, every: int) -> bool:
    """Whether there is a look after ``step`` optimizer steps."""
    early = {every >> shift for shift in range(1, EARLY + 1)} - {0}
    return step > 0 and (step % every == 0 or step in early)
