"""A protected Trainer does what a loop around `attach` does, and an idle method changes nothing."""

import pytest
import torch
from torch.optim.optimizer import register_optimizer_step_pre_hook

import forgetless as fl
from trainers import apart, make_trainer, plain_loop, rows, weights

METHODS = {  # on rows of different lengths, padded; test_every_method.py has them all
    "none": lambda: fl.Plain(),
    "cpl-epoch": lambda: fl.CPL(refresh="epoch"),
    "derpp": lambda: fl.DERpp(),
    "chain": lambda: fl.Replay() >> fl.EWC(strength=1e3) >> fl.CPL(refresh=2),
}


@pytest.mark.parametrize("name", METHODS)
def test_trainer_and_loop_give_the_same_weights_to_the_bit(name, tiny, tmp_path):
    retain = rows(8, 1)
    trainer = fl.protect(make_trainer(tiny, tmp_path), METHODS[name](), retain)
    trainer.train()
    assert apart(weights(trainer), plain_loop(tiny, tmp_path, METHODS[name](), retain)) == 0.0
    if name != "none":
        unprotected = make_trainer(tiny, tmp_path)
        unprotected.train()
        assert apart(weights(trainer), weights(unprotected)) > 1e-5


@pytest.mark.parametrize("optim", ["adamw_torch_fused", "adafactor", "rmsprop"])
def test_method_none_leaves_the_trainer_as_it_was_to_the_bit(optim, tiny, tmp_path):
    plain = make_trainer(tiny, tmp_path, optim=optim, label_smoothing_factor=0.1, lr_scheduler_type="cosine")
    plain.train()
    protected = fl.protect(make_trainer(tiny, tmp_path, optim=optim, label_smoothing_factor=0.1, lr_scheduler_type="cosine"), fl.Plain())
    protected.train()
    assert apart(weights(plain), weights(protected)) == 0.0
    assert [line.get("loss") for line in plain.state.log_history] == [line.get("loss") for line in protected.state.log_history]


@pytest.mark.parametrize("changes", [{"max_grad_norm": 0.0}, {"gradient_accumulation_steps": 1}, {"gradient_accumulation_steps": 3}])
def test_without_clipping_and_with_other_accumulation_it_still_equals_the_loop(changes, tiny, tmp_path):
    def method():
        return fl.L2SP(strength=3.0) >> fl.GEM() >> fl.Replay()

    trainer = fl.protect(make_trainer(tiny, tmp_path, **changes), method(), rows(8, 1))
    trainer.train()
    assert apart(weights(trainer), plain_loop(tiny, tmp_path, method(), rows(8, 1), **changes)) == 0.0


def test_gradients_are_edited_before_clipping_so_the_sum_is_clipped_as_one(tiny, tmp_path):
    trainer = fl.protect(make_trainer(tiny, tmp_path, max_steps=2, max_grad_norm=0.1, optim="sgd", weight_decay=0.0), fl.L2SP(strength=1e6))
    clipped = []

    def norm(optimizer, *_):
        grads = [p.grad for group in optimizer.param_groups for p in group["params"]]
        clipped.append(float(torch.nn.utils.get_total_norm(grads)))

    handle = register_optimizer_step_pre_hook(norm)
    trainer.train()
    handle.remove()
    assert clipped == pytest.approx([0.1, 0.1], abs=1e-5)
    reported = [line["grad_norm"] for line in trainer.state.log_history if "grad_norm" in line]
    assert reported[1] > 100  # the norm with the penalty, which is huge once the weights have moved


def test_penalties_and_losses_do_not_grow_with_accumulation(tiny, tmp_path):
    data = [{"input_ids": (row["input_ids"] * 3)[:12], "labels": [-100] * 4 + [7] * 8} for row in rows(16, 0)]

    def train(size, steps):
        method = fl.L2SP(strength=50.0) >> fl.LwF(strength=1.0)
        changes = {"per_device_train_batch_size": size, "gradient_accumulation_steps": steps, "optim": "sgd", "learning_rate": 0.01}
        trainer = fl.protect(make_trainer(tiny, tmp_path, data=data, max_steps=3, **changes), method, rows(8, 1))
        trainer.train()
        return trainer

    once, split = train(8, 1), train(2, 4)
    assert apart(weights(once), weights(split)) < 1e-6
    losses = [[line["loss"] for line in t.state.log_history if "loss" in line] for t in (once, split)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_gradient_checkpointing_gives_the_same_weights(tiny, tmp_path):
    found = []
    reentrant = {"activation_checkpointing": True, "activation_checkpointing_kwargs": {"use_reentrant": True}}
    for changes in ({}, {"activation_checkpointing": True}, reentrant):
        trainer = fl.protect(make_trainer(tiny, tmp_path, **changes), fl.EWC(strength=1e3) >> fl.Replay() >> fl.CPL(refresh=2), rows(8, 1))
        trainer.train()
        found.append(weights(trainer))
    assert apart(found[0], found[1]) == 0.0 and apart(found[0], found[2]) < 1e-6  # the reentrant kind adds in another order


def test_a_fixed_mask_freezes_what_conflicts_to_the_bit_under_momentum_and_weight_decay(tiny, tmp_path):
    trainer = fl.protect(make_trainer(tiny, tmp_path), fl.CPL(mask="fixed"), rows(8, 1))
    before = weights(trainer)

    def gradient(batches):
        trainer.model.eval()
        trainer.model.zero_grad()
        for batch in batches:
            trainer.model(**batch).loss.backward()
        return {name: p.grad.clone() for name, p in trainer.model.named_parameters()}

    task = trainer.forgetless.task
    old, new = gradient(task.retain), gradient(task.train)
    trainer.model.zero_grad()
    trainer.train()
    after = weights(trainer)
    frozen = moved = 0
    for name, weight in before.items():
        agree = old[name] * new[name]
        sure = agree.abs() > 1e-12
        assert torch.equal(weight[sure & (agree < 0)], after[name][sure & (agree < 0)])
        frozen += int((sure & (agree < 0)).sum())
        moved += int((weight != after[name])[sure & (agree > 0)].sum())
    assert frozen > 1000 and moved > 1000
    assert trainer.forgetless.constraint_violation == 0.0


@pytest.mark.parametrize("changes", [{"bf16": True}, {"optim": "adafactor"}, {"optim": "sgd", "optim_args": "momentum=0.9"}])
def test_the_measured_constraint_holds_and_is_logged(changes, tiny, tmp_path):
    trainer = fl.protect(make_trainer(tiny, tmp_path, **changes), fl.CPL(refresh=2), rows(8, 1))
    before = weights(trainer)
    trainer.train()
    assert apart(before, weights(trainer)) > 0
    lines = [line for line in trainer.state.log_history if "loss" in line]
    assert len(lines) == 6 and all(0 < line["forgetless/conflicting_fraction"] < 1 for line in lines)
    assert [line for line in trainer.state.log_history if line.get("forgetless/constraint_violation") == 0.0 and "loss" not in line]


def test_the_reference_loss_is_the_trainers_own_with_label_smoothing(tiny, tmp_path):
    trainer = fl.protect(make_trainer(tiny, tmp_path, label_smoothing_factor=0.3), fl.CPL(), rows(4, 1))
    batch = next(iter(trainer.forgetless.task.retain))
    logits = trainer.model.eval()(**batch).logits[:, :-1].log_softmax(-1)
    labels = batch["labels"][:, 1:]
    told = logits[labels != -100]
    want = 0.7 * -told.gather(1, labels[labels != -100][:, None]).mean() + 0.3 * -told.mean()
    assert trainer.forgetless.loss(trainer.model, batch).item() == pytest.approx(want.item(), rel=1e-5)
    assert "labels" in batch
