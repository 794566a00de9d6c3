"""strength="auto": what the search chooses, what it costs, and that it leaves no trace but its number."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from forgetless.core import search as searching
from forgetless.core.climb import climb
from forgetless.core.level import level
from forgetless.core.method import Chain
from forgetless.core.session import attach
from forgetless.core.state import load_state, save_state
from forgetless.core.strength import Adjustable
from forgetless.core.task import Task
from forgetless.errors import InputError
from forgetless.methods import METHODS
from nets import batches, loss_fn, net, same

AUTO = {name: {method.option: "auto"} for name, method in METHODS.items() if issubclass(method, Adjustable)}
OTHERS = sorted(name for name in METHODS if name not in AUTO)


def made(name, **more):
    return METHODS[name](**AUTO[name], **more)


def task_of(index=0, steps=24, **more):
    return Task(f"task {index}", batches(6, 2 + index), batches(3, 30), index=index, steps=steps, **more)


def begun(method, model, task, make=lambda parameters: torch.optim.AdamW(parameters, lr=0.01), loss=loss_fn):
    torch.manual_seed(4)
    model = method.prepare(model, task)
    return attach(method, model, make([parameter for parameter in model.parameters() if parameter.requires_grad]), task, loss)


def steps(session, which, parts=1):
    ctx = session.ctx
    for step in which:
        session.begin_epoch(step // 6)
        x, y = ctx.task.train[step % 6]
        for part in zip(x.chunk(parts), y.chunk(parts), strict=True):
            out = ctx.model(part[0])
            (session.total(nn.functional.cross_entropy(out, part[1]), part, out) / parts).backward()
        ctx.optimizer.step()
        ctx.optimizer.zero_grad()


def train(method, model, task, *, parts=1, **more):
    session = begun(method, model, task, **more)
    with session:
        steps(session, range(task.steps), parts)
    return session


def found_in(method):
    parts = method.methods if isinstance(method, Chain) else (method,)
    return [part.found for part in parts if isinstance(part, Adjustable) and part.automatic]


def stream(method, **more):
    """Two tasks; the weights after the second, and the numbers found in it."""
    model = train(method, net(), task_of()).ctx.model
    return train(method, model, task_of(1, **more)).ctx.model, found_in(method)


def given(name, number, **more):
    return METHODS[name](**{METHODS[name].option: number}, **more)


@pytest.mark.parametrize("name", AUTO)
def test_training_goes_on_as_with_the_number_given(name):
    method = made(name)
    model = train(method, net(), task_of()).ctx.model
    (number,) = found_in(method)
    if name == "si":
        assert number is None  # nothing was learned under it yet
        return
    assert number > 0
    assert same(model, train(given(name, number), net(), task_of()).ctx.model)


@pytest.mark.parametrize("other", OTHERS)
def test_a_search_leaves_no_trace_in_any_other_method_of_the_chain(other):
    def chain(first):
        return first >> METHODS[other]() if METHODS[other].owns != "the architecture" else METHODS[other]() >> first

    method = chain(made("l2sp"))
    model = train(method, net(), task_of()).ctx.model
    (number,) = found_in(method)
    assert number > 0
    assert same(model, train(chain(given("l2sp", number)), net(), task_of()).ctx.model)


@pytest.mark.parametrize("name", AUTO)
def test_resuming_does_not_search_again_and_is_bitwise(name, tmp_path):
    method = made(name)
    train(method, net(), task_of())
    before = copy.deepcopy(method.state_dict())
    start = train(METHODS["none"](), net(), task_of()).ctx.model
    whole = train(method, copy.deepcopy(start), task_of(1))
    again = made(name)
    again.load_state_dict(before)
    session = begun(again, copy.deepcopy(start), task_of(1)).start()
    steps(session, range(9))
    save_state(tmp_path / "state", [session.ctx.model.state_dict(), session.ctx.optimizer.state_dict(), session.state_dict()])
    weights, moments, state = load_state(tmp_path / "state")
    later = made(name)
    resumed = begun(later, net(seed=5), task_of(1))
    resumed.ctx.model.load_state_dict(weights)
    resumed.ctx.optimizer.load_state_dict(moments)
    resumed.load_state_dict(state)
    with resumed:
        steps(resumed, range(9, 24))
    assert same(whole.ctx.model, resumed.ctx.model)
    assert found_in(later) == found_in(method) and later.searched is None


class Counted(nn.Module):
    """Counts the examples that pass through a model, and those whose gradient comes back."""

    def __init__(self, model):
        super().__init__()
        self.model, self.forward_passes, self.backward_passes = model, 0, 0

    def forward(self, x):
        out = self.model(x)
        self.forward_passes += len(x)
        if out.requires_grad:
            out.register_hook(lambda grad: setattr(self, "backward_passes", self.backward_passes + len(grad)))
        return out


@pytest.mark.parametrize("name", AUTO)
@pytest.mark.parametrize("count", [12, 60])
def test_the_search_passes_no_more_examples_than_the_run(name, count):
    def passes(method, model):
        counted = Counted(model)
        session = begun(method, counted, task_of(1, count))
        begin = method.begin_task
        beginning = []

        def begin_task(ctx):
            begin(ctx)
            beginning.append((counted.forward_passes, counted.backward_passes))

        method.begin_task = begin_task
        session.start()
        started = (counted.forward_passes, counted.backward_passes)
        steps(session, range(count))
        ended = (counted.forward_passes, counted.backward_passes)
        return [b - a for a, b in zip(beginning[0], started, strict=True)], [b - a for a, b in zip(started, ended, strict=True)]

    method = made(name)
    train(method, Counted(net()), task_of())
    in_search, in_run = passes(method, net())
    assert found_in(method)[0] > 0
    assert 0 < in_search[0] <= in_run[0] and 0 < in_search[1] <= in_run[1]


@pytest.mark.parametrize("name", AUTO)
def test_the_number_does_not_depend_on_how_a_batch_is_cut(name):
    double = Task("task", batches(6, 3, torch.float64), batches(3, 30, torch.float64), index=1, steps=24)
    results = []
    for parts in (1, 4):
        method = made(name)
        first = train(method, net(dtype=torch.float64), replace(double, index=0), parts=parts, make=lambda p: torch.optim.SGD(p, lr=0.05))
        model = train(method, first.ctx.model, double, parts=parts, make=lambda p: torch.optim.SGD(p, lr=0.05)).ctx.model
        results.append((torch.cat([parameter.detach().flatten() for parameter in model.parameters()]), found_in(method)[0]))
    torch.testing.assert_close(results[0][0], results[1][0], rtol=0, atol=1e-11)
    assert results[0][1] == pytest.approx(results[1][1], rel=1e-9)


def test_batches_that_make_up_a_step_together_are_searched_with_as_one():
    whole = task_of(1)
    halves = [(x[part], y[part]) for x, y in whole.train for part in (slice(0, 4), slice(4, 8))]
    cut = replace(whole, train=halves, accumulation=2)
    found = []
    for task in (whole, cut):
        method = made("l2sp")
        begun(method, net(), task, make=lambda p: torch.optim.SGD(p, lr=0.1)).start()
        found.append(method.searched)
    assert found[0]["steps"] == found[1]["steps"]
    for one, other in zip(found[0]["trials"], found[1]["trials"], strict=True):
        assert one["old"] == pytest.approx(other["old"]) and one["value"] == pytest.approx(other["value"], rel=1e-3)


class Restless(nn.Sequential):
    """Everything that training may change besides weights: dropout draws, batch norm has statistics and a mode of its own."""

    def __init__(self):
        super().__init__(nn.Linear(7, 33), nn.BatchNorm1d(33), nn.Dropout(0.3), nn.Tanh(), nn.Linear(33, 5))
        self[1].eval()


def test_weights_buffers_modes_moments_gradients_and_random_numbers_are_as_before():
    torch.manual_seed(0)
    model = Restless()
    optimizer = torch.optim.AdamW(model.parameters(), lr=torch.tensor(0.01))
    loss_fn(model, batches(1, 0)[0]).backward()
    optimizer.step()  # moments are there already
    draws = torch.Generator().manual_seed(1)
    x, y = (torch.cat([batch[part] for batch in batches(6, 2)]) for part in (0, 1))
    loader = DataLoader(list(zip(x, y, strict=True)), batch_size=8, shuffle=True, generator=draws)
    task = Task("task", loader, batches(3, 30), steps=40)

    def everything():
        grads = [parameter.grad.clone() for parameter in model.parameters()]
        modes = [module.training for module in model.modules()]
        tensors = copy.deepcopy([model.state_dict(), optimizer.state_dict(), torch.get_rng_state(), draws.get_state(), grads])
        return tensors, modes, torch.rand(1, generator=torch.Generator().set_state(draws.get_state()))

    method, before, rate = made("l2sp"), everything(), optimizer.param_groups[0]["lr"]
    attach(method, model, optimizer, task, loss_fn).start()
    assert method.found > 0
    assert str(everything()) == str(before)
    assert optimizer.param_groups[0]["lr"] is rate


def test_a_warm_up_does_not_hide_what_the_rate_will_be():
    def search(make):
        method = made("l2sp")
        begun(method, net(), task_of(1), make=make).start()
        return method.searched

    def warming(parameters):
        optimizer = torch.optim.AdamW(parameters, lr=0.01)
        torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, step / 10))
        assert optimizer.param_groups[0]["lr"] == 0.0
        return optimizer

    assert search(warming) == search(lambda parameters: torch.optim.AdamW(parameters, lr=0.01))


def test_levels_and_scores_equal_a_slow_twin():
    model, data = net(), batches(3, 5)
    ctx = begun(METHODS["none"](), model, task_of()).ctx
    found = level(ctx, data)
    rights, probabilities, losses = [], [], []
    for x, y in data:
        for row, label in zip(x, y, strict=True):
            logits = model(row[None])[0].double()
            chance = (logits.exp()[label] / logits.exp().sum()).item()
            rights.append(int(logits.argmax()) == int(label))
            probabilities.append(chance)
            losses.append(-torch.log(torch.tensor(chance)).item())
    assert found.accuracy == pytest.approx(sum(rights) / 24)
    assert found.probability == pytest.approx(sum(probabilities) / 24, rel=1e-5)
    assert found.loss == pytest.approx(sum(losses) / 24, rel=1e-5)
    assert found.score == pytest.approx((found.accuracy + found.probability) / 2)


def test_the_search_is_what_one_does_by_hand():
    """Plain training gives the scale; each trial is a short training; the strongest of the near best is taken."""
    task, lr = task_of(2, 200), 0.05
    method = made("l2sp")
    begun(method, net(), task, make=lambda p: torch.optim.SGD(p, lr=lr)).start()
    told = method.searched

    def by_hand(strength):
        model, start = net(), [parameter.detach().clone() for parameter in net().parameters()]
        optimizer = torch.optim.SGD(model.parameters(), lr=lr)
        for step in range(told["steps"]):
            pull = sum(((w - w0) ** 2).sum() for w, w0 in zip(model.parameters(), start, strict=True))
            optimizer.zero_grad()
            (loss_fn(model, task.train[step % 6]) + strength / 2 * pull).backward()
            optimizer.step()
        away = sum(((w - w0) ** 2).sum().item() for w, w0 in zip(model.parameters(), start, strict=True))
        return model, away

    x, y = (torch.cat([batch[part] for batch in task.retain]) for part in (0, 1))
    assert told["examples"] >= len(y)  # so that all old examples were looked at
    assert sum(trial["score"] is not None for trial in told["trials"]) >= 3
    for trial in told["trials"]:
        model, _ = by_hand(trial["value"])
        if trial["score"] is None:
            assert not model(x).isfinite().all(), "it diverged"
            continue
        assert trial["old"] == pytest.approx((model(x).argmax(1) == y).float().mean().item())
    plain, away = by_hand(0.0)
    new = [torch.cat([batch[part] for batch in task.train]) for part in (0, 1)]
    gained = (loss_fn(net(), new) - loss_fn(plain, new)).item()
    assert told["unit"] == pytest.approx(gained / (away / 2), rel=0.1)  # it looks at a sample of the new examples
    scored = [trial for trial in told["trials"] if trial["score"] is not None]
    best = max(trial["score"] for trial in scored)
    near = [trial["value"] for trial in scored if trial["score"] >= best - searching.NEAR and trial["value"]]
    assert told["chosen"] == method.found and method.found in near


@pytest.mark.parametrize("best", range(-6, 7))
@pytest.mark.parametrize("width", [0.02, 1.0])
def test_climbing_finds_the_best_of_a_hill(best, width):
    asked = []

    def score(number):
        asked.append(number)
        return -width * (number - best) ** 2

    found = climb(score, 12, 0.0)
    assert len(asked) == len(set(asked)) == len(found) <= 12
    assert max(found, key=found.__getitem__) == best


def test_climbing_prefers_the_greater_of_equals_and_comes_down_from_divergence():
    assert max(climb(lambda number: 1.0 if number <= 3 else 0.0, 9, 0.0).items(), key=lambda pair: (pair[1], pair[0]))[0] == 3
    assert min(climb(lambda number: -float("inf"), 4, 0.01)) == -6


def quadrants(seed, first, labels, size=64):
    """Points whose label is decided by one coordinate, in batches of 16."""
    x = torch.randn(size, 7, generator=torch.Generator().manual_seed(seed))
    y = torch.tensor(labels)[(x[:, first] > 0).long()]
    return [(x[start : start + 16], y[start : start + 16]) for start in range(0, size, 16)]


@pytest.mark.parametrize("name", ["ewc", "kl", "replay"])
def test_the_number_found_keeps_the_old_and_learns_the_new(name):
    """Old and new use their own classes of one softmax on like inputs: what was learned last is all that plain training answers."""
    old, new = quadrants(1, 0, [0, 1]), quadrants(2, 1, [2, 3])
    for batch in new:
        batch[0][:, 6] += 3.0  # tells new from old, so that both can be answered

    def share(model, data):
        return sum((model(x).argmax(1) == y).float().mean().item() for x, y in data) / len(data)

    def run(method):
        model = net()
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
        for step in range(200):
            optimizer.zero_grad()
            loss_fn(model, old[step % 4]).backward()
            optimizer.step()
        assert share(model, old) > 0.95
        session = begun(method, model, Task("new", new, old, steps=100))
        with session:
            for step in range(100):
                session.begin_epoch(step // 4)
                out = model(new[step % 4][0])
                session.total(nn.functional.cross_entropy(out, new[step % 4][1]), new[step % 4], out).backward()
                session.ctx.optimizer.step()
                session.ctx.optimizer.zero_grad()
        return share(model, old), share(model, new)

    plain, found = run(METHODS["none"]()), run(made(name))
    grid = [run(given(name, value)) for value in ((0.01, 1.0, 100.0, 1e4) if name != "replay" else (0.25, 1.0, 2.0))]
    assert plain[1] > 0.95 and plain[0] < 0.9
    assert found[1] >= plain[1] - 0.2, "it still learns"
    assert sum(found) / 2 >= max(sum(one) / 2 for one in grid) - 0.06, (found, plain, grid)


def test_a_strength_that_keeps_the_model_from_learning_is_never_chosen():
    """The new labels contradict the old ones item by item: whatever is learned is forgotten, and all scores are alike."""
    old = quadrants(1, 0, [0, 1])
    new = [(x, y + 2) for x, y in old]
    model = net()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    for step in range(200):
        optimizer.zero_grad()
        loss_fn(model, old[step % 4]).backward()
        optimizer.step()
    method = made("l2sp")
    begun(method, model, Task("new", new, old, steps=200)).start()
    told = method.searched
    gained = {trial["value"]: told["before"]["loss"] - trial["loss"] for trial in told["trials"]}
    assert gained[0.0] > 1 and gained[method.found] >= 0.8 * gained[0.0]
    assert min(gained.values()) < 0.8 * gained[0.0], "one that keeps it from learning was tried"


def test_the_first_task_of_a_stream_is_not_searched():
    task = Task("first", batches(6, 2), index=0, earlier_heads=(), steps=24)
    for name in AUTO:
        method = made(name)
        plain = train(METHODS["none"](), net(), task).ctx.model
        assert same(train(method, net(), task).ctx.model, plain)
        assert method.found is None and method.searched is None


def test_each_later_task_is_searched_anew_on_its_probe():
    probe = batches(2, 77)
    method = made("ewc")
    first = train(method, net(), Task("first", batches(6, 2), index=0, earlier_heads=(), steps=24))
    seen = []
    for index in (1, 2):
        train(method, first.ctx.model, Task("later", batches(6, 2 + index), index=index, steps=24, probe=probe))
        seen.append(method.searched)
    assert seen[0] != seen[1] and seen[0]["trials"][0]["value"] == 0.0


def test_two_numbers_are_found_one_after_another():
    method = made("l2sp") >> made("kl")
    model, numbers = stream(method)
    assert all(number > 0 for number in numbers)
    shares = [part.searched["steps"] for part in method.methods]
    alone = made("l2sp")
    stream(alone)
    assert max(shares) <= alone.searched["steps"]
    assert model is not None


def test_metrics_tell_the_number_at_each_step_and_the_search_at_the_first():
    method = made("ewc")
    session = begun(method, net(), task_of(1)).start()
    steps(session, range(1))
    assert session.metrics["ewc.strength"] == method.found
    assert session.metrics["ewc.strength.search"]["chosen"] == method.found
    steps(session, range(1, 2))
    assert session.metrics["ewc.strength"] == method.found and "ewc.strength.search" not in session.metrics


@pytest.mark.parametrize(
    ("task", "told"),
    [
        (Task("t", batches(6, 2), index=1, steps=24), "no old examples.*retain set, or Task.*probe"),
        (Task("t", batches(6, 2), last=True, steps=24), "no old examples"),
        (Task("t", batches(6, 2), batches(3, 30), index=1, steps=6), "6 optimizer steps are too few.*Give a number"),
        (Task("t", iter(batches(6, 2)), batches(3, 30), index=1), "neither its length nor the steps"),
        (Task("t", batches(6, 2), [], index=1, steps=24), "gives no batch"),
        (Task("t", [], batches(3, 30), index=1, steps=24), "gives no batch"),
        (Task("t", [(x, y.float()) for x, y in batches(6, 2)], batches(3, 30), index=1, steps=24), "no classes or tokens"),
    ],
)
def test_what_cannot_be_searched_is_said_with_what_to_give(task, told):
    model = net()
    before = copy.deepcopy(model.state_dict())
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    with pytest.raises(InputError, match=told):
        attach(made("l2sp"), model, optimizer, task, loss_fn).start()
    assert "step" not in vars(optimizer)
    assert all(torch.equal(a, b) for a, b in zip(before.values(), model.state_dict().values(), strict=True))


def test_training_that_diverges_whatever_the_strength_is_said():
    with pytest.raises(InputError, match=r"diverges at every strength tried\. Lower the learning rate"):
        begun(made("l2sp"), net(), task_of(1), make=lambda p: torch.optim.SGD(p, lr=1e30)).start()


@pytest.mark.parametrize("name", AUTO)
@pytest.mark.parametrize("value", ["much", float("nan"), -1.0, True, float("inf")])
def test_only_numbers_and_auto_are_taken(name, value):
    with pytest.raises(InputError, match=METHODS[name].label):
        given(name, value)


def test_several_processes_are_refused():
    from forgetless.core.checks import check_method

    with pytest.raises(InputError, match="a search works in one process only"):
        check_method(made("ewc") >> METHODS["none"](), processes=2, sharded=False)
    check_method(METHODS["ewc"]() >> METHODS["none"](), processes=2, sharded=False)
