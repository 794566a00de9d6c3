"""The budget of a protected trainer: the same guard as in the reference loop, told where the trainer stands."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from transformers import Trainer

from forgetless.core.session import Session
from forgetless.core.state import load_state, save_state
from forgetless.data.encoding import encode_all, target
from forgetless.data.identity import with_ids
from forgetless.data.model import Language
from forgetless.data.question import Question
from forgetless.data.reading import check_disjoint, check_unique, read_questions
from forgetless.errors import InputError
from forgetless.evaluation.score import asked_with
from forgetless.guard.budget import Budget, interval
from forgetless.guard.guard import Guard
from forgetless.guard.look import standing
from forgetless.guard.parts import Parts, divide
from forgetless.guard.verdict import nothing_known, promise

BUDGET_FILE = "forgetless_budget.safetensors"
"""The guard's state, in every checkpoint folder."""
EVERY = 50
"""Steps between looks where the training set does not tell its length in tokens."""
SAMPLE = 64
"""Rows of the training set whose length stands for all."""
BATCHES = 8
"""Training batches whose loss tells which of two models learned more."""


class Keeping:
    """A trainer's budget; it stands at ``trainer.forgetless.keeping``.

    Attributes:
        guard: the guard of the training that runs, or ran last.
        verdict: whether the promise was kept, as in ``summary.json`` under ``budget``; None before training ended.
        history: the lines of ``budget.jsonl``: looks and acts.
    """

    def __init__(self, trainer: Any, budget: Budget, parts: Parts) -> None:
        self.trainer, self.budget, self.parts = trainer, budget, parts
        self.guard: Guard | None = None
        self.verdict: dict[str, Any] | None = None
        self.history: list[dict[str, Any]] = []
        self._before: list[bool] = []
        self._state: Any = None
        self._first = self._guard()
        self._first.remember(trainer.model)  # before a checkpoint is loaded

    def resume_from(self, checkpoint: str | None) -> None:
        """Read the state that lies in a checkpoint, before anything is done.

        Raises:
            InputError: there is none, or it is of another budget.
        """
        self.guard, self.verdict, self.history, self._state = None, None, [], None
        if checkpoint is None:
            return
        file = Path(checkpoint) / BUDGET_FILE
        if not file.is_file():
            raise InputError(
                "it holds no state of a budget", where=str(file), mend="Resume from a checkpoint of a run with the same budget"
            )
        self._state = load_state(file)
        if self._state["allowed"] != self.budget.allowed:
            what = f"its run has budget = {self._state['allowed']}, this trainer {self.budget.allowed}"
            raise InputError(what, where=str(file), mend="Resume with the same budget")

    def begin(self, session: Session) -> None:
        """Before the first step, or the first after a resume."""
        if self._state is None:
            self.guard = self._guard()
            self.guard.remember(self.trainer.model, self._first)
            self._before = self._asked()
            if not any(self._before):
                raise nothing_known("the promise's items")
        else:
            self.guard = self._first
            self.guard.every = self._state["every"]
            self.guard.load_state_dict(self._state["guard"])
            self._before, self.history = self._state["before"], self._state["history"]
            self._state = None
        self.guard.begin(session)

    def step(self, session: Session) -> bool:
        """After each optimizer step. Returns whether training ends here."""
        assert self.guard is not None
        if self.guard.step(session, self.trainer.lr_scheduler) and self.guard.last is not None:
            last = self.guard.last
            found = {"forgetless/probe_forgotten": float(last.forgotten), "forgetless/probe_total": float(last.total)}
            if last.expected is not None:
                found["forgetless/probe_expected"] = last.expected
            Trainer.log(self.trainer, found)  # not a TRL trainer's own, which would mix its means into this line
        return self.guard.stopped

    def end(self, session: Session) -> None:
        """After the last step, while the session is open: leave weights that keep the budget on the probe."""
        assert self.guard is not None
        self.guard.end(session, self._learned)

    def judge(self) -> None:
        """Once all is done to the weights: the verdict, in the log and at ``verdict``."""
        assert self.guard is not None
        found = promise(self._before, self._asked(), self.budget.allowed)
        self.verdict = {
            **found.to_dict(),
            "verdict": found.sentence(),
            "acts": self.guard.acts,
            "looks": self.guard.policy.looks,
            "rollbacks": self.guard.policy.rollbacks,
            "blend": self.guard.blend,
            "seconds": round(self.guard.seconds, 3),
        }
        told = {"budget_kept": float(found.kept), "budget_forgotten": float(found.forgotten), "budget_total": float(found.total)}
        Trainer.log(self.trainer, {f"forgetless/{name}": value for name, value in told.items()} | {"forgetless/budget_upper": found.upper})

    def save(self, folder: Path) -> None:
        """Write the state into a checkpoint folder."""
        assert self.guard is not None
        state = {"allowed": self.budget.allowed, "every": self.guard.every, "guard": self.guard.state_dict()}
        save_state(folder / BUDGET_FILE, state | {"before": self._before, "history": self.history})

    def _guard(self) -> Guard:
        every = self.budget.every or self._interval()
        return Guard(self.budget, self._language, self.parts.probe, every=every, tell=self._tell, agreed=_agreed, went_back=self._went_back)

    def _tell(self, line: dict[str, Any]) -> None:
        self.history.append(line)

    @property
    def _language(self) -> Language:
        return Language(self.trainer.model, self.trainer.processing_class, getattr(self.trainer.model, "name_or_path", ""))

    def _asked(self) -> list[bool]:
        budget = self.budget
        found = standing(self._language, self.parts.promise, budget.scorer, budget.template, budget.batch_size).right
        right: list[bool] = _agreed(found)
        return right

    def _learned(self) -> float:
        """How well the training set goes: minus the mean loss of its first batches; of rollouts nothing can be said beforehand."""
        protection = self.trainer.forgetless
        if protection.kind == "grpo":
            return 0.0
        model, losses = self.trainer.model, []
        training = model.training
        model.eval()
        with torch.no_grad():
            for batch, _ in zip(protection.task.train, range(BATCHES), strict=False):
                losses.append(float(protection.loss(model, batch)))
        model.train(training)
        return -sum(losses) / len(losses)

    def _went_back(self) -> None:
        if hasattr(self.trainer, "_buffered_inputs"):
            self.trainer._buffered_inputs = None  # GRPOTrainer's rollouts are of weights that are gone

    def _interval(self) -> int:
        """Steps between looks, from the length of the training set's rows where they tell it."""
        rows, args, language = self.trainer.train_dataset, self.trainer.args, self._language
        if not (hasattr(rows, "__len__") and hasattr(rows, "__getitem__") and len(rows)):
            return EVERY
        some = [rows[index * len(rows) // min(len(rows), SAMPLE)] for index in range(min(len(rows), SAMPLE))]
        if not all(isinstance(row, dict) and "input_ids" in row for row in some):
            return EVERY
        template = asked_with(self.budget.scorer, self.budget.template)
        probed = ((question, target(question, template)) for question in self.parts.probe)
        probe = sum(map(len, encode_all(probed, language.tokenizer, template, room=language.room)))
        size = args.train_batch_size * args.gradient_accumulation_steps * args.world_size
        return interval(probe, size * sum(len(row["input_ids"]) for row in some) / len(some))


def keeping(trainer: Any, budget: float | Budget, retain: Any) -> tuple[Budget, Parts]:
    """The budget in full, and who sees which questions; the reference is empty where the retain set is no questions.

    A retain set of the very questions that the budget has is dealt out, as where the budget has none.

    Raises:
        InputError: a share makes no sense; there are no questions, or too few, or some stand where the promise's items must not; the
            trainer has no tokenizer.
    """
    full = budget if isinstance(budget, Budget) else Budget(budget)
    if trainer.processing_class is None:
        raise InputError("it has no tokenizer", where="trainer", mend="Give the trainer processing_class=tokenizer")
    if trainer.is_fsdp_enabled:
        raise InputError("a guard cannot go back in sharded weights", where="budget", mend="Train without FSDP, or without a budget")
    if full.questions is None and not is_questions(retain):
        raise InputError(
            "the retain set is no questions, so nothing tells what is still known",
            where="budget",
            mend="Give budget=Budget(0.01, questions=...) with questions or a question file",
        )
    given = {"retain": retain if is_questions(retain) else None, "budget.questions": full.questions, "budget.heldout": full.heldout}
    read = {name: read_all(source, name) for name, source in given.items() if source is not None}
    questions, heldout = read.get("budget.questions", read.get("retain", [])), read.get("budget.heldout")
    dealt = {one.id: one for one in read.get("retain", [])} == {one.id: one for one in questions}
    if dealt:
        read.pop("budget.questions", None)
    for one, other in combinations(read, 2):
        check_disjoint(read[one], read[other], names=(one, other))
    parts = divide(questions, heldout, full.seed, reference=dealt)
    if not parts.probe or not parts.promise or (dealt and not parts.reference):
        raise InputError(
            f"{len(questions)} questions are too few to deal out", where="budget", mend="Give more questions that the model knows"
        )
    if not dealt:
        parts = replace(parts, reference=read.get("retain", []))
    return replace(full, questions=None, heldout=None), parts


def is_questions(given: Any) -> bool:
    """Whether a retain set is a question file or a sequence of questions."""
    if isinstance(given, str | Path):
        return True
    return isinstance(given, Sequence) and len(given) > 0 and all(isinstance(one, Question) for one in given)


def read_all(given: Sequence[Question] | str | Path, name: str) -> list[Question]:
    """The questions of a file, or those given; what the argument is called.

    Raises:
        InputError: two have one id.
    """
    if isinstance(given, str | Path):
        return read_questions(given)
    found = with_ids(given)
    check_unique(found, name)
    return found


def _agreed(value: Any) -> Any:
    if not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
        return value
    found = [value]
    dist.broadcast_object_list(found, src=0)
    return found[0]
