"""What a guard sees and tells: looks at its probe, and the lines of its log."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from statistics import median
from typing import Any

from forgetless.data.model import Language
from forgetless.data.question import Question
from forgetless.guard.budget import Budget
from forgetless.guard.evidence import interval
from forgetless.guard.look import Standing, expected_share, standing
from forgetless.guard.policy import Look, Policy
from forgetless.guard.verdict import nothing_known

Tell = Callable[[dict[str, Any]], None]


class Watching:
    """Asks a probe, again and again, what is still known of it.

    Args:
        budget: what is promised.
        language: the model in training.
        probe: the questions to look at; those right at the start count.
        tell: given every line of ``budget.jsonl``.
        agreed: of several processes gives all of them what the first one has.

    Attributes:
        policy: what it made of the looks so far.
        last: the last look.
        acts: how many there were.
        seconds: spent on looks and acts.
    """

    def __init__(self, budget: Budget, language: Language, probe: Sequence[Question], *, tell: Tell, agreed: Callable[[Any], Any]) -> None:
        self.budget, self.language = budget, language
        self._probe, self._tell, self._agreed = list(probe), tell, agreed
        self.policy = Policy(budget.allowed)
        self.last: Look | None = None
        self.acts, self.seconds = 0, 0.0
        self._start: list[float] | list[bool] = []  # of the known items: their margins, or that they are right

    def _measure_start(self) -> None:
        found = self._ask(self._probe)
        self._probe = [question for question, right in zip(self._probe, found.right, strict=True) if right]
        if not self._probe:
            raise nothing_known("the guard's probe")
        values = found.right if found.margins is None else found.margins
        self._start = [value for value, right in zip(values, found.right, strict=True) if right]

    @property
    def known(self) -> int:
        """How many items of the probe were right at the start."""
        return len(self._start)

    def _ask(self, questions: Sequence[Question]) -> Standing:
        budget = self.budget
        found = standing(self.language, questions, budget.scorer, budget.template, budget.batch_size)
        right, margins = self._agreed((found.right, found.margins))
        return Standing(right, margins)

    def _look(self, step: int) -> Look:
        now = self._ask(self._probe)
        expected = middle = None
        if now.margins is not None:
            expected, middle = expected_share([float(value) for value in self._start], now.margins), median(now.margins)
        self.last = Look(step, now.right.count(False), len(now.right), expected, middle)
        return self.last

    def _fresh(self, step: int) -> Look:
        """The last look if it was at this step, else one more, which is told but calls for nothing by itself."""
        if self.last is not None and self.last.step == step:
            return self.last
        began = time.perf_counter()
        look = self._look(step)
        self.policy.looks += 1
        self._told(look, time.perf_counter() - began)
        return look

    def _told(self, look: Look, seconds: float) -> None:
        low, high = interval(look.forgotten, look.total)
        line = {"kind": "look", "look": self.policy.looks, **asdict(look), "low": low, "high": high}
        self._tell(line | {"good": self.policy.good(look), "seconds": round(seconds, 3)})

    def _act(self, name: str, reason: str, what: str, step: int) -> None:
        self.acts += 1
        self._tell({"kind": "act", "step": step, "act": name, "what": what, "reason": reason})
