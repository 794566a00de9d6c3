"""The search for a strength: short trials of the run that is about to begin, each taken back bit for bit."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sized
from itertools import chain, islice, repeat
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from forgetless.core import options
from forgetless.core.climb import climb
from forgetless.core.gradients import borrowed_grads, quiet
from forgetless.core.importance import draw
from forgetless.core.level import NOTHING, Level, level
from forgetless.core.method import Chain, overrides
from forgetless.core.predictions import to
from forgetless.core.rewind import Saved
from forgetless.core.strength import Adjustable, automatic, nothing_to_measure
from forgetless.errors import InputError

if TYPE_CHECKING:
    from forgetless.core.session import Session

TRIALS = 7
"""The most trials for one strength, the one without protection among them."""
LEAST_STEPS, MOST_STEPS = 2, 200
"""Optimizer steps of a trial: in the first one a penalty does nothing yet."""
PROBE = 256
"""The most examples, of old ones and of new ones, that a trial is measured on."""
NEAR = 0.005
"""Accuracies this near to the best count as equal: a trial is shorter than the run, so it shows less forgetting."""
GIVEN_UP = 0.05
"""But not where a larger part than this of what plain training learns in a trial would be given up."""
STALLED = 0.8
"""A trial that lowers the loss on the new examples by a smaller part than this of what plain training does is no choice, however much
it keeps."""


class Plan(NamedTuple):
    """What the trials are.

    Attributes:
        trials: how many there are at most, or their numbers.
        steps: optimizer steps of each.
        examples: how many old ones, and as many new, each is measured on.
    """

    trials: int | tuple[float, ...]
    steps: int
    examples: int


def search(session: Session) -> None:
    """Find the number of every `Adjustable` of the session's method that is to be found, one after another along the chain.

    Called as a task begins. In each trial the optimizer takes some steps on the task's first batches, with the whole chain at work
    (a number that is yet to be found counts as 0); then the model is measured on old examples (``task.probe``, else
    ``task.retain``) and on new ones out of those batches. The score is the mean accuracy over tasks,

        (tasks * old + new) / (tasks + 1),   tasks = max(1, task.index),

    where accuracy is the mean of the share of right rows and of the probability of the right labels. Weights, buffers, optimizer,
    gradients, random numbers and the method's state are then put back, bit for bit.

    The first trial is without protection. How much it lowers the loss, over how much the penalty of strength 1 rises on its way, is
    the scale on which the others lie: powers of ten of that number, climbed from 1 on in steps of 100 and then of 10 about the best.
    Chosen is the strongest whose score is within `NEAR` of the best, of those that lower the new examples' loss at least four
    fifths as much as plain training does; of replay's ratios, which cost time, the smallest near the best. Methods whose numbers have
    a scale of their own try `Adjustable.numbers` instead.

    The trials of all numbers together pass at most as many examples through the model, forward and backward alike, as the run itself:
    ``task.steps`` optimizer steps, or one pass over ``task.train`` where that is not known. What other methods of a chain do
    in each step comes along in trials as in the run. A trial takes at most `MOST_STEPS` steps.

    Raises:
        InputError: there is nothing to measure what is kept on; the run is too short for a search.
    """
    parts = [part for part in automatic(session.method) if part.protects(session.ctx)]
    for part in parts:
        part.found = None
    for part in parts:
        _Search(session, part, len(parts)).run()


class _Search:
    def __init__(self, session: Session, part: Adjustable, among: int) -> None:
        self.session, self.ctx, self.part = session, session.ctx, part
        self.trials: dict[float, tuple[Level, Level]] = {}
        self.gained = self.rise = 0.0  # of the loss by plain training, and of the penalty on its way
        task = self.ctx.task
        self.old_source = task.probe if task.probe is not None else task.retain
        if self.old_source is None:
            raise nothing_to_measure(part.label, task.name)
        self.tasks = max(1, task.index)
        self.saved = Saved(session.ctx, session.method)
        first = next(iter(task.train), None)
        if first is None:
            raise InputError("it gives no batch", where="task.train", mend="Give batches that can be walked again (a list, a DataLoader)")
        self.saved.put_back()
        self.batch = max(1, task.predictions.size(first))
        self.plan = self._plan(task.steps, among)

    def _plan(self, steps: int | None, among: int) -> Plan:
        task, each = self.ctx.task, options.whole("task.accumulation", self.ctx.task.accumulation) * self.batch
        if steps is None:
            if not isinstance(task.train, Sized):
                raise InputError("neither its length nor the steps are known", where="task.train", mend="Give Task(..., steps=...)")
            batches = len(task.train)
            steps = -(-batches // task.accumulation)
        room = steps * each // among  # examples that may pass
        grid, plain = self.part.numbers(self.ctx), () if self.part.costs else (0.0,)
        method = self.session.method
        chained = method.methods if isinstance(method, Chain) else (method,)
        # a loss may ask the model once more where training gives it the outputs
        asking = any(overrides(one, "loss") and not (isinstance(one, Adjustable) and one.costs) for one in chained)
        for trials in ((*plain, *grid), (*plain, *grid[::2])) if grid else (TRIALS, 5, 4, 3):
            counted = (1.0,) * trials if isinstance(trials, int) else trials
            weights = [1.0 + number if self.part.costs else 1.0 for number in counted]  # what is replayed passes as well
            measured = 2 * (len(weights) + 1)
            if asking:
                weights, measured = [1.5 * weight for weight in weights], measured + 6
            examples = min(PROBE, room // 4 // measured)
            taken = int((room - measured * examples) / (sum(weights) * each))
            if examples >= 1 and taken >= (LEAST_STEPS if trials in (3, (*plain, *grid[::2])) else 8):
                return Plan(trials, min(taken, MOST_STEPS), examples)
        raise InputError(
            f"{steps} optimizer steps are too few for a search that costs no more than they do",
            where=self.part.label,
            mend="Give a number, or Task(..., steps=...) where training is longer than one pass",
        )

    def run(self) -> None:
        """Find the number and put it into the part."""
        ctx, plan = self.ctx, self.plan
        with borrowed_grads(ctx):
            self.old = self._drawn(self.old_source)
            self.new = self._drawn(chain.from_iterable(repeat(ctx.task.train, self._passes())), plan.steps * ctx.task.accumulation)
            self.saved.put_back()
            start = (level(ctx, self.old), level(ctx, self.new))
            if not math.isfinite(start[1].loss):
                raise InputError(f"the loss is {start[1].loss} before training", where=self.part.label, mend="Check the model and the data")
            self.start = start
            unit, chosen = self._climbed(plan.trials) if isinstance(plan.trials, int) else (1.0, self._listed(plan.trials))
        self.part.found = chosen
        self.part.searched = {
            "chosen": chosen,
            "steps": plan.steps,
            "examples": plan.examples,
            "unit": unit,
            "before": _told(start),
            "trials": [
                {"value": value, "score": _plain(_mean(levels, self.tasks))} | _told(levels) for value, levels in self.trials.items()
            ],
        }

    def _climbed(self, trials: int) -> tuple[float, float]:
        """The scale, and the strength chosen on it."""
        plain = self._score(0.0)
        unit = self.gained / self.rise if self.rise else 0.0
        unit = unit if math.isfinite(unit) and unit > 0 else 1.0  # where plain training gains nothing, or its way costs nothing
        near = self._near()
        powers = climb(lambda power: self._score(unit * 10.0**power), trials - 1, near)
        return unit, self._chosen({unit * 10.0**power: score for power, score in powers.items()}, plain, near)

    def _listed(self, numbers: tuple[float, ...]) -> float:
        """The number chosen among some; 0 is there to compare with."""
        scores = {number: self._score(number) for number in numbers}
        plain = scores.pop(0.0, -math.inf)
        return self._chosen(scores, plain, self._near())

    def _near(self) -> float:
        """What counts as equal to the best score."""
        if 0.0 not in self.trials:
            return NEAR
        learned = max(0.0, self.trials[0.0][1].score - self.start[1].score) / (self.tasks + 1)
        return min(NEAR, GIVEN_UP * learned)

    def _chosen(self, scores: dict[float, float], plain: float, near: float) -> float:
        """Of the numbers near the best the strongest, or the one that costs least; the weakest where none is near or all stall."""
        finite = [number for number in scores if math.isfinite(_mean(self.trials[number], self.tasks))]
        if not finite:
            raise InputError("training diverges at every strength tried", where=self.part.label, mend="Lower the learning rate")
        best = max(plain, *scores.values())
        near_best = [number for number in scores if scores[number] > -math.inf and scores[number] >= best - near]
        if not near_best:
            return min(finite)
        return min(near_best) if self.part.costs else max(near_best)

    def _score(self, value: float) -> float:
        """The score of a trial with this number; negative infinity where it diverged, or stalled."""
        self.trials[value] = levels = self._trial(value)
        gained = self.start[1].loss - levels[1].loss
        if value == 0.0:
            self.gained = gained
        elif not self.part.costs and not gained >= self.gained * (STALLED if self.gained > 0 else 1.0) - 1e-6:
            return -math.inf
        found = _mean(levels, self.tasks)
        return found if math.isfinite(found) else -math.inf

    def _trial(self, value: float) -> tuple[Level, Level]:
        """Take the steps with the number ``value``, measure, take them back."""
        ctx, session = self.ctx, self.session
        trial = type(session)(
            session.method,
            session._called,
            ctx.optimizer,
            ctx.task,
            ctx.loss_fn,
            chunk_bytes=session.chunk_bytes,
            group="alone",
            in_backward=session._in_backward,
        ).start(begun=True)
        self.part.found = value
        for group in ctx.optimizer.param_groups:
            group["lr"] = group.get("initial_lr", group["lr"])  # not where a warm-up begins
        if not ctx.model.training:
            ctx.model.train()
        try:
            finite = self._steps(trial)
        finally:
            trial.close(finished=False)
        levels = level(ctx, self.old), level(ctx, self.new)
        if value == 0.0:
            self.rise = self._cost() if finite else 0.0
            self.saved.put_back()
            self.rise -= self._cost() if self.rise else 0.0
        self.saved.put_back()
        ctx.metrics = {}
        return levels if finite else (NOTHING, NOTHING)

    def _steps(self, trial: Session) -> bool:
        """Take the optimizer steps; False where a loss was not finite."""
        ctx, task, epoch = trial.ctx, trial.ctx.task, -1
        walk: Iterator[Any] = iter(())
        for _ in range(self.plan.steps):
            for _ in range(task.accumulation):
                batch = next(walk, None)
                if batch is None:
                    walk, epoch = iter(task.train), epoch + 1
                    trial.begin_epoch(epoch)
                    batch = next(walk)
                batch = to(batch, self._device)
                loss = trial.total(ctx.loss_fn(ctx.model, batch), batch)
                if not torch.isfinite(loss.detach()):
                    return False
                (loss / task.accumulation).backward()  # type: ignore[no-untyped-call]  # torch leaves backward untyped
            ctx.optimizer.step()
            ctx.optimizer.zero_grad()
        return True

    @property
    def _device(self) -> torch.device:
        return next(iter(self.ctx.parameters.values())).device

    def _passes(self) -> int:
        return self.plan.steps * self.ctx.task.accumulation + 1

    def _drawn(self, batches: Any, limit: int | None = None) -> list[Any]:
        """Some examples, of all or of the first batches, in batches of the training's size."""
        generator = torch.Generator().manual_seed(0)
        found = list(draw(self.ctx, islice(batches, limit), self.plan.examples, generator))
        if not found:
            raise InputError("it gives no batch", where="task.probe or task.retain", mend="Give batches of old data")
        collate = self.ctx.task.predictions.collate
        return [collate(found[start : start + self.batch]) for start in range(0, len(found), self.batch)]

    def _cost(self) -> float:
        """What the part adds to the loss at strength 1, at the present weights."""
        part, ctx, kept = self.part, self.ctx, self.part.found
        part.found = 1.0
        try:
            with quiet(ctx.model), torch.no_grad():
                if overrides(part, "penalty"):
                    found = part.penalty(ctx)
                    return 0.0 if found is None else float(found)
                terms = [part.loss(ctx, batch, None) for batch in self.new]
            return sum(float(term) for term in terms if term is not None) / len(terms)
        finally:
            part.found = kept


def _mean(levels: tuple[Level, Level], tasks: int) -> float:
    """The mean score over tasks: so many earlier ones, and the new one."""
    return (tasks * levels[0].score + levels[1].score) / (tasks + 1)


def _told(levels: tuple[Level, Level]) -> dict[str, float | None]:
    return {"old": _plain(levels[0].accuracy), "new": _plain(levels[1].accuracy), "loss": _plain(levels[1].loss)}


def _plain(value: float) -> float | None:
    return value if math.isfinite(value) else None
