"""A chain of which one method filters the step lets that method take it, to the same bits."""

import pytest
import torch

from forgetless.core.context import Context
from forgetless.core.session import attach
from forgetless.core.task import Task
from forgetless.methods.cpl import CPL
from forgetless.methods.packnet import PackNet
from forgetless.methods.plain import Plain
from forgetless.methods.replay import Replay
from nets import batches, loss_fn, net, same


def train(method):
    model, task = net(), Task("t", batches(6, 2), batches(3, 30), last=True)
    model = method.prepare(model, task)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    with attach(method, model, optimizer, task, loss_fn) as session:
        for number in range(12):
            batch = task.train[number % 6]
            out = model(batch[0])
            session.total(torch.nn.functional.cross_entropy(out, batch[1]), batch, out).backward()
            optimizer.step()
            optimizer.zero_grad()
    return model


@pytest.mark.parametrize("before", [Plain, Replay])
def test_the_weights_are_those_without_that_shortcut(before, monkeypatch):
    taken = []
    descend = CPL.descend

    def watched(self, *arguments):
        taken.append(descend(self, *arguments))
        return taken[-1]

    monkeypatch.setattr(CPL, "descend", watched)
    quick = train(before() >> CPL(refresh=2))
    assert any(taken), "the method took the step itself"
    monkeypatch.setattr(CPL, "descend", lambda self, *arguments: False)
    assert same(quick, train(before() >> CPL(refresh=2)))


def test_two_methods_that_filter_are_asked_one_after_another():
    chain = CPL() >> PackNet()
    assert chain.filters
    assert chain.descend(Context.__new__(Context), {}, None) is False


def test_a_chain_of_which_none_filters_steps_as_the_optimizer_does():
    assert not (Plain() >> Replay()).filters
    assert same(train(Plain()), train(Plain() >> Plain()))
