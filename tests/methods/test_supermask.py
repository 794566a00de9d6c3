import copy

import pytest
import torch
from torch import nn
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel

from five_tasks import make_model, through
from forgetless.core.activation import activated
from forgetless.core.session import attach
from forgetless.core.task import Task
from forgetless.errors import InputError
from forgetless.methods.supermask import Supermask
from forgetless.modules.masked import masks_of
from nets import batches, loss_fn, net
from tiny import make_tiny_model

BOTH = pytest.mark.parametrize("kind", ["threshold", "topk"])


def task_of(index=0, dtype=torch.float32):
    return Task(f"task {index}", batches(6, 2 + index, dtype), index=index, steps=12)


def train(method, model, task, make=lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.1), loss=loss_fn, count=12):
    """All of the model's parameters go to the optimizer, so that a frozen one has every chance to move."""
    model = method.prepare(model, task)
    optimizer = make(model.parameters())
    with attach(method, model, optimizer, task, loss) as session:
        for step in range(count):
            batch = task.train[step % len(task.train)]
            session.total(loss(model, batch), batch).backward()
            optimizer.step()
            optimizer.zero_grad()
    return session


def underlying(model):
    """The frozen tensors of a masked model, by the names of the plain one."""
    state = model.state_dict()
    return {
        name.replace("parametrizations.weight.original", "weight"): value for name, value in state.items() if not name.endswith("score")
    }


def mask_by_loops(kind, score):
    flat = score.flatten().tolist()
    if kind == "threshold":
        return torch.tensor([1.0 if s > 5e-3 else 0.0 for s in flat], dtype=score.dtype).view(score.shape)
    ranked = sorted(range(len(flat)), key=lambda j: abs(flat[j]))
    kept = set(ranked[len(flat) - round(0.5 * len(flat)) :])
    return torch.tensor([float(j in kept) for j in range(len(flat))], dtype=score.dtype).view(score.shape)


@BOTH
def test_the_scores_follow_the_papers_gradient_written_out(kind):
    weights, model = net(dtype=torch.float64), net(dtype=torch.float64)
    task = task_of(1, torch.float64)
    model = Supermask(kind=kind).prepare(model, task)
    scores = [mask.score.detach().clone() for _, mask in masks_of(model)]
    first = [mask_by_loops(kind, s) for s in scores]
    optimizer = torch.optim.SGD([mask.score for _, mask in masks_of(model)], lr=2.0)
    for step in range(6):
        x, y = task.train[step]
        loss_fn(model, (x, y)).backward()
        optimizer.step()
        optimizer.zero_grad()
        seen = [
            (w * mask_by_loops(kind, s)).detach().requires_grad_()
            for w, s in zip((weights[0].weight, weights[2].weight), scores, strict=True)
        ]
        hidden = torch.tanh(x @ seen[0].T + weights[0].bias)
        out = hidden @ seen[1].T + weights[2].bias
        grads = torch.autograd.grad(nn.functional.cross_entropy(out, y), seen)
        for s, w, g in zip(scores, (weights[0].weight, weights[2].weight), grads, strict=True):
            inner = s.sign() if kind == "topk" else 1.0
            s -= 2.0 * (g * w.detach() * inner)
        for (_, mask), s in zip(masks_of(model), scores, strict=True):
            torch.testing.assert_close(mask.score.detach(), s, rtol=0, atol=1e-12)
            assert torch.equal(mask.mask().double(), mask_by_loops(kind, s))
    assert all(int((mask_by_loops(kind, s) != old).sum()) > 3 for s, old in zip(scores, first, strict=True)), "masks have changed"


def test_pinned_a_mask_of_two_weights_learns_to_leave_out_the_harmful_one():
    method, model = Supermask(), nn.Linear(2, 1, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[3.0, -2.0]]))
    task = Task("one", [(torch.tensor([[1.0, 1.0]]), torch.tensor([[3.0]]))])
    # output 1, error -2; score gradients -2 * 3 and -2 * -2; scores 0.01 + 0.06 and 0.01 - 0.04; mask 1, 0; output 3
    session = train(method, model, task, lambda p: torch.optim.SGD(p, lr=0.01), lambda m, b: ((m(b[0]) - b[1]) ** 2).mean() / 2, 1)
    mask = dict(masks_of(session.ctx.model))[""]
    torch.testing.assert_close(mask.score.detach(), torch.tensor([[0.07, -0.03]]))
    assert session.ctx.model(torch.tensor([[1.0, 1.0]])).item() == 3.0
    assert method.masks == {"0": {"": torch.tensor([1], dtype=torch.uint8)}}


@BOTH
def test_the_underlying_weights_never_change_by_a_bit(kind):
    method, model = Supermask(kind=kind), net()
    kept = copy.deepcopy(model.state_dict())
    for index in range(3):
        model = train(method, model, task_of(index)).ctx.model
        assert {name for name, _ in underlying(model).items()} == set(kept)
        assert all(torch.equal(value, kept[name]) for name, value in underlying(model).items())


@pytest.mark.parametrize(("kind", "lr"), [("threshold", 0.001), ("topk", 0.02)])
def test_after_five_tasks_every_task_is_answered_as_right_after_it(kind, lr):
    model = make_model(10)
    kept = copy.deepcopy(model.state_dict())
    rows = through(Supermask(kind=kind), model, lr=lr)
    for row in rows:
        assert all(torch.equal(outputs, row[0][0]) and share == row[0][1] for outputs, share in row)
    assert min(row[0][1] for row in rows) >= 0.9, "and it does learn"
    assert all(torch.equal(value, kept[name]) for name, value in underlying(model).items())


def test_an_untouched_language_model_answers_like_the_base_model_and_its_tied_head_has_no_mask(tmp_path):
    model = AutoModelForCausalLM.from_pretrained(make_tiny_model(tmp_path)).eval()
    ids = torch.arange(1, 20)[None]
    base = model(ids).logits
    model = Supermask().prepare(model, Task("words", []))
    assert torch.equal(model(ids).logits, base)
    names = [name for name, _ in masks_of(model)]
    assert len(names) == 14 and "lm_head" not in names
    assert {name.rpartition(".")[2] for name, p in model.named_parameters() if p.requires_grad} == {"score"}
    assert model.lm_head.weight is model.model.embed_tokens.weight


def test_a_language_model_learns_a_second_task_and_answers_the_first_as_before(tmp_path):
    model = AutoModelForCausalLM.from_pretrained(make_tiny_model(tmp_path))
    kept = copy.deepcopy(model.state_dict())
    method, draw = Supermask(), torch.Generator().manual_seed(1)
    data = [{"input_ids": ids, "labels": ids} for ids in torch.randint(1, 200, (2, 2, 9), generator=draw)]

    def lm_loss(model, batch):
        return model(**batch).loss

    outputs, losses = [], []
    for index in range(2):
        losses.append(lm_loss(model, data[index]).item())
        session = train(method, model, Task(f"task {index}", data[index : index + 1], index=index), loss=lm_loss, count=8)
        assert lm_loss(model, data[index]).item() < losses[index]
        with activated(method, session.ctx, Task("task 0", [])), torch.no_grad():
            outputs.append(model(data[0]["input_ids"]).logits)
    assert torch.equal(*outputs)
    assert all(torch.equal(value, kept[name]) for name, value in underlying(model).items())


def test_the_conv1d_layers_of_gpt2_are_masked():
    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config(vocab_size=20, n_positions=8, n_embd=8, n_layer=1, n_head=2)).eval()
    base = model(torch.arange(8)[None]).logits
    assert torch.equal(Supermask().prepare(model, Task("words", []))(torch.arange(8)[None]).logits, base)
    assert {name.rpartition(".")[2] for name, _ in masks_of(model)} == {"c_attn", "c_proj", "c_fc"}


def test_a_finished_task_costs_one_bit_per_weight():
    method = Supermask(kind="topk")
    train(method, net(), task_of())
    masks = method.masks["0"]
    assert {name: packed.numel() for name, packed in masks.items()} == {"0": -(-33 * 7 // 8), "2": -(-33 * 5 // 8)}


@BOTH
def test_the_exported_model_is_plain_and_answers_as_the_activated_task(kind):
    method, model = Supermask(kind=kind), net()
    for index in range(2):
        session = train(method, model, task_of(index))
    session.ctx.task = task_of(0)
    method.activate(session.ctx)
    probe = torch.randn(9, 7, generator=torch.Generator().manual_seed(0))
    outputs = model(probe)
    plain = method.export(model)
    assert type(plain[0]) is nn.Linear and set(plain.state_dict()) == set(net().state_dict())
    assert torch.equal(plain(probe), outputs)
    left = plain[0].weight == 0
    assert 0.05 < float(left.float().mean()) < 0.95
    assert torch.equal(plain[0].weight, net()[0].weight.masked_fill(left, 0))


def test_scores_of_a_later_task_begin_fresh_or_where_the_last_ended():
    def begin(start):
        method, model = Supermask(start=start), net()
        train(method, model, task_of())
        ended = next(masks_of(model))[1].score.detach().clone()
        method.prepare(model, task_of(1))
        return ended, next(masks_of(model))[1].score.detach()

    ended, score = begin("last")
    assert torch.equal(score, ended)
    ended, score = begin("fresh")
    assert not torch.equal(score, ended) and bool((score == 0.01).all())


def test_preparing_the_same_task_again_keeps_the_scores():
    method, model = Supermask(kind="topk"), net()
    train(method, model, task_of())
    state = copy.deepcopy(model.state_dict())
    assert method.prepare(model, task_of()) is model
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


def test_a_new_process_that_prepares_only_the_present_task_can_load_the_weights_and_the_masks():
    method, model = Supermask(kind="topk"), net()
    for index in range(2):
        session = train(method, model, task_of(index))
    later, again = Supermask(kind="topk"), net(seed=8)
    again = later.prepare(again, task_of(1))
    again.load_state_dict(model.state_dict())
    later.load_state_dict(copy.deepcopy(method.state_dict()))
    probe = torch.randn(4, 7)
    with activated(method, session.ctx, task_of(0)):
        expected = model(probe)
    session.ctx.model = again
    with activated(later, session.ctx, task_of(0)):
        assert torch.equal(again(probe), expected)
    assert not torch.equal(again(probe), expected)


def test_a_model_without_such_layers_is_refused():
    with pytest.raises(InputError, match="no linear or conv layer"):
        Supermask().prepare(nn.Embedding(3, 2), task_of())


@pytest.mark.parametrize(
    "options",
    [
        {"kind": "random"},
        {"share": 0},
        {"share": 1.0},
        {"share": float("nan")},
        {"share": True},
        {"threshold": -0.1},
        {"threshold": 0.01},
        {"threshold": float("nan")},
        {"start": "never"},
        {"seed": -1},
        {"seed": 0.5},
    ],
)
def test_nonsense_options_are_refused(options):
    with pytest.raises(InputError, match=f"supermask.{next(iter(options))}"):
        Supermask(**options)


def test_every_seed_and_task_begins_at_scores_of_its_own():
    drawn = []
    for seed in range(3):
        for index in range(3):
            scores = [mask.score.flatten() for _, mask in masks_of(Supermask(kind="topk", seed=seed).prepare(net(), task_of(index)))]
            drawn.append(torch.cat(scores).tolist())
            again = [mask.score.flatten() for _, mask in masks_of(Supermask(kind="topk", seed=seed).prepare(net(), task_of(index)))]
            assert torch.cat(again).tolist() == drawn[-1]
    assert all(one != other for place, one in enumerate(drawn) for other in drawn[:place])
