"""Watches during training what is learned and what is forgotten, question by question."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import kl_div
from transformers import Trainer, TrainerCallback

from forgetless.core.options import number, whole
from forgetless.data.encoding import encode, target
from forgetless.data.model import Language
from forgetless.data.question import Question
from forgetless.data.reading import read_questions
from forgetless.errors import InputError
from forgetless.evaluation.forward import answer_logits, evaluating
from forgetless.evaluation.score import asked_with, check_scorer, score
from forgetless.files import read_jsonl, write_jsonl

BEFORE_FILE = "forgetless_retention.jsonl"
"""What was right before training, in every checkpoint folder."""


class RetentionCallback(TrainerCallback):  # type: ignore[misc]  # untyped in transformers
    """Scores questions before training and every few steps, logs what changed, and stops where too much is forgotten.

    The trainer's log gets ``forgetless/learned``, ``forgetless/forgotten``, and with ``kl`` ``forgetless/kl_to_base``. Works with any
    Trainer of a causal language model, protected or not.

    Args:
        trainer: the trainer to which the callback is added.
        retain: questions (a sequence, or a question file) of which those right before training can be forgotten.
        inject: questions of which those wrong before training can be learned.
        every: optimizer steps between two looks; the last step is always looked at.
        budget: the largest share forgotten of the retain questions that were right; above it training stops. None: never.
        scorer: how an answer is judged, as in `forgetless.score`.
        template: how questions are put, likewise.
        batch_size: sequences in one forward pass.
        kl: also measure the mean KL divergence from the model before training, on the answers of ``retain``. Keeps that model's
            log-probabilities (4 bytes for each token of an answer and word of the vocabulary); left out after a resume.

    Attributes:
        history: for each look a dictionary with ``step``, ``learned``, ``inject_total``, ``forgotten``, ``retain_total``, ``kl_to_base``.
        stopped: whether the budget was exceeded.

    Raises:
        InputError: an option makes no sense, or a resumed training has no record of what was right before it.
    """

    def __init__(
        self,
        trainer: Any,
        *,
        retain: Sequence[Question] | str | Path,
        inject: Sequence[Question] | str | Path = (),
        every: int = 50,
        budget: float | None = None,
        scorer: str = "exact",
        template: str | None = None,
        batch_size: int = 32,
        kl: bool = False,
    ) -> None:
        check_scorer(scorer, right_and_wrong=True)
        if trainer.processing_class is None:
            raise InputError("it has no tokenizer", where="trainer", mend="Give the trainer processing_class=tokenizer")
        self.trainer = trainer
        self.questions = {"retain": _questions(retain), "inject": _questions(inject)}
        if not self.questions["retain"]:
            raise InputError("it is empty", where="RetentionCallback.retain", mend="Give questions that the model must stay good at")
        self.every = whole("RetentionCallback.every", every)
        self.budget = None if budget is None else number("RetentionCallback.budget", budget, high=1.0)
        self.scorer, self.template, self.batch_size, self.kl = scorer, template, whole("RetentionCallback.batch_size", batch_size), kl
        self.history: list[dict[str, Any]] = []
        self.stopped = False
        self._before: dict[str, list[bool]] = {}
        self._base: dict[int, Tensor] = {}

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.history, self.stopped, self._base = [], False, {}
        if not state.global_step:
            self._before = self._right()
            if self.kl:
                self._base = self._answers()
            return
        file = Path(self.trainer._get_output_dir(trial=None)) / f"checkpoint-{state.global_step}" / BEFORE_FILE
        if not file.is_file():
            raise InputError("no record of what was right before training", where=str(file), mend="Resume without RetentionCallback")
        self._before = {row["set"]: row["right"] for row in read_jsonl(file)}

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
        if state.global_step % self.every and state.global_step < state.max_steps:
            return control
        now = self._right()
        pairs = {name: list(zip(self._before[name], right, strict=True)) for name, right in now.items()}
        found: dict[str, Any] = {
            "learned": sum(after and not before for before, after in pairs["inject"]),
            "inject_total": sum(not before for before, _ in pairs["inject"]),
            "forgotten": sum(before and not after for before, after in pairs["retain"]),
            "retain_total": sum(before for before, _ in pairs["retain"]),
        }
        if self._base:
            found["kl_to_base"] = self._drift()
        self.history.append({"step": state.global_step, **found})
        shown = {f"forgetless/{name}": found[name] for name in ("learned", "forgotten", "kl_to_base") if name in found}
        Trainer.log(self.trainer, shown)  # not a TRL trainer's own, which would mix its means into this line
        if self.budget is not None and found["forgotten"] > self.budget * found["retain_total"]:
            self.stopped = control.should_training_stop = True
        return control

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if args.should_save:
            folder = Path(self.trainer._get_output_dir(trial=None)) / f"checkpoint-{state.global_step}"
            write_jsonl(folder / BEFORE_FILE, ({"set": name, "right": right} for name, right in self._before.items()))

    @property
    def _language(self) -> Language:
        return Language(self.trainer.model, self.trainer.processing_class, getattr(self.trainer.model, "name_or_path", ""))

    def _right(self) -> dict[str, list[bool]]:
        options = {"scorer": self.scorer, "template": self.template, "batch_size": self.batch_size}
        with torch.no_grad():
            return {
                name: [bool(verdict.right) for verdict in score(self._language, questions, **options)]  # type: ignore[arg-type]  # as named
                for name, questions in self.questions.items()
            }

    def _answers(self) -> dict[int, Tensor]:
        """The model's log-probabilities at each token of the first answer of each retain question."""
        language, template = self._language, asked_with(self.scorer, self.template)
        texts = [(question, target(question, template)) for question in self.questions["retain"]]
        examples = [encode(question, text, language.tokenizer, template, room=language.room) for question, text in texts]
        with torch.no_grad(), evaluating(language.model):
            found = answer_logits(language, examples, batch_size=self.batch_size)
            return {index: logits.float().log_softmax(-1).cpu() for index, logits in found}

    def _drift(self) -> float:
        now = self._answers()
        parts = [float(kl_div(now[index], old, log_target=True, reduction="sum")) / len(old) for index, old in self._base.items()]
        return max(0.0, sum(parts) / len(parts))


def _questions(given: Sequence[Question] | str | Path) -> list[Question]:
    return read_questions(given) if isinstance(given, str | Path) else list(given)
