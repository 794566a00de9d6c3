"""One line that protects a Hugging Face or TRL trainer."""

from __future__ import annotations

from typing import Any, TypeVar

from forgetless.core.checks import check_method
from forgetless.core.method import Method, overrides
from forgetless.core.options import count
from forgetless.core.predictions import Predictions
from forgetless.core.session import CHUNK_BYTES
from forgetless.core.task import Task
from forgetless.errors import InputError
from forgetless.evaluation.score import asked_with
from forgetless.guard.budget import Budget
from forgetless.guard.reserves import with_reserves
from forgetless.integrations.batches import inject_batches, question_batches, retain_batches
from forgetless.integrations.forms import (
    AlignedPredictions,
    EncoderDecoderPredictions,
    PackedPredictions,
    PreferencePredictions,
    RolloutPredictions,
)
from forgetless.integrations.keeping import Keeping, is_questions, keeping
from forgetless.methods.auto import Auto

T = TypeVar("T")
_TRL = {"SFTTrainer": "sft", "DPOTrainer": "dpo", "GRPOTrainer": "grpo"}


def protect(
    trainer: T,
    method: Method | None = None,
    retain: Any = None,
    *,
    name: str = "train",
    index: int = 0,
    last: bool = True,
    budget: float | Budget | None = None,
    retain_batch_size: int | None = None,
    chunk_bytes: int = CHUNK_BYTES,
    predictions: Predictions | None = None,
) -> T:
    """Protect a trainer: its ``train()`` then runs under ``method``. Returns the same trainer.

    Args:
        trainer: a transformers ``Trainer`` or ``Seq2SeqTrainer``, or TRL's ``SFTTrainer``, ``DPOTrainer`` or ``GRPOTrainer`` (this one in
            one process), that has not trained yet; in several processes with DDP or FSDP2, every process calls this alike.
        method: a method or a chain; None: `Auto`, the recipe, which wants a learning rate of about 1e-3. Its ``prepare`` runs here; where
            it changes the model, ``trainer.model`` is what it returned.
        retain: data that the model must stay good at, the whole of it in every process: a dataset in the same form as the trainer's
            ``train_dataset``; for GRPOTrainer texts (``prompt`` and ``completion``, ``messages``, or ``text``) that count by cross-entropy.
            With ``budget`` also a question file or a sequence of `Question`: then the guard's probe and the promise's items are taken
            from it, and the rest is what the method sees, worded as it is asked and batched without the trainer's collator. Where the
            budget has questions of its own, which must be others, the method sees all of it.
        name: names the task.
        index: its place in a stream of tasks, from 0; each task has a trainer of its own, all have the same method object.
        last: no task follows, so nothing is worked out for one.
        budget: lose at most this share of what the model knew: a guard looks, acts and gives a verdict (``docs/budget.md``), which then
            stands at ``trainer.forgetless.keeping.verdict`` and in the trainer's log. A `Budget` where ``retain`` is a dataset, or for
            more options.
        retain_batch_size: examples in a batch of the retain set; the trainer's batch size if None.
        chunk_bytes: bound on the extra memory of methods that filter the optimizer's step.
        predictions: how methods read batches, where the usual forms do not fit.

    Raises:
        InputError: the trainer, or how it would train, cannot be protected; the method lacks its retain set; the budget makes no sense
            or has no questions.
    """
    kind = _kind(trainer)
    method = Auto() if method is None else method
    watched = None if budget is None else keeping(trainer, budget, retain)
    if watched is not None:
        method = method if retain is None else with_reserves(method, watched[0].seed)
    elif is_questions(retain):
        raise InputError("questions are a retain set under a budget only", where="retain", mend="Give a dataset, or budget=0.01")
    _refuse(trainer, method, kind, last=last, watched=watched is not None)
    if method.needs_retain and retain is None:
        raise InputError(
            f"{type(method).__name__} needs a retain set", where="retain", mend="Give protect(trainer, method, retain=dataset)"
        )
    size = None if retain_batch_size is None else count("retain_batch_size", retain_batch_size)
    from forgetless.integrations.trainer import Guard, Protected, Protection

    inner: Any = trainer
    kept = None
    if watched is not None and is_questions(retain):
        kept = question_batches(inner, watched[1].reference, asked_with(watched[0].scorer, watched[0].template), size, kind)
    elif retain is not None:
        kept = retain_batches(inner, retain, size, kind)
    task = Task(
        name,
        train=inject_batches(inner, rollouts=kind == "grpo"),
        retain=kept,
        index=index,
        last=last,
        predictions=predictions or _predictions(inner, kind),
        everywhere=True,
        accumulation=inner.args.gradient_accumulation_steps,
    )
    model = method.prepare(inner.model, task)
    if model is not inner.model:
        if inner.args.place_model_on_device:
            inner._move_model_to_device(model, inner.args.device)
        inner.model = inner.model_wrapped = inner.callback_handler.model = model
    inner.forgetless = Protection(inner, method, task, kind, chunk_bytes, None if watched is None else Keeping(inner, *watched))
    inner.__class__ = type(f"Protected{type(inner).__name__}", (Protected, type(inner)), {"__module__": Protected.__module__})
    inner.callback_handler.callbacks.insert(0, Guard(inner.forgetless))  # before any that would look at what we do
    return trainer


def _kind(trainer: Any) -> str:
    classes = type(trainer).__mro__
    if not any(one.__name__ == "Trainer" and one.__module__.startswith("transformers.") for one in classes):
        raise InputError(
            f"a {type(trainer).__name__} is no transformers Trainer", where="trainer", mend="In another loop use forgetless.attach"
        )
    if hasattr(trainer, "forgetless"):
        raise InputError("it is protected already", where="trainer", mend="Chain methods with >>, or make a new trainer")
    ours = [one.__name__ for one in classes if one.__module__.startswith("trl.") and one.__name__.endswith("Trainer")]
    ours = [found for found in ours if not found.startswith("_")]
    if not ours:
        return "transformers"
    found = next((name for name in ours if name in _TRL), None)
    if found is None or ours[0] != found:
        raise InputError(f"TRL's {ours[0]} is not supported", where="trainer", mend=f"Supported of TRL are {', '.join(_TRL)}")
    return _TRL[found]


def _refuse(trainer: Any, method: Method, kind: str, *, last: bool, watched: bool) -> None:
    """What could not be protected, said before training rather than found out after."""
    args, accelerator = trainer.args, trainer.accelerator
    changes = overrides(method, "prepare")
    optim = str(getattr(args.optim, "value", args.optim))
    cases = [
        (
            trainer.is_deepspeed_enabled or str(accelerator.distributed_type).endswith("DEEPSPEED"),
            "DeepSpeed steps its own optimizer inside backward, out of reach",
            "Use PyTorch's FSDP2 in place of DeepSpeed for models that need sharding: fsdp_version: 2 in Accelerate's configuration",
        ),
        (
            trainer.is_fsdp_enabled and getattr(getattr(accelerator.state, "fsdp_plugin", None), "fsdp_version", 1) != 2,
            "FSDP1 flattens parameters, so none can be told from its neighbours",
            "Use FSDP2: fsdp_version: 2 in Accelerate's configuration",
        ),
        (
            accelerator.num_processes > 1 and kind == "grpo",
            "GRPOTrainer in several processes is not supported: the rollouts of the others would be missing in the checkpoint",
            "Train in one process",
        ),
        (args.n_gpu > 1, "nn.DataParallel is not supported", "Set CUDA_VISIBLE_DEVICES to one device"),
        (bool(args.torch_compile), "torch_compile is not supported yet", "Leave it off"),
        (bool(args.auto_find_batch_size), "auto_find_batch_size starts a run again from its middle", "Set the batch size"),
        ("lomo" in optim or "layerwise" in optim, f"optim={optim!r} steps inside backward, out of reach", "Choose another optimizer"),
        (
            changes and trainer.optimizer is not None,
            f"it has an optimizer, built before {type(method).__name__} changes the model",
            "Give optimizer_cls_and_kwargs in place of optimizers",
        ),
        (
            changes and trainer.model_init is not None,
            f"model_init makes the model anew, without what {type(method).__name__} changes in it",
            "Give model in place of model_init",
        ),
        (
            bool(args.load_best_model_at_end) and not last,
            "load_best_model_at_end goes back to weights that the state for the next task does not fit",
            "Leave one of them out",
        ),
        (
            bool(args.load_best_model_at_end) and watched,
            "load_best_model_at_end ends with weights that the guard of the budget has not looked at",
            "Leave it out: a budget ends with weights that keep it",
        ),
    ]
    for wrong, what, mend in cases:
        if wrong:
            raise InputError(what, where="trainer", mend=mend)
    check_method(method, processes=accelerator.num_processes, sharded=bool(trainer.is_fsdp_enabled))
    bypass = [name for name in ("compute_loss", "training_step", "train", "log") if name in vars(trainer)]
    if bypass:
        raise InputError(
            f"{bypass[0]} has been replaced on the object, which would bypass the method",
            where="trainer",
            mend="Derive a class that overrides it",
        )


def _predictions(trainer: Any, kind: str) -> Predictions:
    if kind == "sft":
        return PackedPredictions()
    if kind == "dpo":
        return PreferencePredictions()
    if kind == "grpo":
        return RolloutPredictions()
    model = trainer.model.get_base_model() if hasattr(trainer.model, "get_base_model") else trainer.model
    if getattr(getattr(model, "config", None), "is_encoder_decoder", False):
        return EncoderDecoderPredictions()
    return AlignedPredictions() if type(model).__name__.endswith(("ForTokenClassification", "ForMaskedLM")) else Predictions()
