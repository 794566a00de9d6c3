"""What a protected trainer does beside training: a session around its optimizer, fed at the right moments."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import TrainerCallback
from transformers.trainer_utils import get_last_checkpoint

from forgetless.core.method import Method, overrides
from forgetless.core.session import Session
from forgetless.core.state import load_state, save_state
from forgetless.core.task import Task
from forgetless.errors import InputError, ProtectionError
from forgetless.integrations.keeping import Keeping
from forgetless.integrations.rollouts import pending, take_up

STATE_FILE = "forgetless_state.safetensors"
"""The method's state, in every checkpoint folder."""


class Protection:
    """A method at work in one trainer; it stands at ``trainer.forgetless``.

    Attributes:
        method: the method or chain.
        task: what it keeps and learns.
        session: the session of the training that runs, or ran last; None before the first.
        keeping: the budget, where there is one.
    """

    def __init__(self, trainer: Any, method: Method, task: Task, kind: str, chunk_bytes: int, keeping: Keeping | None = None) -> None:
        self.trainer, self.method, self.task, self.kind, self.chunk_bytes = trainer, method, task, kind, chunk_bytes
        self.session: Session | None = None
        self.keeping = keeping
        self.stepping = False  # inside training_step
        self.reads_outputs = kind == "transformers" and overrides(method, "loss")
        self._state: Any = None
        self._open = False
        self._undo: Callable[[], None] = _nothing
        self._seen = 0  # optimizer steps that the session took

    @property
    def constraint_violation(self) -> float | None:
        """The largest movement measured of a weight that the method said it would not move."""
        return None if self.session is None else self.session.constraint_violation

    def loss(self, model: nn.Module, batch: Any) -> Tensor:
        """The trainer's own loss of one batch, a mean, without its scaling for accumulation and without a trace in its metrics."""
        trainer = self.trainer
        if self.kind == "grpo":
            found: Tensor = model(**batch).loss
            return found
        kept = {name: vars(trainer)[name] for name in ("_metrics", "_total_train_tokens") if name in vars(trainer)}
        if "_metrics" in kept:
            trainer._metrics = {mode: type(told)(told.default_factory) for mode, told in kept["_metrics"].items()}
        try:
            with trainer.compute_loss_context_manager():
                found = super(Protected, trainer).compute_loss(model, dict(batch))  # type: ignore[misc]  # it is one by now
            return found
        finally:
            vars(trainer).update(kept)

    def resume_from(self, checkpoint: str | None) -> None:
        """Read the state that lies in a checkpoint, before anything is done."""
        self.session, self._state, self._open = None, None, False
        if self.keeping is not None:
            self.keeping.resume_from(checkpoint)
        if checkpoint is None:
            return
        file = Path(checkpoint) / STATE_FILE
        if not file.is_file():
            raise InputError("it holds no state of the method", where=str(file), mend="Resume from a checkpoint of a protected run")
        self._state = load_state(file)

    def begin(self) -> None:
        """Begin the task, or go on with it: the optimizer exists, a checkpoint has been loaded."""
        trainer = self.trainer
        outer = inner = trainer.optimizer
        while hasattr(inner, "optimizer"):
            outer, inner = inner, inner.optimizer
        self.task = replace(self.task, steps=int(trainer.state.max_steps))
        session = Session(self.method, trainer.model_wrapped, inner, self.task, self.loss, chunk_bytes=self.chunk_bytes)
        if self._state is not None:
            self._check_weights(session, self._state["weights"])
            try:
                session.load_state_dict(self._state["session"])
            except (ValueError, KeyError) as error:
                raise InputError(
                    f"the state is of another method ({error})", where=STATE_FILE, mend="Resume with the method it was made with"
                ) from error
            take_up(trainer, self._state["rollouts"])
            self._state = None
        self.session, self._open, self._seen = session, True, session.ctx.step
        session.start()
        self._undo = _behind_scaler(outer, inner)
        self._take_clipping(inner)
        if self.keeping is not None:
            self.keeping.begin(session)

    def _take_clipping(self, optimizer: torch.optim.Optimizer) -> None:
        """Edit the gradients before the trainer clips them (or only measures their norm)."""
        session, accelerator = self.session, self.trainer.accelerator
        clip = accelerator.clip_grad_norm_
        assert session is not None

        def edit_and_clip(parameters: Any, max_norm: float, norm_type: float = 2) -> Any:
            scaler = accelerator.scaler
            if scaler is None:
                session.edit_gradients()
                return clip(parameters, max_norm, norm_type)
            accelerator.unscale_gradients()
            found = scaler._per_optimizer_states[id(optimizer)]["found_inf_per_device"]
            if not any(float(value) for value in found.values()):  # else the scaler will leave this step out
                session.edit_gradients()
            return torch.nn.utils.clip_grad_norm_(list(parameters), max_norm, norm_type)

        accelerator.clip_grad_norm_ = edit_and_clip

    def check_step(self) -> None:
        """Raise `ProtectionError` where the trainer took an optimizer step that did not pass through the session."""
        session = self._running()
        if self.trainer.accelerator.optimizer_step_was_skipped:
            return
        if session.ctx.step != self._seen + 1:
            raise ProtectionError("the trainer took an optimizer step past the method; something has replaced optimizer.step")
        self._seen = session.ctx.step

    def look(self) -> bool:
        """Let the guard of a budget look and act, where there is one. Returns whether training ends here."""
        return self.keeping is not None and self.keeping.step(self._running())

    def end(self) -> None:
        """End the task well: under a budget with weights that keep it on the guard's probe, and with a verdict."""
        if self.keeping is not None and self._open:
            self.keeping.end(self._running())
        self.close(finished=True)
        if self.keeping is not None:
            self.keeping.judge()

    def save(self) -> None:
        """Write the state into the checkpoint that has just been made; every process takes part, the first one writes."""
        trainer, session = self.trainer, self._running()
        state = {"session": session.state_dict(), "weights": self._sums(session), "rollouts": pending(trainer)}
        if trainer.args.should_save:
            folder = Path(trainer._get_output_dir(trial=None)) / f"checkpoint-{trainer.state.global_step}"
            save_state(folder / STATE_FILE, state)
            if self.keeping is not None:
                self.keeping.save(folder)

    @staticmethod
    def _sums(session: Session) -> dict[str, tuple[float, float]]:
        """The sum of each trainable parameter, and of its absolute values."""
        ctx = session.ctx
        ctx.held.bind()
        own = [parameter.detach() for parameter in ctx.parameters.values()]
        sums = torch.stack([torch.stack([w.sum(dtype=torch.float64), w.abs().sum(dtype=torch.float64)]).cpu() for w in own])
        return {name: (total, size) for name, (total, size) in zip(ctx.parameters, ctx.world.sum_shards(sums).tolist(), strict=True)}

    def _check_weights(self, session: Session, saved: dict[str, tuple[float, float]]) -> None:
        """Raise `ProtectionError` where the trainer has not restored the weights of the checkpoint (for some models it only warns)."""
        found = self._sums(session)
        wrong = [name for name, (total, size) in found.items() if name not in saved or abs(total - saved[name][0]) > 1e-9 * (size + 1e-30)]
        if wrong:
            raise ProtectionError(f"the trainer did not restore {len(wrong)} weights of the checkpoint, such as {wrong[0]!r}")

    def report(self) -> dict[str, float]:
        """What the method reported about the latest step, for the trainer's log."""
        if self.session is None:
            return {}
        told = {f"forgetless/{name}": float(value) for name, value in self.session.metrics.items() if isinstance(value, int | float)}
        if self.constraint_violation is not None:
            told["forgetless/constraint_violation"] = self.constraint_violation
        return told

    def close(self, *, finished: bool) -> None:
        """End the task; give the optimizer and the accelerator back."""
        if not self._open or self.session is None:
            return
        self._open = False
        try:
            self.session.close(finished=finished)
        finally:
            vars(self.trainer.accelerator).pop("clip_grad_norm_", None)
            self._undo()
            self._undo = _nothing

    def check_end(self, steps: int) -> None:
        """Raise `ProtectionError` where training took steps without a session."""
        if steps and self.session is None:
            raise ProtectionError("the trainer trained without the method: its callback was removed")

    def _running(self) -> Session:
        if self.session is None or not self._open:
            raise ProtectionError("the trainer trains without the method: its callback was removed, or its loop is not Trainer's")
        return self.session


class Protected:
    """Mixed into the class of a protected trainer, before it."""

    forgetless: Protection

    def train(self, resume_from_checkpoint: Any = None, **options: Any) -> Any:
        this: Any = self
        if resume_from_checkpoint is True:
            resume_from_checkpoint = get_last_checkpoint(this.args.output_dir)
            if resume_from_checkpoint is None:
                raise InputError("no checkpoint lies there", where=this.args.output_dir, mend="Train without resume_from_checkpoint")
        self.forgetless.resume_from(resume_from_checkpoint or None)
        try:
            result = super().train(resume_from_checkpoint=resume_from_checkpoint, **options)  # type: ignore[misc]  # the trainer's
        finally:
            self.forgetless.close(finished=False)
        self.forgetless.check_end(this.state.global_step)
        return result

    def training_step(self, *args: Any, **options: Any) -> Any:
        self.forgetless.stepping = True
        try:
            return super().training_step(*args, **options)  # type: ignore[misc]  # the trainer's
        finally:
            self.forgetless.stepping = False

    def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None, **options: Any) -> Any:
        this: Any = self
        protection, own = self.forgetless, super().compute_loss  # type: ignore[misc]  # the trainer's
        if not protection.stepping:
            return own(model, inputs, return_outputs=return_outputs, num_items_in_batch=num_items_in_batch, **options)
        session, batch = protection._running(), dict(inputs)
        both = return_outputs or protection.reads_outputs
        found = own(model, inputs, return_outputs=both, num_items_in_batch=num_items_in_batch, **options)
        loss, outputs = found if both else (found, None)
        scaled = getattr(this, "loss_is_scaled_for_ga", None)
        if scaled is None:
            scaled = (this.model_accepts_loss_kwargs and num_items_in_batch is not None) or this.compute_loss_func is not None
        total = session.total(loss, batch, outputs, share=1.0 / this.current_gradient_accumulation_steps if scaled else 1.0)
        return (total, outputs) if return_outputs else total

    def log(self, logs: dict[str, float], *args: Any, **options: Any) -> None:
        super().log({**logs, **self.forgetless.report()} if "loss" in logs else logs, *args, **options)  # type: ignore[misc]  # the trainer's


class Guard(TrainerCallback):  # type: ignore[misc]  # untyped in transformers
    """Tells a `Protection` where the trainer's loop stands."""

    def __init__(self, protection: Protection) -> None:
        self.protection = protection

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.protection.begin()

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.protection._running().begin_epoch(int(state.epoch or 0))

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.protection.check_step()
        if self.protection.look():
            control.should_training_stop = True

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.protection.save()

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        protection = self.protection
        protection.end()
        if protection.constraint_violation is not None:
            protection.trainer.log({"forgetless/constraint_violation": protection.constraint_violation})


def _nothing() -> None:
    pass


def _behind_scaler(outer: Any, inner: torch.optim.Optimizer) -> Callable[[], None]:
    """Let an accelerated optimizer with a GradScaler call the session's step: it remembers the one that it was built with."""
    if getattr(outer, "scaler", None) is None:
        return _nothing
    from accelerate.optimizer import patch_optimizer_step

    kept = (outer._optimizer_original_step_method, outer._optimizer_patched_step_method)
    own = patch_optimizer_step(outer, inner.step)

    def step(*args: Any, **options: Any) -> Any:
        overflowed = getattr(inner, "found_inf", None)  # a fused optimizer is called even then, and told so
        return None if overflowed is not None and float(overflowed) else own(*args, **options)

    outer._optimizer_original_step_method, outer._optimizer_patched_step_method = inner.step, step

    def undo() -> None:
        outer._optimizer_original_step_method, outer._optimizer_patched_step_method = kept

    return undo
