"""The guard of a budget: it looks at its probe while a session trains, acts, and leaves weights that keep the budget on the probe."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from forgetless.core.method import State
from forgetless.core.session import Session
from forgetless.data.model import Language
from forgetless.data.question import Question
from forgetless.guard.blend import Weights, farthest, nearest, put, stand, trained
from forgetless.guard.budget import Budget, due
from forgetless.guard.evidence import needed
from forgetless.guard.point import Point, scale_rates
from forgetless.guard.policy import FACTOR, LOWER, MOST_LOWERED, MOST_ROLLBACKS, RAISE, ROLL_BACK, STOP, TIGHTEN, Act, Look
from forgetless.guard.watching import Tell, Watching
from forgetless.ops.interpolation import BISECTIONS

HALVINGS = 3
"""Trials on the line to the last good point, or to the start: so the share of the way is found to an eighth."""


class Guard(Watching):
    """Watches one training.

    Args:
        budget: what is promised.
        language: the model in training, for looks.
        probe: the questions to look at; those right at the start count.
        every: optimizer steps between looks.
        tell: given every line of ``budget.jsonl``.
        agreed: of several processes gives all of them what the first one has.
        went_back: called after the weights went back to an earlier point.
        ramp: come to the full rate in so many equal steps: Adam's first ones, whose moments know one batch, move all weights by all of it.

    Attributes:
        policy: what it made of the looks so far.
        last: the last look.
        blend: the share of the way from the start at which training ended, where it had to go back on that line.
        acts: how many there were.
        seconds: spent on looks and acts.

    Raises:
        InputError: the model knows nothing of the probe (from `begin`).
    """

    def __init__(
        self,
        budget: Budget,
        language: Language,
        probe: Sequence[Question],
        *,
        every: int,
        tell: Tell,
        agreed: Callable[[Any], Any],
        went_back: Callable[[], None] = lambda: None,
        ramp: int = 1,
    ) -> None:
        super().__init__(budget, language, probe, tell=tell, agreed=agreed)
        self.every, self.ramp, self._went_back = every, ramp, went_back
        self.blend: float | None = None
        self._point, self._level = Point(), 0  # the last good look, and how often the method had been tightened by then
        self._tightened = 0
        self._origin: Weights = {}

    def remember(self, model: Any, earlier: Guard | None = None) -> None:
        """Keep the weights to blend with: call it with the model as training begins, before a checkpoint is loaded.

        Where they are still those that ``earlier`` keeps, the two share one copy.
        """
        if self.budget.blend:
            self._origin = earlier._origin if earlier is not None and stand(model, earlier._origin) else trained(model)

    def begin(self, session: Session) -> None:
        """Find out what is known, unless a saved state told that; before the first step."""
        began = time.perf_counter()
        if not self._start:
            self._measure_start()
            self._take(session)
            scale_rates(session.ctx.optimizer, 1 / self.ramp)
            line = {"kind": "start", "step": session.ctx.step, "allowed": self.budget.allowed, "probe": len(self._start)}
            self._tell(line | {"every": self.every, "items_needed": needed(self.budget.allowed)})
        self.seconds += time.perf_counter() - began

    @property
    def safe(self) -> bool:
        """Whether training may end with what the last look found (`Policy.safe`); true before the first one."""
        return self.last is None or self.policy.safe(self.last)

    @property
    def stopped(self) -> bool:
        """Whether the guard has ended the training."""
        return self.policy.stopped

    def step(self, session: Session, scheduler: Any = None) -> bool:
        """After an optimizer step: look if it is time to, and act. Returns whether it looked."""
        done = session.ctx.step
        if done < self.ramp:
            scale_rates(session.ctx.optimizer, (done + 1) / done, scheduler)
        if self.stopped or not due(done, self.every):
            return False
        began = time.perf_counter()
        look = self._look(session.ctx.step)
        acts = self.policy.judge(look)
        if self.policy.good(look):
            self._take(session)
        took = time.perf_counter() - began
        self._told(look, took)
        for act in acts:
            self._do(act, session, scheduler, lowers=any(other.name == LOWER for other in acts))
        self.seconds += time.perf_counter() - began
        return True

    def settle(self, session: Session, enough: Callable[[], bool], scheduler: Any = None, *, more: bool = True) -> bool:
        """Enough is learned. Where a look finds anything lost: give back, on the line to the start, what enough does not need.

        If what is left is safe to end with (`Policy.safe`), training may end there. Else the guard is more careful from here on, and
        goes back on that line to where it is safe: from there, if ``more`` training follows, the rest is learned again with all that
        protects at work.

        Returns:
            Whether weights were changed.
        """
        began, model, look = time.perf_counter(), session.ctx.model, self._fresh(session.ctx.step)
        alpha = 1.0
        if self._origin and look.lost > (0, 0.0):
            alpha, end = nearest(model, self._origin, lambda: bool(self._agreed(enough())), HALVINGS)
            left = look if alpha == 1.0 else self._look(look.step)
            if alpha < 1.0 and self.policy.safe(left) and (left.lost <= look.lost or not self.policy.safe(look)):
                self._take(session)
                self.blend = alpha
                reason = f"enough is learned there; {look.forgotten} of {look.total} forgotten before, {left.forgotten} after"
                self._act("blend", reason, f"{alpha:.3g} of the way from the start", look.step)
            else:
                put(model, self._origin, end, 1.0)
                self.last, alpha = look, 1.0
        if alpha == 1.0 and not self.policy.safe(look):
            for act in self.policy.unsafe(look):
                self._do(act, session, scheduler, lowers=False)
            if more and self._origin and self.policy.rollbacks < MOST_ROLLBACKS:
                alpha, end = farthest(model, self._origin, lambda: self.policy.safe(self._look(look.step)), HALVINGS)
                if alpha:
                    self.policy.rollbacks += 1
                    self._look(look.step)
                    self._take(session)
                    self._went_back()
                    reason = f"with {look.forgotten} of {look.total} forgotten it is not safe to end; learn the rest again from where it is"
                    self._act(ROLL_BACK, reason, f"to {alpha:.3g} of the way from the start", look.step)
                else:
                    put(model, self._origin, end, 1.0)
                    self.last, alpha = look, 1.0
        self.seconds += time.perf_counter() - began
        return alpha < 1.0

    def end(self, session: Session, learned: Callable[[], float]) -> None:
        """After the last step: leave weights that keep the budget on the probe safely (`Policy.safe`).

        Where those that stand do not, take the ones that learned more: of the last good look, or (with ``blend``) of the largest step
        on the line from the start that does.

        Args:
            session: still open.
            learned: how much is learned with the weights that stand: the more the better.
        """
        began = time.perf_counter()
        look = self._fresh(session.ctx.step)
        if not self.policy.safe(look):
            if self.policy.good(look):
                self._take(session)  # nothing earlier is better
            self._last_resort(session, learned, look)
        self.seconds += time.perf_counter() - began

    def _last_resort(self, session: Session, learned: Callable[[], float], bad: Look) -> None:
        model, reason = session.ctx.model, f"training ends with {bad.forgotten} of {bad.total} forgotten"
        if bad.expected is not None:
            reason += f" and {bad.expected:.3g} expected by the margins"
        if self._origin:
            alpha, end = farthest(model, self._origin, lambda: self.policy.safe(self._look(bad.step)), BISECTIONS)
            blended = self._agreed(learned())
            self._put_back(session)
            if alpha and blended > self._agreed(learned()):
                put(model, self._origin, end, alpha)
                self.blend = alpha
                self._act("blend", reason, f"{alpha:.3g} of the way from the start", bad.step)
            else:
                self._told_back(reason, bad)
        else:
            self._put_back(session)
            self._told_back(reason, bad)
        self.last = self._look(bad.step)

    def _told_back(self, reason: str, bad: Look) -> None:
        if self._point.step != bad.step:
            self._act(ROLL_BACK, reason, f"to step {self._point.step}", bad.step)

    def _do(self, act: Act, session: Session, scheduler: Any, *, lowers: bool) -> None:
        """Do one act. ``lowers``: the rate is lowered in any case, so that need not stand in for tightening."""
        optimizer, step = session.ctx.optimizer, session.ctx.step
        what = ""
        if act.name == TIGHTEN:
            self._tightened += 1
            what = session.method.tighten(session.ctx, FACTOR)
            if not what and lowers:
                return
            if not what and self.policy.lowered < MOST_LOWERED:
                self.policy.lowered += 1
                act = Act(LOWER, f"{act.reason}; the method has nothing to tighten")
        if act.name in (LOWER, RAISE):
            scale_rates(optimizer, 1 / FACTOR if act.name == LOWER else FACTOR, scheduler)
            what = f"to {optimizer.param_groups[0]['lr']:.3g}"
        if act.name == ROLL_BACK:
            what = self._go_back(session)
        if act.name == STOP:
            what = f"with the weights of step {self._point.step}"
        self._act(act.name, act.reason, what, step)

    def _take(self, session: Session) -> None:
        self._point.take(session.ctx.step, session.ctx.model, session.ctx.optimizer, session.method)
        self._level = self._tightened

    def _go_back(self, session: Session) -> str:
        """Towards the last good look, no farther than the budget asks (without ``blend``: all the way). Returns how far."""
        ctx, bad, since = session.ctx, self.last, self._point.step
        alpha = 0.0
        if self.budget.blend:
            alpha, _ = farthest(ctx.model, self._point.weights, lambda: self.policy.good(self._look(ctx.step)), HALVINGS)
        if not alpha:
            self.last = bad
            self._put_back(session)
            return f"to step {since}"
        self._look(ctx.step)
        self._take(session)
        self._went_back()
        return f"to {alpha:.3g} of the way from step {since}"

    def _put_back(self, session: Session) -> None:
        """Back to the last good look; what has been tightened since stays so."""
        ctx = session.ctx
        self._point.put_back(ctx.model, ctx.optimizer, session.method, warm=True)
        for _ in range(self._tightened - self._level):
            session.method.tighten(ctx, FACTOR)
        self._went_back()

    def state_dict(self) -> State:
        """All that a resumed training needs: tensors and plain values. What was tightened is in the method's own state."""
        return {
            "policy": self.policy.state_dict(),
            "last": None if self.last is None else asdict(self.last),
            "blend": self.blend,
            "acts": self.acts,
            "seconds": self.seconds,
            "start": self._start,
            "known": [question.id for question in self._probe],
            "point": self._point.state_dict(),
            "level": self._level,
            "tightened": self._tightened,
        }

    def load_state_dict(self, state: State) -> None:
        """Take up what `state_dict` gave; before `begin`."""
        self.policy.load_state_dict(state["policy"])
        self.last = None if state["last"] is None else Look(**state["last"])
        self.blend, self.acts, self.seconds, self._start = state["blend"], state["acts"], state["seconds"], state["start"]
        known = set(state["known"])
        self._probe = [question for question in self._probe if question.id in known]
        self._point.load_state_dict(state["point"])
        self._level, self._tightened = state["level"], state["tightened"]
