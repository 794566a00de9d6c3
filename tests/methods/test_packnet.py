import copy
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from transformers import AutoModelForCausalLM

from five_tasks import make_model, through
from forgetless.core.activation import activated
from forgetless.core.session import attach
from forgetless.core.task import Task
from forgetless.errors import InputError
from forgetless.methods.packnet import PackNet
from nets import batches, loss_fn, net, same
from tiny import make_tiny_model


def task_of(index=0, steps=12, **options):
    return Task(f"task {index}", batches(6, 2 + index, torch.float64), index=index, steps=steps, **options)


def train(method, model, task, count=12, make=None, chunk_bytes=1 << 28, look=lambda step, model: None, loss=loss_fn):
    optimizer = (make or (lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.1)))(model.parameters())
    with attach(method, model, optimizer, task, loss, chunk_bytes=chunk_bytes) as session:
        for step in range(count):
            batch = task.train[step % len(task.train)]
            session.total(loss(model, batch), batch).backward()
            optimizer.step()
            optimizer.zero_grad()
            look(step, model)
    return session


class Twin:
    """Mallya & Lazebnik's section 3 with a list of owners for each weight, masks by sorting, and copies put back after each step."""

    def __init__(self, model):
        self.model = model
        self.owners = {name: [0] * p.numel() for name, p in model.named_parameters() if p.ndim == 2}

    def train(self, task, number, optimizer, prune_at, prune=0.5):
        pruned = False
        for step in range(task.steps):
            self.model.zero_grad()
            loss_fn(self.model, task.train[step % 6]).backward()
            if step == prune_at:
                pruned = True
                for name, parameter in self.model.named_parameters():
                    if name in self.owners:
                        flat, owners = parameter.detach().flatten().tolist(), self.owners[name]
                        free = sorted((j for j, owner in enumerate(owners) if owner == 0), key=lambda j: abs(flat[j]))
                        for j in free[round(prune * len(free)) :]:
                            owners[j] = number
            before = {name: parameter.detach().clone() for name, parameter in self.model.named_parameters()}
            optimizer.step()
            with torch.no_grad():
                for name, parameter in self.model.named_parameters():
                    if name not in self.owners:
                        if number > 1:
                            parameter.copy_(before[name])
                        continue
                    flat, old = parameter.view(-1), before[name].view(-1)
                    for j, owner in enumerate(self.owners[name]):
                        if owner != (number if pruned else 0):
                            flat[j] = 0.0 if owner == 0 else old[j]


def test_two_tasks_equal_the_paper_written_out_with_lists():
    method, model, twin = PackNet(), net(dtype=torch.float64), Twin(net(dtype=torch.float64))
    for index in range(2):
        train(method, model, task_of(index), make=lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.01))
        twin.train(task_of(index), index + 1, torch.optim.SGD(twin.model.parameters(), lr=0.1, momentum=0.9, weight_decay=0.01), prune_at=8)
        assert same(model, twin.model)
        assert {name: owner.flatten().tolist() for name, owner in method.owners.items()} == twin.owners


def test_pinned_the_smaller_half_of_four_weights_is_pruned_and_the_rest_is_kept():
    method, model = PackNet(), nn.Linear(4, 1, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[4.0, -3.0, 2.0, -1.0]]))
    task = Task("one", [(torch.zeros(1, 4), torch.zeros(1, dtype=torch.int64))], steps=2)
    train(method, model, task, 2, make=lambda p: torch.optim.SGD(p, lr=0.1))
    assert model.weight.tolist() == [[4.0, -3.0, 0.0, 0.0]]
    assert method.owners["weight"].tolist() == [[1, 1, 0, 0]]


def test_after_five_tasks_every_task_is_answered_as_right_after_it():
    rows = through(PackNet(), make_model(10))
    for row in rows:
        assert all(torch.equal(outputs, row[0][0]) and share == row[0][1] for outputs, share in row)
    assert rows[0][0][1] >= 0.9 and rows[1][0][1] >= 0.7, "and it does learn"


@pytest.mark.parametrize(
    "make", [lambda p: torch.optim.AdamW(p, lr=0.05, weight_decay=0.5), lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9)]
)
def test_what_a_task_kept_does_not_move_by_one_bit_and_what_it_pruned_stays_zero(make):
    method, model = PackNet(prune=0.6), net(dtype=torch.float64)
    zero = []
    train(method, model, task_of(), make=make, look=lambda step, m: zero.append(int((m[0].weight == 0).sum())))
    assert zero == [0] * 8 + [round(0.6 * 33 * 7)] * 4
    first, owners = copy.deepcopy(model.state_dict()), copy.deepcopy(method.owners)
    session = train(method, model, task_of(1), make=make)
    for name, owner in owners.items():
        now = model.state_dict()[name]
        assert torch.equal(now[owner == 1], first[name][owner == 1])
        assert bool((now[owner == 0] != 0).any())
        assert bool((now[method.owners[name] == 0] == 0).all())
    assert all(torch.equal(model.state_dict()[name], first[name]) for name in ("0.bias", "2.bias"))
    assert session.constraint_violation == 0.0


def test_a_movement_of_a_frozen_or_pruned_weight_is_measured():
    method = PackNet()
    method.owners, method.tasks, method.pruned = {"w": torch.tensor([[0, 1, 2]], dtype=torch.uint8)}, [0, 1], True
    ctx, before = SimpleNamespace(offsets={}), {"w": torch.tensor([[0.0, 5.0, 7.0]])}
    assert method.violation(ctx, before, {"w": torch.tensor([[0.0, 5.0, 9.0]])}) == 0.0
    assert method.violation(ctx, before, {"w": torch.tensor([[0.0, 5.5, 9.0]])}) == 0.5
    assert method.violation(ctx, before, {"w": torch.tensor([[0.25, 5.0, 9.0]])}) == 0.25
    assert method.violation(ctx, {"bias": torch.zeros(2)}, {"bias": torch.tensor([0.0, 2.0])}) == 2.0


def test_stepping_in_pieces_of_rows_changes_nothing():
    whole, cut = PackNet(), PackNet()
    one, other = (nn.Sequential(nn.Linear(7, 128), nn.Tanh(), nn.Linear(128, 5)).double() for _ in range(2))
    other.load_state_dict(one.state_dict())
    for index in range(2):
        train(whole, one, task_of(index))
        train(cut, other, task_of(index), chunk_bytes=3 * 64 * 7 * 8)
    assert same(one, other)


@pytest.mark.parametrize(("steps", "count"), [(None, 12), (100, 12)])
def test_without_planned_steps_or_after_an_early_end_it_prunes_at_the_end_and_says_so(steps, count):
    method, model = PackNet(), net(dtype=torch.float64)
    session = train(method, model, task_of(steps=steps), count)
    assert session.metrics["packnet_retrained"] is False
    assert int((model[0].weight == 0).sum()) == round(33 * 7 / 2)
    assert train(PackNet(), net(dtype=torch.float64), task_of()).metrics["packnet_retrained"] is True


def test_the_last_task_takes_all_that_is_free():
    method, model = PackNet(), net(dtype=torch.float64)
    train(method, model, task_of())
    train(method, model, task_of(1, last=True))
    assert {int(owner.min()) for owner in method.owners.values()} == {1}
    with pytest.raises(InputError, match="no weight is free for task 'task 2'"):
        train(method, model, task_of(2))


def test_an_index_that_was_trained_before_is_refused():
    method, model = PackNet(), net(dtype=torch.float64)
    train(method, model, task_of())
    with pytest.raises(InputError, match="index of its own"):
        train(method, model, task_of())


def test_running_statistics_are_those_of_the_task():
    method = PackNet()
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(7, 20), nn.BatchNorm1d(20), nn.ReLU(), nn.Linear(20, 5)).double()
    first = train(method, model, task_of())
    old = model.eval()(task_of().train[0][0])
    model.train()
    second = train(method, model, task_of(1))
    standing = model[1].running_mean.clone()
    with activated(method, second.ctx, first.ctx.task):
        assert torch.equal(model.eval()(task_of().train[0][0]), old)
        assert not torch.equal(model[1].running_mean, standing)
    assert torch.equal(model[1].running_mean, standing)


def test_parameters_that_the_user_froze_are_left_alone():
    method, model = PackNet(), net(dtype=torch.float64)
    model[0].requires_grad_(False)
    kept = model[0].weight.clone()
    session = train(method, model, task_of(), make=lambda p: torch.optim.AdamW([q for q in p if q.requires_grad], lr=0.01))
    assert list(method.owners) == ["2.weight"]
    with activated(method, session.ctx, session.ctx.task):
        assert torch.equal(model[0].weight, kept)


def test_a_language_model_with_tied_weights_answers_the_first_task_as_before(tmp_path):
    model = AutoModelForCausalLM.from_pretrained(make_tiny_model(tmp_path))
    method, draw = PackNet(), torch.Generator().manual_seed(1)
    data = [{"input_ids": ids, "labels": ids} for ids in torch.randint(1, 200, (4, 2, 9), generator=draw)]

    def lm_loss(model, batch):
        return model(**batch).loss

    outputs = []
    for index in range(2):
        task = Task(f"task {index}", data[2 * index : 2 * index + 2], index=index, steps=6)
        session = train(method, model, task, 6, loss=lm_loss)
        with activated(method, session.ctx, Task("task 0", [])), torch.no_grad():
            outputs.append(model(data[0]["input_ids"]).logits)
    assert torch.equal(*outputs)
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert sum("embed" in name or "lm_head" in name for name in method.owners) == 1


@pytest.mark.parametrize("value", [0, 1, -0.5, 1.5, float("nan"), True, "half"])
def test_a_share_to_prune_outside_0_to_1_is_refused(value):
    with pytest.raises(InputError, match=r"packnet\.prune"):
        PackNet(prune=value)


@pytest.mark.parametrize("value", [1, -0.1, float("nan"), False, None])
def test_a_share_to_retrain_outside_0_to_1_is_refused(value):
    with pytest.raises(InputError, match=r"packnet\.retrain"):
        PackNet(retrain=value)
