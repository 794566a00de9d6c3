"""Watches during training what is learned and what is forgotten, question by question."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.functional import kl_div
from transformers import Trainer, TrainerCallback

from forgetless.core.options import choice, number, whole
from forgetless.core.state import load_state, save_state
from forgetless.data.encoding import encode_all, target
from forgetless.data.model import Language
from forgetless.data.question import Question
from forgetless.data.reading import read_questions
from forgetless.errors import InputError
from forgetless.evaluation.forward import answer_logits, evaluating
from forgetless.evaluation.score import asked_with, check_scorer, score
from forgetless.files import read_jsonl, write_jsonl
from forgetless.guard.evidence import within
from forgetless.integrations.resuming import remember_checkpoint
from forgetless.integrations.rollback import GoodPoint

BEFORE_FILE = "forgetless_retention.jsonl"
"""What was right before training, in every checkpoint folder."""
BASE_FILE = "forgetless_base.safetensors"
"""With ``kl``: the answers' log-probabilities before training, in every checkpoint folder."""


class RetentionCallback(TrainerCallback):  # type: ignore[misc]  # untyped in transformers
    """Scores questions before training and every few steps, logs what changed, and stops or goes back where too much is forgotten.

    The trainer's log gets ``forgetless/learned``, ``forgetless/forgotten``, and with ``kl`` ``forgetless/kl_to_base``. Works with any
    Trainer of a causal language model, protected or not.

    Args:
        trainer: the trainer to which the callback is added. Its class is derived from, so that it remembers where it was resumed from.
        retain: questions (a sequence, or a question file) of which those right before training can be forgotten.
        inject: questions of which those wrong before training can be learned.
        every: optimizer steps between two looks; the last step is always looked at.
        budget: the largest share forgotten of the retain questions that were right. None: any.
        good: a function of a look (a dictionary as in ``history``) that says whether it is still good, in place of ``budget``.
        beyond: what happens after a look that is not good. ``"stop"``: training ends with the weights as they are. ``"restore"``: with
            those of the last good look. ``"retry"``: weights, the optimizer's and the method's state go back to the last good look (or
            to the start) and training goes on, with the batches that follow and the learning rate times ``retry_factor``; after
            ``retries`` times it ends there.
        retries: how many times.
        retry_factor: of the learning rate at each of them, in (0, 1].
        scorer: how an answer is judged, as in `forgetless.score`.
        template: how questions are put, likewise.
        batch_size: sequences in one forward pass.
        kl: also measure the mean KL divergence from the model before training, on the answers of ``retain``. Keeps that model's
            log-probabilities (4 bytes for each token of an answer and word of the vocabulary), in every checkpoint too.

    ``"restore"`` and ``"retry"`` keep, in main memory and in every checkpoint, a copy of the trainable weights, of the optimizer's state
    and of the method's; a training resumed from a checkpoint goes back to the same point, bit for bit.

    Attributes:
        history: for each look a dictionary with ``step``, ``learned``, ``inject_total``, ``forgotten``, ``retain_total``, ``kl_to_base``.
        stopped: whether training was ended by a look that was not good.
        rollbacks: for each time that it went back the steps from and to.

    Raises:
        InputError: an option makes no sense; the trainer would load the best model over the last good one; a resumed training has no
            record of what was right before it.
    """

    def __init__(
        self,
        trainer: Any,
        *,
        retain: Sequence[Question] | str | Path,
        inject: Sequence[Question] | str | Path = (),
        every: int = 50,
        budget: float | None = None,
        good: Callable[[dict[str, Any]], bool] | None = None,
        beyond: Literal["stop", "restore", "retry"] = "stop",
        retries: int = 3,
        retry_factor: float = 0.5,
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
        if good is not None and (budget is not None or not callable(good)):
            raise InputError(
                "it takes the place of budget", where="RetentionCallback.good", mend="Give a function of a look, and no budget"
            )
        self.good = good
        self.beyond = choice("RetentionCallback.beyond", beyond, ("stop", "restore", "retry"))
        if beyond != "stop" and budget is None and good is None:
            raise InputError("nothing says when to go back", where="RetentionCallback.beyond", mend="Give budget or good")
        if beyond != "stop" and trainer.args.load_best_model_at_end:
            what = "load_best_model_at_end puts other weights in the place of the last good ones"
            raise InputError(what, where="RetentionCallback.beyond", mend="Leave one of them out")
        self.retries = whole("RetentionCallback.retries", retries)
        self.retry_factor = number("RetentionCallback.retry_factor", retry_factor, above=True, high=1.0)
        self.scorer, self.template, self.batch_size, self.kl = scorer, template, whole("RetentionCallback.batch_size", batch_size), kl
        self.history: list[dict[str, Any]] = []
        self.stopped = False
        self.rollbacks: list[tuple[int, int]] = []
        self._point = GoodPoint()
        self._before: dict[str, list[bool]] = {}
        self._base: dict[int, Tensor] = {}
        remember_checkpoint(trainer)

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.history, self.stopped, self.rollbacks, self._base = [], False, [], {}
        if not state.global_step:
            self._before = self._right()
            if self.kl:
                self._base = self._answers()
            if self.beyond != "stop":
                self._point.take(self.trainer)
            return
        folder = self.trainer.resumed_from or self._folder(state)
        file = folder / BEFORE_FILE
        if not file.is_file():
            raise InputError("no record of what was right before training", where=str(file), mend="Resume from one of a watched run")
        for row in read_jsonl(file):
            if "set" in row:
                self._before[row["set"]] = row["right"]
            else:
                self.rollbacks = [(begin, end) for begin, end in row["rollbacks"]]
        if self.kl:
            self._base = load_state(folder / BASE_FILE)
        if self.beyond != "stop":
            self._point.load(folder)

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
        good = self._is_good(self.history[-1])
        if self.beyond != "stop" and good:
            self._point.take(self.trainer)
        elif not good:
            again = self.beyond == "retry" and len(self.rollbacks) < self.retries
            if self.beyond != "stop":
                self._point.put_back(self.trainer, self.retry_factor if again else 1.0)
                self.rollbacks.append((state.global_step, self._point.step))
                Trainer.log(self.trainer, {"forgetless/rolled_back_to": float(self._point.step)})
            self.stopped = control.should_training_stop = not again
        return control

    def _is_good(self, look: dict[str, Any]) -> bool:
        if self.good is not None:
            return bool(self.good(look))
        return self.budget is None or within(look["forgotten"], look["retain_total"], self.budget)

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if args.should_save:
            before = [{"set": name, "right": right} for name, right in self._before.items()]
            write_jsonl(self._folder(state) / BEFORE_FILE, [*before, {"rollbacks": self.rollbacks}])
            if self.kl:
                save_state(self._folder(state) / BASE_FILE, self._base)
            if self.beyond != "stop":
                self._point.save(self._folder(state))

    def _folder(self, state: Any) -> Path:
        return Path(self.trainer._get_output_dir(trial=None)) / f"checkpoint-{state.global_step}"

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
        asked = [(question, target(question, template)) for question in self.questions["retain"]]
        examples = encode_all(asked, language.tokenizer, template, room=language.room)
        with torch.no_grad(), evaluating(language.model):
            found = answer_logits(language, examples, batch_size=self.batch_size)
            return {index: logits.float().log_softmax(-1).cpu() for index, logits in found}

    def _drift(self) -> float:
        now = self._answers()
        parts = [float(kl_div(now[index], old, log_target=True, reduction="sum")) / len(old) for index, old in self._base.items()]
        return max(0.0, sum(parts) / len(parts))


def _questions(given: Sequence[Question] | str | Path) -> list[Question]:
    return read_questions(given) if isinstance(given, str | Path) else list(given)
