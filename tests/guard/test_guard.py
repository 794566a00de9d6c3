"""The guard at work in a session on a tiny model: points to go back to, reserves that wait, the line to the start."""

import contextlib
import copy

import pytest
import torch

from forgetless.core.context import Context
from forgetless.core.method import Chain
from forgetless.core.session import attach
from forgetless.core.task import Task
from forgetless.guard.blend import put, trained
from forgetless.guard.budget import Budget
from forgetless.guard.guard import Guard
from forgetless.guard.look import Standing
from forgetless.guard.point import Point, scale_rates
from forgetless.guard.policy import MOST_ROLLBACKS
from forgetless.guard.reserves import REFRESH, WaitingCPL, WaitingReplay, with_reserves
from forgetless.methods.cpl import CPL
from forgetless.methods.plain import Plain
from forgetless.methods.replay import Replay
from forgetless.ops.interpolation import largest
from nets import batches, loss_fn, net, same


def session(method, model=None, retain=True):
    model = net() if model is None else model
    task = Task("t", batches(6, 2), batches(3, 30) if retain else None, steps=12)
    model = method.prepare(model, task)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.01)
    return attach(method, model, optimizer, task, loss_fn)


def step(running, count, start=0):
    ctx = running.ctx
    for number in range(start, start + count):
        batch = ctx.task.train[number % 6]
        out = ctx.model(batch[0])
        running.total(torch.nn.functional.cross_entropy(out, batch[1]), batch, out).backward()
        ctx.optimizer.step()
        ctx.optimizer.zero_grad()


@pytest.mark.parametrize("method", [Plain, lambda: Replay(seed=2), lambda: CPL(refresh=2), lambda: with_reserves(Plain(), 0)])
def test_after_going_back_training_is_what_it_was_from_there(method):
    """With the same batches again: weights, moments and the method's state have all gone back."""
    running, point = session(method()), Point()
    with running:
        step(running, 4)
        ctx = running.ctx
        point.take(4, ctx.model, ctx.optimizer, running.method)
        step(running, 3, 4)
        first = copy.deepcopy(ctx.model)
        point.put_back(ctx.model, ctx.optimizer, running.method)
        ctx.step = 4  # as in a run of its own: here steps would go on
        step(running, 3, 4)
        assert same(first, ctx.model)


def test_a_point_round_trips_and_leaves_the_rate_alone():
    running, point, again = session(Plain()), Point(), Point()
    with running:
        step(running, 2)
        ctx = running.ctx
        point.take(2, ctx.model, ctx.optimizer, running.method)
        kept = copy.deepcopy(ctx.model)
        again.load_state_dict(copy.deepcopy(point.state_dict()))
        step(running, 2)
        scale_rates(ctx.optimizer, 0.5)
        again.put_back(ctx.model, ctx.optimizer, running.method)
        assert same(kept, ctx.model)
        assert again.step == 2
        assert ctx.optimizer.param_groups[0]["lr"] == 0.005


def test_the_scheduler_goes_on_from_the_scaled_rate():
    optimizer = torch.optim.SGD(net().parameters(), lr=1.0)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / 10)
    scale_rates(optimizer, 0.25, scheduler)
    optimizer.step()
    scheduler.step()
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.25 * 0.9)


def test_reserves_change_nothing_while_they_wait():
    plain, reserved = session(Plain()), session(with_reserves(Plain(), 0))
    for running in (plain, reserved):
        with running:
            step(running, 8)
    assert same(plain.ctx.model, reserved.ctx.model)


def test_tightened_reserves_are_cpl_first_and_then_replay_too():
    woken, cpl = session(with_reserves(Plain(), 0)), session(CPL(refresh=REFRESH, retain_batches=1))
    with woken, cpl:
        assert "cpl" in woken.method.tighten(woken.ctx, 2.0)
        step(woken, 3)
        step(cpl, 3)
        assert same(woken.ctx.model, cpl.ctx.model)
        assert "replay.strength from 0 to 1" in woken.method.tighten(woken.ctx, 2.0)


def test_a_method_that_has_them_gets_no_second_ones():
    assert [type(part) for part in with_reserves(Replay() >> CPL(), 0).methods] == [Replay, CPL]
    assert [type(part) for part in with_reserves(CPL(), 0).methods] == [CPL, WaitingReplay]
    assert [type(part) for part in with_reserves(Replay(), 0).methods] == [Replay, WaitingCPL]


def test_what_was_tightened_is_in_the_state():
    running = session(with_reserves(Plain(), 0))
    with running:
        for _ in range(3):
            running.method.tighten(running.ctx, 2.0)
        state = copy.deepcopy(running.method.state_dict())
    again = with_reserves(Plain(), 0)
    again.load_state_dict(state)
    _, replay, cpl = again.methods
    assert (replay.raised, cpl.awake, cpl.hurried) == (1.0, True, 0)


def test_cpl_is_refreshed_oftener_but_never_at_every_step():
    running = session(CPL())
    with running:
        told = [running.method.tighten(running.ctx, 2.0) for _ in range(3)]
    assert told == ["cpl refreshes every 4 steps", "cpl refreshes every 2 steps", ""]


def test_replay_raises_its_weight_to_one_and_not_its_cost():
    running = session(Replay(strength=0.75))
    with running:
        told = [running.method.tighten(running.ctx, 2.0) for _ in range(2)]
        assert told == ["replay.strength from 0.75 to 1", ""]
        assert running.method.ratio == 1.0
    assert Chain(Plain()).tighten(running.ctx, 2.0) == ""
    assert isinstance(running.ctx, Context)


@pytest.mark.parametrize("alpha", [0.0, 0.25, 1.0])
def test_the_line_to_the_start_is_the_blend_written_out(alpha):
    model = net()
    start = trained(model)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)))
    end = trained(model)
    put(model, start, end, alpha)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.detach(), (1 - alpha) * start[name] + alpha * end[name])
        assert alpha not in (0.0, 1.0) or torch.equal(parameter, (start, end)[int(alpha)][name])


@pytest.mark.parametrize("edge", [0.0, 0.01, 0.3, 0.5, 0.97])
def test_bisection_finds_the_largest_share_to_a_thirty_second(edge):
    asked = []

    def good(alpha):
        asked.append(alpha)
        return alpha <= edge

    found = largest(good)
    assert found <= edge < found + 1 / 32
    assert len(asked) == 5


def test_back_at_the_start_the_weights_are_the_first_ones_and_the_moments_stay():
    running, point = session(Plain()), Point()
    with running:
        ctx = running.ctx
        start = copy.deepcopy(ctx.model)
        point.take(0, ctx.model, ctx.optimizer, running.method)
        step(running, 3)
        moments = copy.deepcopy(ctx.optimizer.state_dict()["state"])
        point.put_back(ctx.model, ctx.optimizer, running.method, warm=True)
        assert same(start, ctx.model)
        now = ctx.optimizer.state_dict()["state"]
        assert all(torch.equal(now[key][name], value) for key, entry in moments.items() for name, value in entry.items())
        point.put_back(ctx.model, ctx.optimizer, running.method)
        assert not ctx.optimizer.state_dict()["state"]


class Far(Guard):
    """A guard whose ten questions turn one after another as the weights move away from where they were."""

    def _ask(self, questions):
        model = self.language
        far = sum(float((p - self._origin[name]).detach().abs().sum()) for name, p in model.named_parameters()) / self.limit
        return Standing([number + 1 > 10 * far for number in range(len(questions))], None)


def far(running, limit):
    told = []
    guard = Far(Budget(0.2), running.ctx.model, [None] * 10, every=3, tell=told.append, agreed=lambda value: value)
    guard.limit = limit
    guard.remember(running.ctx.model)
    guard._start = [True] * 10
    guard._take(running)
    return guard, told


@contextlib.contextmanager
def after_five_steps():
    """A session five steps from its start: itself, its model, the start, its guard and what that told."""
    running = session(Plain())
    with running:
        model, start = running.ctx.model, copy.deepcopy(running.ctx.model)
        guard, told = far(running, 1.0)
        step(running, 5)
        yield running, model, start, guard, told


def test_where_enough_is_learned_it_gives_back_what_that_does_not_need_or_goes_back_to_learn_again():
    with after_five_steps() as (running, model, start, guard, told):
        end = copy.deepcopy(model)
        length = distance(end, start)

        def way(least):
            return lambda: distance(model, start) >= least * length

        guard.limit = 2.2 * length
        assert guard._look(5).forgotten == 4 and not guard.policy.good(guard.last)
        for back, never in enumerate((lambda: False, way(0.3)), 1):  # enough nowhere but at the end; enough only where it is not safe
            rate = running.ctx.optimizer.param_groups[0]["lr"]
            put(model, guard._origin, trained(end), 1.0)
            assert guard._look(5).forgotten == 4
            assert guard.settle(running, never)
            assert guard.blend is None and guard.safe and guard.policy.rollbacks == back, (
                "back to where it is safe, to learn the rest again"
            )
            assert distance(model, start) == pytest.approx(0.125 * length) and guard._point.step == 5
            assert [line["act"] for line in told if line["kind"] == "act"][-2:] == ["lower the rate", "roll back"]
            assert running.ctx.optimizer.param_groups[0]["lr"] == rate / 2
        put(model, guard._origin, trained(end), 1.0)
        guard._look(5)
        assert not guard.settle(running, way(0.3), more=False) and same(model, end), "nothing would learn the rest again"
        guard.policy.rollbacks = MOST_ROLLBACKS
        assert not guard.settle(running, way(0.3)) and same(model, end) and not guard.safe, "it went back often enough"
        assert guard.settle(running, way(0.1))
        assert guard.blend == 0.125 and guard.safe and guard.last.forgotten == 0
        for p, first, last in zip(model.parameters(), start.parameters(), end.parameters(), strict=True):
            torch.testing.assert_close(p, torch.lerp(first, last, 0.125))
        assert told[-1]["act"] == "blend" and guard._point.step == 5


def test_within_the_budget_it_gives_back_too_unless_nothing_is_lost():
    with after_five_steps() as (running, model, start, guard, _):
        length = distance(model, start)
        guard.limit = 9 * length
        assert guard._look(5).forgotten == 1 and guard.policy.good(guard.last) and not guard.safe
        assert guard.settle(running, lambda: distance(model, start) >= 0.45 * length) and guard.blend == 0.5 and guard.last.forgotten == 0
        end = copy.deepcopy(model)
        assert not guard.settle(running, lambda: True) and guard.blend == 0.5 and same(model, end)


@pytest.mark.parametrize("blend", [True, False])
def test_weights_that_keep_the_budget_but_not_safely_stay_where_nothing_safe_learned_more(blend):
    with after_five_steps() as (running, model, start, guard, told):
        end = copy.deepcopy(model)
        guard.limit = 9 * distance(model, start)
        if not blend:
            guard._ask = lambda questions: Standing([number > 0 for number in range(10)], None)
            guard._origin = {}
        guard.end(running, lambda: distance(model, start))
        assert same(model, end) and guard.last.forgotten == 1 and guard.blend is None
        assert not [line for line in told if line["kind"] == "act"]


def distance(model, start):
    return sum(float((p - q).detach().abs().sum()) for p, q in zip(model.parameters(), start.parameters(), strict=True))


def test_it_goes_back_no_farther_than_the_budget_asks():
    running = session(Plain())
    with running:
        start = copy.deepcopy(running.ctx.model)
        guard, _ = far(running, 1.0)
        step(running, 5)
        length = distance(running.ctx.model, start)
        guard.limit = 2 * length
        assert guard._go_back(running) == "to 0.5 of the way from step 0" and guard.policy.good(guard.last)
        guard.limit = 1e-3 * length
        guard._point.take(0, start, torch.optim.AdamW(start.parameters()), running.method)
        assert guard._go_back(running) == "to step 0" and same(running.ctx.model, start)


def test_a_ramp_comes_to_the_full_rate_in_equal_steps_and_goes_on_there_after_a_resume():
    running = session(Plain())
    with running:
        rate = running.ctx.optimizer.param_groups[0]["lr"]
        guard = Far(Budget(0.2), running.ctx.model, [None] * 10, every=50, tell=lambda line: None, agreed=lambda value: value, ramp=4)
        guard.limit = 1e9
        guard.remember(running.ctx.model)
        guard.begin(running)
        seen = []
        for _ in range(6):
            seen.append(running.ctx.optimizer.param_groups[0]["lr"])
            step(running, 1)
            guard.step(running)
        assert seen == pytest.approx([rate / 4, rate / 2, 3 * rate / 4, rate, rate, rate])
        again = Far(Budget(0.2), running.ctx.model, [None] * 10, every=50, tell=lambda line: None, agreed=lambda value: value, ramp=4)
        again._probe, again.limit = [], 1e9
        again._start = [True]
        again.begin(running)
        assert running.ctx.optimizer.param_groups[0]["lr"] == pytest.approx(rate)
