"""The cells of a plan: every data set × method × trial × seed is one training."""

from __future__ import annotations

import hashlib
import itertools
import json
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from forgetless.comparison.plan import Contender, Plan
from forgetless.core.method import Method
from forgetless.errors import InputError
from forgetless.train.settings import OPTIMIZERS, Settings, build_method, check_methods

MANY_EPOCHS = 10**6
"""Where steps or seconds are the budget, epochs are not."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One training of the comparison.

    Attributes:
        id: names its folder; decided by what is trained, not by its place in the plan.
        data: the data set.
        label, method: of the contender.
        options: by method.
        optimizer, lr, seed: of the training.
        trial: the number of its combination of options, optimizer and rate among those of its label.
        old_data: whether the method may look at the retain set, which is scored in any case.
    """

    id: str
    data: str
    label: str
    method: tuple[str, ...]
    options: dict[str, dict[str, Any]]
    optimizer: str
    lr: float
    trial: int
    seed: int
    old_data: bool = True

    def told(self) -> dict[str, Any]:
        """The first keys of its row in ``results.jsonl``."""
        own = asdict(self)
        if self.old_data:
            del own["old_data"]
        first = {"cell": own.pop("id"), "data": own.pop("data"), "label": own.pop("label"), "method": ",".join(own.pop("method"))}
        return first | own


def cells_of(plan: Plan, known: Mapping[str, type[Method]]) -> list[Cell]:
    """All cells, in the plan's order. Every method gets the same number of trials.

    Where ``trials`` is given, so many are drawn from each method's own grid, by a generator whose seed is fixed.

    Raises:
        InputError: a method, option or optimizer is unknown, or methods have different numbers of trials.
    """
    grids, methods = {}, plan.told(["methods"], "methods")
    _check_optimizers(plan.optimizers, plan.told(["optimizers"], "optimizers"))
    for place, one in enumerate(plan.methods):
        where = plan.told(["methods", place], f"methods, {one.title}")
        try:
            _check_optimizers(one.optimizers or (), where)
            grids[one.title] = _grid(one, plan, known)
        except InputError as error:
            raise InputError(error.what, where=where, mend=error.mend) from error
    if plan.trials is None:
        sizes = {label: len(grid) for label, grid in grids.items()}
        if len(set(sizes.values())) > 1:
            told = ", ".join(f"{label} {size}" for label, size in sizes.items())
            what = f"methods have different numbers of trials ({told}), so the one with more would be tuned better"
            mend = f"Give each as many options × optimizers × rates, or trials: {min(sizes.values())}"
            raise InputError(what, where=methods, mend=mend)
    else:
        for label, grid in grids.items():
            if len(grid) < plan.trials:
                what = f"{label} has only {len(grid)} combinations of options, optimizers and rates"
                mend = f"Give it more, or trials: {min(map(len, grids.values()))}"
                raise InputError(what, where=plan.told(["trials"], "trials"), mend=mend)
            chosen = sorted(random.Random(f"{label} {plan.trials}").sample(range(len(grid)), plan.trials))
            grids[label] = [grid[index] for index in chosen]
    found = [
        Cell(
            _identity(data, one, options, optimizer, lr, seed),
            data,
            one.title,
            one.names,
            options,
            optimizer,
            lr,
            trial,
            seed,
            one.old_data,
        )
        for data in plan.data
        for one in plan.methods
        for trial, (options, optimizer, lr) in enumerate(grids[one.title])
        for seed in plan.seeds
    ]
    twice = next((cell.id for index, cell in enumerate(found) if cell.id in {other.id for other in found[:index]}), None)
    if twice is not None:
        raise InputError(f"two cells are the same ({twice})", where=methods, mend="Give every value of an option once")
    return found


Trial = tuple[dict[str, dict[str, Any]], str, float]


def _grid(one: Contender, plan: Plan, known: Mapping[str, type[Method]]) -> list[Trial]:
    """Options × optimizers × rates of a contender, each checked by making the method."""
    if not one.names:
        raise InputError(f"{one.method!r} names no method", mend="Name one, such as cpl or none")
    check_methods(one.names, known)
    keys = list(one.options)
    choices = [value if isinstance(value, list) else [value] for value in one.options.values()]
    for key, values in zip(keys, choices, strict=True):
        if not values or any(value in values[:index] for index, value in enumerate(values)):
            raise InputError(f"the option {key!r} has no value to try, or one twice", mend="Give each value once")
    found: list[Trial] = []
    for combination in itertools.product(*choices):
        options: dict[str, dict[str, Any]] = {}
        for key, value in zip(keys, combination, strict=True):
            name, option = _place(key, one)
            options.setdefault(name, {})[option] = value
        build_method(one.names, options, known)
        found += [(options, optimizer, lr) for optimizer in one.optimizers or plan.optimizers for lr in one.rates or plan.rates or []]
    return found


def _check_optimizers(names: Sequence[str], where: str) -> None:
    for name in names:
        if name not in OPTIMIZERS:
            raise InputError(f"unknown optimizer {name!r}", where=where, mend=f"Choose among {', '.join(OPTIMIZERS)}")


def _place(key: str, one: Contender) -> tuple[str, str]:
    """Of which method of a contender ``key`` is an option, and of what name."""
    name, dot, option = key.partition(".")
    if not dot and len(one.names) == 1:
        return one.names[0], key
    if not dot or name not in one.names:
        mend = f"Write METHOD.OPTION with one of {', '.join(one.names)}"
        raise InputError(f"it is not said of which method {key!r} is an option", mend=mend)
    return name, option


def _identity(data: str, one: Contender, options: Mapping[str, Any], optimizer: str, lr: float, seed: int) -> str:
    whole = json.dumps([data, one.title, one.names, options, optimizer, lr, *(() if one.old_data else (False,))], sort_keys=True)
    words = [re.sub(r"[^a-z0-9.+]+", "-", word.lower()).strip("-.")[:24] for word in (data, one.title, optimizer)]
    return "_".join([*(word for word in words if word), f"{lr:g}", hashlib.sha256(whole.encode()).hexdigest()[:8], f"s{seed}"])


def settings_of(cell: Cell, plan: Plan, files: Mapping[str, str], items: int) -> Settings:
    """The settings of a cell's training, on ``items`` questions to learn.

    Raises:
        InputError: a value is refused.
    """
    budget = plan.budget
    epochs = budget.epochs or MANY_EPOCHS
    if budget.steps is not None:
        epochs = -(-budget.steps // -(-items // plan.batch_size))
    return Settings(
        model=plan.model,
        files=dict(files),
        method=cell.method,
        method_args=cell.options,
        optimizer=cell.optimizer,
        lr=cell.lr,
        weight_decay=plan.weight_decay,
        epochs=epochs,
        max_steps=budget.steps,
        max_seconds=budget.seconds,
        batch_size=plan.batch_size,
        eval_batch_size=plan.eval_batch_size,
        retain_batch_size=plan.retain_batch_size,
        hide_retain=not cell.old_data,
        until_learned=budget.until_learned,
        seed=cell.seed,
        scorer=plan.scorer,
        template=plan.template,
        checkpoint_every=plan.checkpoint_every,
        limit=plan.limit,
        device=plan.device,
        dtype=plan.dtype,
    )
