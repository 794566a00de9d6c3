"""What a run is asked to do, checked before anything is loaded or written."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

from forgetless.core import options
from forgetless.core.method import Chain, Method
from forgetless.data.placement import check_placement
from forgetless.data.question import Question
from forgetless.data.templates import check_template
from forgetless.errors import InputError
from forgetless.evaluation.score import check_scorer

RATE, RECIPE_RATE = 1e-5, 1e-3
"""Learning rates where none is given: of plain fine-tuning and what is like it, and of what projects most of a step away."""
OPTIMIZERS = ("adamw", "adam", "sgd", "momentum")
RETAIN, INJECT, RETAIN_HELDOUT, INJECT_HELDOUT = "retain", "inject", "retain-heldout", "inject-heldout"
BUDGET_PROBE = "budget-probe"


@dataclass(frozen=True, slots=True)
class Settings:
    """A training run. Every field is checked when the object is made.

    Attributes:
        model: what `forgetless.data.model.load_model` takes.
        files: question files by split: ``inject`` and, optionally, ``retain``, ``retain-heldout``, ``inject-heldout`` and
            any further name (a probe that is only scored).
        method: names of methods, in the order in which they apply.
        method_args: options by method name.
        optimizer: one of `OPTIMIZERS`.
        lr: learning rate, constant.
        weight_decay: None takes the optimizer's own default (AdamW 0.01, else 0).
        epochs: the most passes over the inject set.
        max_steps: end after so many optimizer steps, in the middle of an epoch too. What comes first ends training: this, epochs,
            max_seconds or until_learned.
        max_seconds: end after the step with which so many seconds of training (without scoring) are over. Where that falls
            depends on the machine, so only such a run does not repeat bit for bit.
        batch_size: questions in a training batch; eval_batch_size in a scoring one; retain_batch_size in a reference one.
        hide_retain: score the retain set, but keep it from the method.
        until_learned: stop after the epoch in which this share of the unknown inject items is right.
        budget: lose at most this share of what was known; None: whatever is lost is lost.
        budget_every: optimizer steps between the guard's looks; None: as many as keep them cheap.
        blend: whether the guard may, as a last resort, go back on the straight line to the start; None: under a budget it may.
        seed: of the data order and all else that is random.
        scorer, template: how questions are scored, and worded in training and scoring alike.
        checkpoint_every: optimizer steps between checkpoints; None means after every epoch.
        limit: read only so many rows of each file.
        device, dtype: as in `forgetless.data.placement.place`.
        watch: after every epoch tell KL to the start, movement by layer and the circuits' stability (`forgetless.analysis.watch.Watch`).
        watch_steps: also tell, step by step, the predicted and the real change of the retain loss.
        tensorboard: write the metrics as TensorBoard events too.

    Raises:
        InputError: a value is out of range or a name unknown.
    """

    model: str
    files: dict[str, str]
    method: tuple[str, ...] = ("auto",)
    method_args: dict[str, dict[str, Any]] = field(default_factory=dict)
    optimizer: str = "adamw"
    lr: float = RECIPE_RATE
    weight_decay: float | None = None
    epochs: int = 10
    max_steps: int | None = None
    max_seconds: float | None = None
    batch_size: int = 8
    eval_batch_size: int = 32
    retain_batch_size: int = 16
    hide_retain: bool = False
    until_learned: float | None = None
    budget: float | None = None
    budget_every: int | None = None
    blend: bool | None = None
    seed: int = 0
    scorer: str = "exact"
    template: str | None = None
    checkpoint_every: int | None = None
    limit: int | None = None
    device: str = "auto"
    dtype: str = "float32"
    watch: bool = False
    watch_steps: bool = False
    tensorboard: bool = False

    def __post_init__(self) -> None:
        options.number("--lr", self.lr, above=True)
        if self.weight_decay is not None:
            options.number("--weight-decay", self.weight_decay)
        for name in ("epochs", "batch_size", "eval_batch_size", "retain_batch_size"):
            options.whole(f"--{name.replace('_', '-')}", getattr(self, name))
        options.count("--checkpoint-every", self.checkpoint_every)
        options.count("--max-steps", self.max_steps)
        if self.max_seconds is not None:
            options.number("--max-seconds", self.max_seconds, above=True)
        if self.until_learned is not None:
            options.number("--until-learned", self.until_learned, above=True, high=1.0)
        if self.budget is not None:
            options.number("--budget", self.budget, below=1.0)
        elif self.budget_every is not None or self.blend:
            where = "--blend" if self.blend else "--budget-every"
            raise InputError("there is no budget", where=where, mend="Give --budget too; to blend without one use --method wise")
        options.count("--budget-every", self.budget_every)
        options.choice("--optimizer", self.optimizer, OPTIMIZERS)
        options.whole("--seed", self.seed, 0, 2**63 - 1)
        check_scorer(self.scorer)
        check_template(self.template)
        check_placement(self.device, self.dtype)
        if self.scorer == "perplexity":
            raise InputError(
                "perplexity has no right and wrong to learn or forget",
                where="scorer",
                mend="Train with exact, letter, likelihood or generate",
            )
        for name in self.files:
            if name in ("", ".", "..", BUDGET_PROBE) or "/" in name:
                raise options.refused("--probe", name, f"a name without a slash, and not {BUDGET_PROBE}")

    def shown(self, splits: Mapping[str, list[Question]]) -> list[Question]:
        """Those of the retain set that the method may look at."""
        return [] if self.hide_retain else splits.get(RETAIN, [])

    def planned(self, batches: int) -> int | None:
        """The most optimizer steps of the run, with so many batches in an epoch; None where the clock decides."""
        steps = self.epochs * batches
        return None if self.max_seconds is not None else steps if self.max_steps is None else min(steps, self.max_steps)


def parse_method_args(pairs: Sequence[str], methods: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Turn ``["cpl.refresh=epoch"]`` into ``{"cpl": {"refresh": "epoch"}}``; values are read as YAML scalars.

    Raises:
        InputError: a pair is not of that form, or names a method that is not in use.
    """
    found: dict[str, dict[str, Any]] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        method, dot, option = key.partition(".")
        if not (equals and dot and method and option):
            raise InputError(f"{pair!r} is not METHOD.OPTION=VALUE", where="--method-arg", mend="Write for example cpl.refresh=epoch")
        if method not in methods:
            raise InputError(
                f"{method!r} is not among the methods in use ({', '.join(methods)})", where="--method-arg", mend="Add it to --method"
            )
        try:
            value = yaml.safe_load(text)
        except (yaml.YAMLError, RecursionError) as error:
            raise InputError(
                f"the value of {key} cannot be read", where="--method-arg", mend="Give a number, a word, true or false"
            ) from error
        found.setdefault(method, {})[option] = as_number(value)
    return found


def default_rate(names: Sequence[str], other: float = RATE) -> float:
    """The learning rate of a language model's training for which none is given: the recipe wants one of its own."""
    return RECIPE_RATE if {"auto", "null-space"} & set(names) else other


def check_methods(names: Sequence[str], known: Mapping[str, type[Method]]) -> None:
    """Raise `InputError` where a name is none of ``known``, or there is none."""
    if not names:
        raise InputError("no method is named", where="--method", mend="Name one, such as auto or none")
    for name in names:
        if name not in known:
            mend = f"Choose among {', '.join(known)} (forgetless methods tells more)"
            raise InputError(f"unknown method {name!r}", where="--method", mend=mend)


def build_method(names: Sequence[str], options: Mapping[str, Mapping[str, Any]], known: Mapping[str, type[Method]]) -> Method:
    """Make the method, or the chain of methods, that the names say.

    Raises:
        InputError: a name or an option is unknown, or an option's value is refused.
    """
    check_methods(names, known)
    made = []
    for name in names:
        own = dict(options.get(name, {}))
        allowed = [p.name for p in inspect.signature(known[name]).parameters.values() if p.kind is p.KEYWORD_ONLY]
        for option in own:
            if option not in allowed:
                mend = f"Its options are {', '.join(allowed)}" if allowed else "It has no options"
                raise InputError(f"unknown argument {option!r} of method {name!r}", where="--method-arg", mend=mend)
        try:
            made.append(known[name](**own))
        except InputError:
            raise
        except (TypeError, ValueError) as error:
            raise InputError(str(error), where=f"method {name}", mend="See forgetless methods") from error
    return made[0] if len(made) == 1 else Chain(*made)


def as_number(value: Any) -> Any:
    """YAML reads 1e-3, and nan, as text; people mean a number. Anything else is given back as it is."""
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value
