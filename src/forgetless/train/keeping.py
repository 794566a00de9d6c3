"""The budget in the reference loop: who sees which items, the guard beside the steps, the verdict at the end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from forgetless.core.method import Method
from forgetless.core.session import Session
from forgetless.data.model import Language
from forgetless.data.question import Question
from forgetless.errors import InputError
from forgetless.guard.budget import Budget, interval
from forgetless.guard.evidence import needed
from forgetless.guard.guard import Guard
from forgetless.guard.parts import divide
from forgetless.guard.reserves import with_reserves
from forgetless.guard.verdict import Promise, nothing_known, promise
from forgetless.progress import note
from forgetless.train.batches import Batches
from forgetless.train.evaluate import Verdicts, changes, learned_share
from forgetless.train.folder import BUDGET_LOG, RunFolder
from forgetless.train.processes import Processes
from forgetless.train.settings import BUDGET_PROBE, INJECT, RETAIN, RETAIN_HELDOUT, Settings

Splits = dict[str, list[Question]]
RAMP = 8
"""Optimizer steps in which a run with a budget comes to its full rate."""


def deal(splits: Splits, settings: Settings) -> Splits:
    """The splits of a run with a budget: of the retain set the reference alone, beside it the guard's probe and the promise's items.

    Raises:
        InputError: there is no retain set, or too little of it.
    """
    if settings.budget is None:
        return splits
    retain, heldout = splits.get(RETAIN), splits.get(RETAIN_HELDOUT)
    if not retain:
        raise InputError("it needs a retain set", where="--budget", mend="Name a file of questions that the model knows by --retain")
    parts = divide(retain, heldout, settings.seed)
    if not (parts.reference and parts.probe and parts.promise):
        what = f"{len(retain)} questions are too few for a reference, a probe and a promise"
        raise InputError(what, where=settings.files[RETAIN], mend="Give more questions that the model knows")
    return splits | {RETAIN: parts.reference, BUDGET_PROBE: parts.probe, RETAIN_HELDOUT: parts.promise}


def protected(method: Method, settings: Settings) -> Method:
    """The method of a run: under a budget with reserves behind it that wait until they are needed."""
    return method if settings.budget is None else with_reserves(method, settings.seed)


class Keeping:
    """A run's guard. Every function does nothing in a run without a budget."""

    def __init__(
        self, settings: Settings, language: Language, splits: Splits, batches: Batches, folder: RunFolder, processes: Processes, show: bool
    ) -> None:
        self.settings, self.splits, self.folder, self.show = settings, splits, folder, show
        self.guard: Guard | None = None
        if settings.budget is None:
            return
        template, size = settings.template, settings.eval_batch_size
        every = settings.budget_every
        if every is None:
            probe = sum(map(len, Batches(splits[BUDGET_PROBE], language, template, size).examples))
            every = interval(probe, sum(map(len, batches.examples)) / len(batches))
        budget = Budget(
            settings.budget, every=every, blend=settings.blend is not False, scorer=settings.scorer, template=template, batch_size=size
        )
        self.guard = Guard(budget, language, splits[BUDGET_PROBE], every=every, tell=self._tell, agreed=processes.agreed, ramp=RAMP)

    def check(self, before: Verdicts) -> None:
        """Refuse a model that knows nothing it could lose; say where it knows too little for a proof.

        Raises:
            InputError: nothing of the probe, or nothing of the promise's items, is right before training.
        """
        if self.guard is None:
            return
        known = {name: sum(right for right, _ in before[name]) for name in (BUDGET_PROBE, RETAIN_HELDOUT)}
        for name, which in ((BUDGET_PROBE, "the guard's probe"), (RETAIN_HELDOUT, "the promise's items")):
            if not known[name]:
                raise nothing_known(which)
        enough = needed(self.guard.budget.allowed)
        if enough is None or known[RETAIN_HELDOUT] < enough:
            what = "no number of items shows" if enough is None else f"it takes {enough} to show, with 95% confidence,"
            note(f"budget: the promise has {known[RETAIN_HELDOUT]} known items; {what} that nothing more is lost", show=self.show)

    def remember(self, model: nn.Module) -> None:
        """Keep the start of the line on which a last resort would go back; with the prepared model, before a checkpoint is loaded."""
        if self.guard is not None:
            self.guard.remember(model)

    def begin(self, session: Session) -> None:
        """Before the first step, or the first after a resume."""
        if self.guard is not None:
            self.guard.begin(session)

    def step(self, session: Session) -> float:
        """After each optimizer step: look, if it is time to, and act. Returns the seconds that it took."""
        if self.guard is None:
            return 0.0
        before = self.guard.seconds
        self.guard.step(session)
        return self.guard.seconds - before

    @property
    def scored(self) -> Splits:
        """The splits to score after an epoch: under a budget what is to be learned alone; the promise's items wait for the end."""
        return self.splits if self.guard is None else {INJECT: self.splits[INJECT]}

    @property
    def stopped(self) -> bool:
        """Whether the guard has ended training."""
        return self.guard is not None and self.guard.stopped

    @property
    def safe(self) -> bool:
        """Whether training may end with what the last look found, once enough is learned."""
        return self.guard is None or self.guard.safe

    def settle(self, session: Session, before: Verdicts, after: Verdicts, score: Callable[[Splits], Verdicts], *, more: bool) -> Verdicts:
        """After an epoch with enough learned: give back, towards the start, what that does not need; the verdicts on what is left."""
        wanted, begun = self.settings.until_learned, {INJECT: before[INJECT]}
        if self.guard is None or wanted is None or learned_share(changes(begun, after)) < wanted:
            return after

        def now() -> Verdicts:
            return score({INJECT: self.splits[INJECT]})

        changed = self.guard.settle(session, lambda: learned_share(changes(begun, now())) >= wanted, more=more)
        return now() if changed else after

    def end(self, session: Session, before: Verdicts, after: Verdicts, score: Callable[[Splits], Verdicts]) -> Verdicts:
        """After the last step: leave weights that keep the budget on the probe; the verdicts on them."""
        guard = self.guard
        if guard is None:
            return after

        def learned() -> int:
            now = score({INJECT: self.splits[INJECT]})
            return changes({INJECT: before[INJECT]}, now)[INJECT]["learned"]

        guard.end(session, learned)
        return score(self.splits)

    def outcome(self, before: Verdicts, after: Verdicts, seconds: float) -> dict[str, Any] | None:
        """The content of ``summary.json`` under ``budget``."""
        guard = self.guard
        if guard is None or guard.last is None:
            return None
        found = self.verdict(before, after)
        return {
            **found.to_dict(),
            "verdict": found.sentence(),
            "acts": guard.acts,
            "looks": guard.policy.looks,
            "rollbacks": guard.policy.rollbacks,
            "blend": guard.blend,
            "probe": {"forgotten": guard.last.forgotten, "total": guard.last.total},
            "every": guard.every,
            "seconds": round(guard.seconds, 3),
            "share_of_training": round(guard.seconds / seconds, 4) if seconds else None,
        }

    def sentence(self, text: str, before: Verdicts, after: Verdicts) -> str:
        """The run's verdict, with that on the promise behind it."""
        return text if self.guard is None else f"{text}. {self.verdict(before, after).sentence()}"

    def verdict(self, before: Verdicts, after: Verdicts) -> Promise:
        """Whether the promise was kept."""
        assert self.guard is not None
        pairs = list(zip(before[RETAIN_HELDOUT], after[RETAIN_HELDOUT], strict=True))
        return promise([was for (was, _), _ in pairs], [now for _, (now, _) in pairs], self.guard.budget.allowed)

    def state_dict(self) -> dict[str, Any]:
        """The guard's state, for a checkpoint."""
        return {} if self.guard is None else self.guard.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up what `state_dict` gave."""
        if self.guard is not None:
            self.guard.load_state_dict(state)

    def _tell(self, line: dict[str, Any]) -> None:
        self.folder.log(line, BUDGET_LOG)
        if line["kind"] == "act":
            note(f"budget, step {line['step']}: {line['act']} {line['what']} ({line['reason']})", show=self.show)
