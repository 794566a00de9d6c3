import copy
from pathlib import Path

import pytest
import torch

from forgetless.core.method import Chain, Method
from forgetless.core.session import attach
from forgetless.core.state import load_state, save_state
from forgetless.core.task import Task
from forgetless.errors import InputError, ProtectionError
from forgetless.methods import CPL, Plain
from nets import batches, loss_fn, net, same

TRAIN, RETAIN = batches(10, seed=2), batches(4, seed=3)
TASK = Task("new", TRAIN, RETAIN)


def steps(session, model, optimizer, which):
    for step in which:
        batch = TRAIN[step % 10]
        session.total(loss_fn(model, batch), batch).backward()
        optimizer.step()
        optimizer.zero_grad()


class Shrink(Method):
    """Adds the squared norm once a step."""

    def penalty(self, ctx):
        return 0.1 * sum(parameter.pow(2).sum() for parameter in ctx.parameters.values())


class Freeze(Method):
    """Holds one parameter."""

    def update(self, ctx, before, after):
        return {name: before[name] if name == "0.bias" else tensor for name, tensor in after.items()}


class Extra(Method):
    """Adds the batch's mean."""

    def loss(self, ctx, batch, outputs):
        return batch[0].mean() * next(iter(ctx.parameters.values())).sum()


class Halve(Method):
    """Halves every gradient."""

    def gradients(self, ctx, grads):
        return {name: grad / 2 for name, grad in grads.items()}


def test_plain_in_a_session_is_plain_training_bit_for_bit():
    model, twin = net(), net()
    optimizer, other = (torch.optim.AdamW(m.parameters(), lr=0.01) for m in (model, twin))
    with attach(Plain(), model, optimizer, TASK, loss_fn) as session:
        steps(session, model, optimizer, range(15))
    for step in range(15):
        loss_fn(twin, TRAIN[step % 10]).backward()
        other.step()
        other.zero_grad()
    assert same(model, twin)


@pytest.mark.parametrize("method", [Shrink(), Halve(), Extra(), CPL(refresh=2), Shrink() >> Halve() >> CPL() >> Freeze()])
def test_independent_of_gradient_accumulation(method):
    """Four micro-batches of 2 do as one batch of 8; a penalty counts once a step."""
    results = []
    for parts in (1, 4):
        model = net(dtype=torch.float64)
        data = batches(6, seed=5, dtype=torch.float64)
        task = Task("new", data, batches(4, seed=6, dtype=torch.float64))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
        with attach(copy.deepcopy(method), model, optimizer, task, loss_fn) as session:
            session.begin_epoch(0)  # task.train counts batches of 8, total() is called for parts of them
            for x, y in data:
                for part in zip(x.chunk(parts), y.chunk(parts), strict=True):
                    (session.total(loss_fn(model, part), part) / parts).backward()
                optimizer.step()
                optimizer.zero_grad()
        results.append(torch.cat([parameter.detach().flatten() for parameter in model.parameters()]))
    torch.testing.assert_close(results[0], results[1], rtol=0, atol=1e-12)


def test_a_chain_applies_left_to_right_and_all_parts_act():
    model, twin = net(), net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    chain = Shrink() >> Halve() >> Freeze()
    assert isinstance(chain, Chain) and [type(m) for m in chain.methods] == [Shrink, Halve, Freeze]
    with attach(chain, model, optimizer, TASK, loss_fn) as session:
        steps(session, model, optimizer, [0])
    total = loss_fn(twin, TRAIN[0]) + 0.1 * sum(parameter.pow(2).sum() for parameter in twin.parameters())
    gradients = torch.autograd.grad(total, list(twin.parameters()))
    for (name, new), old, gradient in zip(model.named_parameters(), twin.parameters(), gradients, strict=True):
        torch.testing.assert_close(new, old if name == "0.bias" else old - 0.1 * gradient / 2)
    assert torch.equal(model.state_dict()["0.bias"], net().state_dict()["0.bias"])


def test_two_filters_in_a_chain_hold_what_either_holds():
    model = net()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    with attach(Freeze() >> CPL(mask="fixed"), model, optimizer, TASK, loss_fn) as session:
        steps(session, model, optimizer, range(5))
        cpl = session.method.methods[1]
        assert torch.equal(model.state_dict()["0.bias"], net().state_dict()["0.bias"])
        frozen = cpl.frozen("0.weight", model[0].weight.shape)
        assert torch.equal(model[0].weight[frozen], net()[0].weight[frozen]) and frozen.any()
    assert session.constraint_violation == 0.0


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_dtype_is_kept(dtype):
    model = net(dtype=dtype)
    task = Task("new", batches(3, 1, dtype), batches(2, 2, dtype))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    with attach(CPL(), model, optimizer, task, loss_fn) as session:
        session.total(loss_fn(model, task.train[0])).backward()
        optimizer.step()
    assert {parameter.dtype for parameter in model.parameters()} == {dtype}
    assert not same(model, net(dtype=dtype))


@pytest.mark.parametrize(
    "make",
    [
        lambda: CPL(),
        lambda: CPL(refresh=3, retain_batches=2),
        lambda: CPL(refresh="streaming"),
        lambda: CPL(mask="fixed"),
        lambda: CPL(confidence=0.4, refresh=4),
        lambda: CPL(level="gradient") >> Shrink(),
        lambda: Plain(),
    ],
)
@pytest.mark.parametrize("stop", [3, 10, 13])
def test_mid_task_resume_is_bitwise_equal(make, stop, tmp_path: Path):
    whole = net()
    optimizer = torch.optim.AdamW(whole.parameters(), lr=0.01)
    with attach(make(), whole, optimizer, TASK, loss_fn) as session:
        steps(session, whole, optimizer, range(20))

    first = net()
    optimizer = torch.optim.AdamW(first.parameters(), lr=0.01)
    session = attach(make(), first, optimizer, TASK, loss_fn).start()
    steps(session, first, optimizer, range(stop))
    save_state(tmp_path / "s.safetensors", {"m": first.state_dict(), "o": optimizer.state_dict(), "s": session.state_dict()})

    second = net(seed=99)
    state = load_state(tmp_path / "s.safetensors")
    second.load_state_dict(state["m"])
    optimizer = torch.optim.AdamW(second.parameters(), lr=0.5)
    optimizer.load_state_dict(state["o"])
    session = attach(make(), second, optimizer, TASK, loss_fn)
    session.load_state_dict(state["s"])
    with session:
        steps(session, second, optimizer, range(stop, 20))
    assert same(whole, second)


def test_state_of_another_method_is_refused():
    model = net()
    with attach(CPL(), model, torch.optim.SGD(model.parameters(), lr=0.1), TASK, loss_fn) as session:
        state = session.state_dict()["method"]
    with pytest.raises(ValueError, match="missing"):
        CPL().load_state_dict({key: value for key, value in state.items() if key != "mean"})
    with pytest.raises(ValueError, match="chain"):
        (CPL() >> Plain()).load_state_dict(state)


def test_refuses_an_optimizer_that_misses_a_parameter():
    model = net()
    with pytest.raises(InputError, match=r"misses 2 trainable parameters, such as '2.weight'"):
        attach(Plain(), model, torch.optim.SGD(model[0].parameters(), lr=0.1), TASK, loss_fn)
    for parameter in model[2].parameters():
        parameter.requires_grad_(False)
    attach(Plain(), model, torch.optim.SGD(model[0].parameters(), lr=0.1), TASK, loss_fn)


def test_refuses_lbfgs_a_foreign_optimizer_and_a_second_session():
    model = net()
    with pytest.raises(InputError, match="LBFGS"):
        attach(Plain(), model, torch.optim.LBFGS(model.parameters()), TASK, loss_fn)
    with pytest.raises(InputError, match="not the model's"):
        attach(Plain(), model, torch.optim.SGD([*model.parameters(), *net().parameters()], lr=0.1), TASK, loss_fn)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with attach(Plain(), model, optimizer, TASK, loss_fn), pytest.raises(InputError, match="already has a session"):
        attach(Plain(), model, optimizer, TASK, loss_fn)
    with attach(Plain(), model, optimizer, TASK, loss_fn):
        pass


def test_refuses_gradients_that_grad_scaler_has_not_unscaled():
    model = net()
    start = copy.deepcopy(model.state_dict())
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**16)
    with attach(CPL(), model, optimizer, TASK, loss_fn) as session:
        scaler.scale(session.total(loss_fn(model, TRAIN[0]))).backward()
        with pytest.raises(ProtectionError, match="unscale_"):
            optimizer.step()
        assert all(torch.equal(value, start[name]) for name, value in model.state_dict().items())
        scaler.unscale_(optimizer)
        scaler.step(optimizer)
        assert not all(torch.equal(value, start[name]) for name, value in model.state_dict().items())


def test_refuses_a_fused_optimizer_that_would_unscale_by_itself():
    model = net()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, fused=True)
    scaler = torch.amp.GradScaler("cpu")
    with attach(CPL(), model, optimizer, TASK, loss_fn) as session:
        scaler.scale(session.total(loss_fn(model, TRAIN[0]))).backward()
        with pytest.raises(ProtectionError, match="unscale_"):
            scaler.step(optimizer)


def test_scaled_training_with_unscaled_steps_equals_plain_cpl():
    results = []
    for scaled in (False, True):
        model = net(dtype=torch.float64)
        task = Task("new", batches(5, 1, torch.float64), batches(3, 2, torch.float64))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        scaler = torch.amp.GradScaler("cpu", enabled=scaled)
        with attach(CPL(refresh=1), model, optimizer, task, loss_fn) as session:
            for batch in task.train:
                scaler.scale(session.total(loss_fn(model, batch))).backward()
                scaler.step(optimizer)
                scaler.update()
                optimizer.zero_grad()
        results.append(model)
    assert same(*results)


def test_a_loss_method_refuses_a_step_without_total():
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with attach(Extra(), model, optimizer, TASK, loss_fn):
        loss_fn(model, TRAIN[0]).backward()
        with pytest.raises(ProtectionError, match=r"session\.total"):
            optimizer.step()


def test_schedulers_hooks_and_closures_work_as_without_a_session():
    seen = []
    rates = []
    for protected in (False, True):
        model = net()
        optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
        handle = optimizer.register_step_post_hook(lambda *_, protected=protected: seen.append(protected))
        session = attach(CPL(), model, optimizer, TASK, loss_fn, chunk_bytes=64).start() if protected else None
        scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
        for step in range(3):

            def closure(step=step, model=model, optimizer=optimizer):
                optimizer.zero_grad()
                loss = loss_fn(model, TRAIN[step])
                loss.backward()
                return loss

            assert optimizer.step(closure).detach() > 0
            scheduler.step()
        rates.append(scheduler.get_last_lr())
        handle.remove()
        if session:
            session.close()
    assert rates[0] == rates[1] and seen == [False] * 3 + [True] * 3


def test_the_reference_pass_leaves_no_trace():
    """No gradient, no mode, no random number and no batch-norm statistic is changed by taking a reference."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(7, 9), torch.nn.BatchNorm1d(9), torch.nn.Dropout(0.5), torch.nn.Linear(9, 5))
    model[1].eval()
    state = copy.deepcopy(model.state_dict())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model[0].weight.grad = torch.ones_like(model[0].weight)
    mark = torch.get_rng_state()
    with attach(CPL(), model, optimizer, TASK, loss_fn):
        assert torch.equal(torch.get_rng_state(), mark)
        assert model.training and not model[1].training
        assert torch.equal(model[0].weight.grad, torch.ones_like(model[0].weight)) and model[3].weight.grad is None
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert "step" not in vars(optimizer)


def test_an_inject_set_without_a_length_needs_begin_epoch():
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    endless = Task("new", iter(TRAIN), RETAIN)
    with attach(CPL(), model, optimizer, endless, loss_fn) as session:
        with pytest.raises(InputError, match="begin_epoch"):
            session.total(loss_fn(model, TRAIN[0]))
        session.begin_epoch(0)
        session.total(loss_fn(model, TRAIN[0])).backward()
        optimizer.step()


def test_a_loss_that_is_not_finite_stops_the_reference():
    model = net()
    task = Task("new", TRAIN, [(RETAIN[0][0] * float("nan"), RETAIN[0][1])])
    with pytest.raises(ProtectionError, match="not a finite scalar"):
        attach(CPL(), model, torch.optim.SGD(model.parameters(), lr=0.1), task, loss_fn).start()


def test_extra_memory_is_bounded_by_the_chunk():
    """The weights that stand twice during a step never exceed the chunk, even within one large tensor."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(64, 512), torch.nn.Linear(512, 64))
    seen = []

    class Spy(Method):
        def update(self, ctx, before, after):
            seen.append(sum(tensor.numel() * tensor.element_size() for tensor in before.values()))
            return after

    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    limit = 30_000
    with attach(Spy(), model, optimizer, Task("x", [torch.randn(2, 64)]), lambda m, b: m(b).sum(), chunk_bytes=limit) as session:
        session.total(model(torch.randn(2, 64)).sum()).backward()
        optimizer.step()
    assert max(seen) <= limit // 3
    assert sum(seen) == sum(parameter.numel() * 4 for parameter in model.parameters())


def test_gradients_edited_before_clipping_are_clipped_as_one_and_edited_once():
    """Hand-checkable: grad 4 of the loss, halved to 2, clipped to 1;."""
    model = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.constant_(model.weight, 1.0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    x = torch.tensor([[4.0]])
    task = Task("new", [(x, x)])
    with attach(Halve(), model, optimizer, task, lambda model, batch: model(batch[0]).mean()) as session:
        session.total(model(x).mean()).backward()
        session.edit_gradients()
        session.edit_gradients()  # a second call does nothing
        assert model.weight.grad.item() == 2.0
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        assert model.weight.item() == pytest.approx(0.5, abs=1e-5)
        optimizer.zero_grad()
        session.total(model(x).mean()).backward()
        optimizer.step()  # edits by itself again
        assert model.weight.item() == pytest.approx(-0.5, abs=1e-5)


def test_editing_the_gradients_early_without_the_methods_loss_is_refused():
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with attach(Extra(), model, optimizer, TASK, loss_fn) as session:
        loss_fn(model, TRAIN[0]).backward()
        with pytest.raises(ProtectionError, match=r"session\.total"):
            session.edit_gradients()


def test_a_share_scales_the_methods_loss_alone():
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with attach(Extra(), model, optimizer, TASK, loss_fn) as session:
        loss = loss_fn(model, TRAIN[0])
        whole, quarter = session.total(loss, TRAIN[0]), session.total(loss, TRAIN[0], share=0.25)
        assert (quarter - loss).item() == pytest.approx(0.25 * (whole - loss).item(), rel=1e-4)
        assert abs((whole - loss).item()) > 1e-3
