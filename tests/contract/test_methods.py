"""Every entry of METHODS goes through the same suite."""

import copy
import dataclasses
import doctest
import importlib
import inspect
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from forgetless.core.activation import activated
from forgetless.core.method import Chain, Method
from forgetless.core.session import attach
from forgetless.core.state import load_state, save_state
from forgetless.core.task import Task
from forgetless.errors import InputError
from forgetless.methods import METHODS
from forgetless.train.settings import build_method, parse_method_args
from nets import batches, loss_fn, net, same

NAMES = sorted(METHODS)
OWNERS = [name for name in NAMES if METHODS[name].owns]
PAIRS = [(one, two) for one in NAMES for two in NAMES if not (METHODS[one].owns and METHODS[one].owns == METHODS[two].owns)]


def task_of(dtype=torch.float32, index=0):
    return Task(f"task {index}", batches(6, 2 + index, dtype), batches(3, 30, dtype), index=index, steps=12)


def ready(method, model, task, make=lambda parameters: torch.optim.AdamW(parameters, lr=0.01)):
    """A prepared model and a session on it; the caller enters it."""
    torch.manual_seed(4)  # what a method draws when it makes new weights
    model = method.prepare(model, task)
    optimizer = make([parameter for parameter in model.parameters() if parameter.requires_grad])
    return attach(method, model, optimizer, task, loss_fn)


def steps(session, which, parts=1):
    ctx = session.ctx
    for step in which:
        session.begin_epoch(step // 6)
        x, y = ctx.task.train[step % 6]
        for part in zip(x.chunk(parts), y.chunk(parts), strict=True):
            out = ctx.model(part[0])
            (session.total(torch.nn.functional.cross_entropy(out, part[1]), part, out) / parts).backward()
        ctx.optimizer.step()
        ctx.optimizer.zero_grad()


def train(method, model, count=12, *, task=None, parts=1, make=None):
    """The session of a whole task, ended."""
    session = ready(method, model, task or task_of(), *([make] if make else []))
    with session:
        steps(session, range(count), parts)
    return session


@pytest.mark.parametrize("name", NAMES)
def test_describes_itself(name):
    method = METHODS[name]
    assert issubclass(method, Method)
    assert method.summary and method.source and method.scope and method.extra_memory and method.extra_compute
    assert method.scope.split(":")[0] in ("any model", "language models", "linear and conv layers")
    assert method.__doc__ and "theta" in method.__doc__, "the docstring gives the update rule"
    options = [p for p in inspect.signature(method).parameters.values()]
    assert all(option.kind is option.KEYWORD_ONLY and option.default is not option.empty for option in options)
    if not method.__module__.startswith("forgetless."):
        return  # of another package, which has pages of its own
    root = Path(__file__).parents[2]
    for place in ("README.md", "mkdocs.yml"):
        assert f"methods/{name}.md" in (root / place).read_text("utf-8")
    page = root / "docs" / "methods" / f"{name}.md"
    assert f"::: {method.__module__}.{method.__qualname__}" in page.read_text("utf-8")


@pytest.mark.parametrize("name", NAMES)
def test_its_example_runs(name):
    module = importlib.import_module(METHODS[name].__module__)
    found = doctest.testmod(module)
    assert found.attempted > 0 and found.failed == 0


@pytest.mark.parametrize("name", NAMES)
def test_it_learns_and_is_the_same_twice(name):
    first, second = train(METHODS[name](), net()).ctx, train(METHODS[name](), net()).ctx
    assert same(first.model, second.model)
    fresh = ready(METHODS[name](), net(), task_of()).ctx.model
    assert not same(first.model, fresh)
    assert sum(loss_fn(first.model, b) for b in first.task.train) < sum(loss_fn(fresh, b) for b in first.task.train)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("stop", [1, 6, 8])
def test_resume_is_bitwise_equal_through_safetensors(name, stop, tmp_path):
    whole = train(METHODS[name](), net())
    session = ready(METHODS[name](), net(), task_of()).start()
    steps(session, range(stop))
    save_state(tmp_path / "state", [session.ctx.model.state_dict(), session.ctx.optimizer.state_dict(), session.state_dict()])
    weights, moments, state = load_state(tmp_path / "state")
    again = ready(METHODS[name](), net(seed=5), task_of())
    again.ctx.model.load_state_dict(weights)
    again.ctx.optimizer.load_state_dict(moments)
    again.load_state_dict(state)
    with again:
        steps(again, range(stop, 12))
    assert same(whole.ctx.model, again.ctx.model)


@pytest.mark.parametrize("name", NAMES)
def test_a_second_task_goes_on_from_saved_state_bit_for_bit(name, tmp_path):
    method = METHODS[name]()
    first = train(method, net())
    save_state(tmp_path / "state", method.state_dict())
    model = copy.deepcopy(first.ctx.model)
    whole = train(method, first.ctx.model, task=task_of(index=1))
    later = METHODS[name]()
    later.load_state_dict(load_state(tmp_path / "state"))
    again = train(later, model, task=task_of(index=1))
    assert same(whole.ctx.model, again.ctx.model)


@pytest.mark.parametrize("name", [name for name in NAMES if METHODS[name].activate not in (Method.activate, Chain.activate)])
def test_the_first_task_is_answered_as_before_once_it_is_activated(name):
    method = METHODS[name]()
    assert method.needs_task_id, "what must be told the task says so"
    first = train(method, net())
    probe = torch.randn(9, 7, generator=torch.Generator().manual_seed(0))
    with activated(method, first.ctx, first.ctx.task), torch.no_grad():
        old = first.ctx.model.eval()(probe)
    first.ctx.model.train()
    second = train(method, first.ctx.model, task=task_of(index=1))
    standing = copy.deepcopy(second.ctx.model.state_dict())
    with activated(method, second.ctx, first.ctx.task), torch.no_grad():
        assert torch.equal(second.ctx.model.eval()(probe), old)
    assert all(torch.equal(a, b) for a, b in zip(standing.values(), second.ctx.model.state_dict().values(), strict=True))


@pytest.mark.parametrize("name", NAMES)
def test_independent_of_gradient_accumulation(name):
    results = []
    for parts in (1, 4):
        model = train(
            METHODS[name](), net(dtype=torch.float64), task=task_of(torch.float64), parts=parts, make=lambda p: torch.optim.SGD(p, lr=0.05)
        ).ctx.model
        results.append(torch.cat([parameter.detach().flatten() for parameter in model.parameters()]))
    torch.testing.assert_close(*results, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_keeps_the_dtype(name, dtype):
    model = train(METHODS[name](), net(dtype=dtype), 3, task=task_of(dtype)).ctx.model
    assert {parameter.dtype for parameter in model.parameters() if parameter.is_floating_point()} == {dtype}


@pytest.mark.parametrize(("name", "other"), PAIRS)
def test_chains_with_every_compatible_other(name, other):
    method = METHODS[name]() >> METHODS[other]()
    session = train(method, net(), 3)
    assert not same(session.ctx.model, ready(METHODS[name]() >> METHODS[other](), net(), task_of()).ctx.model)
    allowed = max(METHODS[name].tolerance, METHODS[other].tolerance)
    assert session.constraint_violation is None or session.constraint_violation <= allowed


CHAINS = [("replay", "ewc", "gradient-protection"), ("replay", "cpl"), ("lwf", "si", "agem"), ("derpp", "packnet"), ("kl", "lora", "cpl")]


@pytest.mark.parametrize("names", CHAINS, ids=">>".join)
def test_a_chain_resumes_and_goes_on_to_a_second_task_bit_for_bit(names, tmp_path):
    def made():
        return Chain(*(METHODS[name]() for name in names))

    whole = made()
    first = train(whole, net())
    session = ready(made(), net(), task_of()).start()
    steps(session, range(8))
    save_state(tmp_path / "state", [session.ctx.model.state_dict(), session.ctx.optimizer.state_dict(), session.state_dict()])
    weights, moments, state = load_state(tmp_path / "state")
    resumed = made()
    again = ready(resumed, net(seed=5), task_of())
    again.ctx.model.load_state_dict(weights)
    again.ctx.optimizer.load_state_dict(moments)
    again.load_state_dict(state)
    with again:
        steps(again, range(8, 12))
    assert same(first.ctx.model, again.ctx.model)
    one, other = (train(method, s.ctx.model, task=task_of(index=1)) for method, s in ((whole, first), (resumed, again)))
    assert same(one.ctx.model, other.ctx.model)


@pytest.mark.parametrize("name", OWNERS)
@pytest.mark.parametrize("other", OWNERS)
def test_an_incompatible_pair_is_refused_with_the_reason(name, other):
    if METHODS[name].owns == METHODS[other].owns:
        with pytest.raises(InputError, match=f"both own {METHODS[name].owns}"):
            METHODS[name]() >> METHODS[other]()
    else:
        assert isinstance(METHODS[name]() >> METHODS[other](), Chain)


@pytest.mark.parametrize("name", NAMES)
def test_a_chain_with_plain_changes_nothing(name):
    assert same(train(METHODS[name](), net()).ctx.model, train(METHODS["none"]() >> METHODS[name](), net()).ctx.model)


@pytest.mark.parametrize("name", [name for name in NAMES if "strength" in inspect.signature(METHODS[name]).parameters])
def test_strength_zero_is_plain_training_bit_for_bit(name):
    def stream(method):
        first = train(method, net())
        return train(method, first.ctx.model, task=task_of(index=1)).ctx.model

    assert same(stream(METHODS[name](strength=0.0)), stream(METHODS["none"]()))


@pytest.mark.parametrize("name", ["kl", "lwf", "replay"])  # the others try multiples of what they find
def test_the_strengths_that_are_tried_are_different_ones_in_their_order(name):
    method, tried = METHODS[name](), []
    for groups in ((), ((0, 1),), None):
        with ready(method, net(), dataclasses.replace(task_of(index=1), earlier_heads=groups)) as session:
            tried.append(method.numbers(session.ctx))
    for numbers in tried:
        assert len(numbers) > 2 and all(0 < one < other for one, other in pairwise(numbers))


@pytest.mark.parametrize("name", NAMES)
def test_state_names_are_all_of_the_state(name):
    method = METHODS[name]()
    train(method, net(), 3)
    again = METHODS[name]()
    again.load_state_dict(copy.deepcopy(method.state_dict()))
    assert str(again.state_dict()) == str(method.state_dict())
    with pytest.raises(ValueError, match=r"state does not fit|the state is of"):
        again.load_state_dict(method.state_dict() | {"stranger": 1})


@pytest.mark.parametrize("name", NAMES)
def test_an_unknown_option_is_refused_by_name(name):
    with pytest.raises(InputError, match=f"unknown argument 'nonsense' of method '{name}'"):
        build_method([name], parse_method_args([f"{name}.nonsense=1"], [name]), METHODS)


def test_an_unknown_method_is_refused():
    with pytest.raises(InputError, match="unknown method 'magic'"):
        build_method(["magic"], {}, METHODS)
