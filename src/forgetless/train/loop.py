"""The reference loop, meant to be read: score, train an epoch, score, until enough is learned."""

from __future__ import annotations

import math
import time
from functools import partial
from pathlib import Path
from typing import Any

from forgetless.core.checks import check_method
from forgetless.core.method import Method, overrides
from forgetless.core.session import Session, attach
from forgetless.core.task import Task
from forgetless.data.model import Language, load_model
from forgetless.data.placement import place
from forgetless.data.question import Question
from forgetless.errors import ProtectionError
from forgetless.evaluation.score import asked_with
from forgetless.files import check_writable
from forgetless.progress import bar, note
from forgetless.train.batches import Batches, answer_loss
from forgetless.train.evaluate import Verdicts, as_verdicts, changes, evaluate, item_rows, learned_share, marks, outcome, verdict
from forgetless.train.folder import ReadFolder, RunFolder
from forgetless.train.keeping import Keeping, deal, protected
from forgetless.train.observer import Board, Observer, check_board
from forgetless.train.optimizer import make_optimizer
from forgetless.train.processes import Processes, started
from forgetless.train.provenance import peak_memory, run_config
from forgetless.train.settings import INJECT, RETAIN, Settings
from forgetless.train.snapshot import load_weights, own, random_state, seed_all, set_random_state, versions, weights
from forgetless.train.space import check_space
from forgetless.train.splits import read_splits

__all__ = ["make_optimizer", "peak_memory", "read_splits", "train"]


def train(
    settings: Settings,
    method: Method,
    out: Path,
    *,
    resume: bool = False,
    show: bool = True,
    keep_checkpoint: bool = True,
    before: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Fine-tune as ``settings`` say, protected by ``method``; leave a run folder at ``out``.

    A run that was killed at any moment goes on with ``resume`` to the same weights, bit for bit. Started in several processes (by
    torchrun or accelerate launch) each works on its part of every batch, and the first one writes.

    Args:
        settings: what to do.
        method: the method or chain that ``settings.method`` names.
        out: the run folder.
        resume: go on with the run in ``out`` if there is one.
        show: show progress bars.
        keep_checkpoint: leave the last checkpoint in the folder of a finished run.
        before: the content of ``before.json`` of another run of the same model on the same files with the same scoring, which saves
            the scoring before training; None scores.

    Returns:
        The content of ``summary.json``.

    Raises:
        InputError: a file, a setting or the folder is wrong; nothing is written then.
        ProtectionError: the loss is not finite.
    """
    if settings.tensorboard:
        check_board()
    splits = read_splits(settings, method)
    config, splits, method = run_config(settings, splits), deal(splits, settings), protected(method, settings)
    check_method(method, processes=started()[1], sharded=False)
    processes = Processes(settings.device)
    folder = (RunFolder if processes.first else ReadFolder)(out)
    try:
        folder.check(config, resume=resume)
        summary = processes.agreed(folder.finished)
        if summary is None:
            if processes.first:
                check_writable(out, folder=True)
            language = processes.first_alone(lambda: load_model(settings.model))  # it may have to be unpacked
            place(language, processes.device if processes.size > 1 else settings.device, settings.dtype)
            run = _Run(settings, method, folder, language, splits, processes, show and processes.first)
            try:
                summary = run.go(config, resume=resume, before=before)
            finally:
                run.close()
        if not keep_checkpoint:
            folder.drop_checkpoint()
    finally:
        processes.leave()
    return summary


class _Run:
    """The state of a run between its steps."""

    def __init__(
        self,
        settings: Settings,
        method: Method,
        folder: RunFolder,
        language: Language,
        splits: dict[str, list[Question]],
        processes: Processes,
        show: bool,
    ) -> None:
        self.settings, self.folder, self.splits, self.processes, self.show = settings, folder, splits, processes, show
        self.language, self.method = language, method
        template = asked_with(settings.scorer, settings.template)
        self.batches = Batches(splits[INJECT], language, template, settings.batch_size, settings.seed)
        self.retain = Batches(shown, language, template, settings.retain_batch_size) if (shown := settings.shown(splits)) else None
        self.task = Task(INJECT, self.batches, self.retain, last=True, steps=settings.planned(len(self.batches)), everywhere=True)
        self.keeping = Keeping(settings, language, splits, self.batches, folder, processes, show)
        self.seconds, self.eval_seconds, self.peak = 0.0, 0.0, 0  # the last: bytes that a process before this one took
        self.fractions = (0.0, 0)  # conflicting shares, their sum and number
        self.layers: dict[str, float] = {}  # conflicting shares of this epoch, summed over its steps
        self.board: Board | None = None

    def go(self, config: dict[str, Any], *, resume: bool, before: dict[str, Any] | None) -> dict[str, Any]:
        settings, folder = self.settings, self.folder
        check_space(folder, settings, self.language.model, prepared=not overrides(self.method, "prepare"))
        kept = self.processes.agreed(folder.load_before())
        given = before if kept is None else kept
        begun = self._evaluate("scoring before training", self.splits) if given is None else as_verdicts(given)
        self.keeping.check(begun)
        seed_all(settings.seed)
        self.language.model = self.method.prepare(self.language.model, self.task)
        check_space(folder, settings, self.language.model, prepared=True)
        self.keeping.remember(self.language.model)
        optimizer = make_optimizer(settings, self.language.model)
        self.called = self.processes.together(self.language.model)  # what training calls: it averages over processes
        session = attach(self.method, self.called, optimizer, self.task, answer_loss)
        self.observer = Observer(settings, self.language.model, {INJECT: self.batches} | ({RETAIN: self.retain} if self.retain else {}))
        folder.open(config, resume=resume)  # the first thing that is written: all that could be refused has been looked at
        if kept is None:
            folder.save_before(begun)
        epoch, after = self._restore(session) or (0, begun)
        self.board = Board(folder.path / "tensorboard", session.ctx.step) if settings.tensorboard and self.processes.first else None
        began = time.perf_counter()
        with session:
            self.seconds += time.perf_counter() - began
            self.keeping.begin(session)
            if not session.ctx.step:
                self._log({"kind": "epoch", "epoch": 0, "step": 0, "seconds": 0.0, "splits": changes(begun, begun)})
            while not self._ends(session.ctx.step, epoch, begun, after):
                done, epoch = self._epoch(session, epoch, after), epoch + 1
                after = self._evaluate(f"scoring after epoch {epoch}", self.keeping.scored)
                more = epoch < self.settings.epochs and not self._spent(session.ctx.step)
                after = self.keeping.settle(session, begun, after, partial(self._evaluate, "scoring on the way"), more=more)
                self._log_epoch(session, epoch, done, begun, after)
                self._checkpoint(session, epoch, 0, after)
            why = self._ends(session.ctx.step, epoch, begun, after)
            after = self.keeping.end(session, begun, after, partial(self._evaluate, "scoring at the end"))
            left = versions(self.language.model)
        if versions(self.language.model) != left:
            after = self._evaluate("scoring what the method left", self.splits)
        return self._finish(session, begun, after, epoch, why)

    def _ends(self, step: int, epoch: int, before: Verdicts, after: Verdicts) -> str:
        """Why training ends here, at the end of an epoch or of the last part of one; empty where it goes on."""
        if self.keeping.stopped:
            return "the guard of the budget"
        wanted = self.settings.until_learned if epoch and not self.batches.skip else None
        if wanted is not None and self.keeping.safe and learned_share(changes(before, after)) >= wanted:
            return "until_learned reached"
        return self._spent(step) or ("epoch limit" if epoch >= self.settings.epochs else "")

    def _spent(self, step: int) -> str:
        """The limit that is reached after ``step`` steps and the seconds so far: of steps or of time; empty where none is."""
        steps, seconds = self.settings.max_steps, self.settings.max_seconds
        if steps is not None and step >= steps:
            return "step limit"
        return "time limit" if seconds is not None and self.processes.agreed(self.seconds >= seconds) else ""

    def _evaluate(self, title: str, splits: dict[str, list[Question]]) -> Verdicts:
        began = time.perf_counter()
        found = self.processes.agreed(evaluate(self.language, splits, self.settings, title, show=self.show))
        self.eval_seconds += time.perf_counter() - began
        return found

    def _epoch(self, session: Session, epoch: int, after: Verdicts) -> int:
        """One pass over the inject set, or the rest of one, or what a limit leaves of it; the steps that were done of the pass."""
        model, optimizer, ctx = self.called, session.ctx.optimizer, session.ctx
        model.train()
        session.begin_epoch(epoch)
        self.batches.epoch, done = epoch, self.batches.skip
        if not done:
            self.layers = {}
        with bar(f"epoch {epoch + 1}/{self.settings.epochs}", len(self.batches) - done, show=self.show) as advance:
            began = time.perf_counter()
            for whole in self.batches:
                self.observer.step_begins()
                batch, factor = self.processes.part(whole)
                outputs = model(**batch)
                loss = session.total(outputs.loss * factor if self.processes.size > 1 else outputs.loss, batch, outputs)
                value = float(ctx.world.sum(loss.detach())) / self.processes.size
                if not math.isfinite(value):
                    raise ProtectionError(f"the loss is {value} at step {ctx.step + 1}; lower --lr")
                loss.backward()  # type: ignore[no-untyped-call]  # torch leaves backward untyped
                optimizer.step()
                optimizer.zero_grad()
                now = time.perf_counter()
                self.seconds, began, done = self.seconds + now - began, now, done + 1
                told = dict(session.metrics)
                for name, share in told.pop("conflicting_by_layer", {}).items():
                    self.layers[name] = self.layers.get(name, 0.0) + share
                if "conflicting_fraction" in told:
                    self.fractions = (self.fractions[0] + told["conflicting_fraction"], self.fractions[1] + 1)
                line = {"kind": "step", "step": ctx.step, "epoch": epoch + 1, "loss": value, "lr": optimizer.param_groups[0]["lr"]}
                more = self.observer.step_ended(value, told)
                self._log(line | {"seconds": round(self.seconds, 3), "method": told} | more)
                advance(1, f"loss {value:.3f}")
                began += self.keeping.step(session)
                if self.keeping.stopped or self._spent(ctx.step):
                    break
                every = self.settings.checkpoint_every
                if every and ctx.step % every == 0 and done < len(self.batches):
                    self._checkpoint(session, epoch, done, after)
        return done

    def _log_epoch(self, session: Session, epoch: int, done: int, before: Verdicts, after: Verdicts) -> None:
        line: dict[str, Any] = {"kind": "epoch", "epoch": epoch, "step": session.ctx.step, "seconds": round(self.seconds, 3)}
        line |= {"splits": changes(before, after), "right": marks(after)}
        layers = {name: total / done for name, total in self.layers.items()}
        more = self.observer.epoch()
        for warning in more.get("warnings", ()):
            note(warning, show=self.show)
        self._log(line | ({"layers": layers} if layers else {}) | more)

    def _log(self, line: dict[str, Any]) -> None:
        self.folder.log(line)
        if self.board is not None:
            self.board.log(line)

    def close(self) -> None:
        """Let other processes have the folder."""
        self.folder.close()
        if self.board is not None:
            self.board.close()

    def _checkpoint(self, session: Session, epoch: int, done: int, after: Verdicts) -> None:
        state = {
            "epoch": epoch,
            "done": done,
            "after": after,
            "spent": (self.seconds, self.eval_seconds, max(self.peak, peak_memory())),
            "layers": self.layers,
            "fractions": self.fractions,
            "observer": self.observer.state_dict(),
            "model": weights(self.language.model),
            "optimizer": session.ctx.optimizer.state_dict(),
            "session": session.state_dict(),
            "budget": self.keeping.state_dict(),
            "random": self.processes.all_of(random_state()),
        }
        self.folder.checkpoint(state)

    def _restore(self, session: Session) -> tuple[int, Verdicts] | None:
        """Take up the last checkpoint where there is one: the epoch it stands in, and the verdicts at the start of that."""
        saved = self.folder.last_checkpoint()
        if saved is None:
            return None
        load_weights(self.language.model, saved["model"])
        session.ctx.optimizer.load_state_dict(own(saved["optimizer"]))
        session.load_state_dict(own(saved["session"]))
        self.batches.skip, self.layers, self.fractions = saved["done"], saved["layers"], saved["fractions"]
        self.observer.load_state_dict(own(saved["observer"]))
        self.keeping.load_state_dict(own(saved["budget"]))
        self.seconds, self.eval_seconds, self.peak = saved["spent"]
        kept, rank = saved["random"], self.processes.rank
        set_random_state(own(kept[rank if len(kept) == self.processes.size else 0]))
        return saved["epoch"], saved["after"]

    def _finish(self, session: Session, before: Verdicts, after: Verdicts, epochs: int, why: str) -> dict[str, Any]:
        settings, found = self.settings, outcome(before, after)
        summary = {
            "method": ",".join(settings.method),
            "method_args": settings.method_args,
            "model": settings.model,
            "seed": settings.seed,
            "optimizer": settings.optimizer,
            "lr": settings.lr,
            "epochs_run": epochs,
            "steps": session.ctx.step,
            "seconds": round(self.seconds, 3),
            "eval_seconds": round(self.eval_seconds, 3),
            "peak_memory_bytes": max(self.peak, peak_memory()),
            "stopped_because": why,
            **found,
            "conflicting_fraction": self.fractions[0] / self.fractions[1] if self.fractions[1] else None,
            "constraint_violation": session.constraint_violation,
            "budget": self.keeping.outcome(before, after, self.seconds),
            "verdict": self.keeping.sentence(verdict(found, settings.method), before, after),
        }
        self.folder.save_model(self.method.export(self.language.model), self.language.tokenizer)
        self.folder.finish(item_rows(self.splits, before, after), summary)
        return summary
