"""Whatever optimizer and schedule a Trainer has: what a method freezes stands still to the bit, 8-bit states included."""

import sys

import pytest
import torch
from transformers import AutoModelForCausalLM

import forgetless as fl
from tiny import make_tiny_model
from trainers import apart, make_trainer, rows, weights

eight_bit = pytest.mark.skipif(sys.platform != "linux", reason="bitsandbytes is among the tested packages on Linux only")
EIGHT_BIT = ["adamw_8bit", "lion_8bit", "rmsprop_bnb_8bit"]


@pytest.fixture(scope="module")
def wide(tmp_path_factory):
    """Wide enough that bitsandbytes keeps 8-bit states (from 4,096 weights in a tensor on)."""
    return make_tiny_model(tmp_path_factory.mktemp("wide"), hidden=64)


class Passes(fl.Method):
    """Filters the step, so that it is taken in chunks, and lets everything through."""

    def update(self, ctx, before, after):
        return after


def states(trainer):
    inner = trainer.optimizer.optimizer
    return {name: inner.state[parameter] for name, parameter in trainer.model.named_parameters()}


def quantised(trainer):
    return [name for name, state in states(trainer).items() if any(getattr(v, "dtype", None) == torch.uint8 for v in state.values())]


@eight_bit
@pytest.mark.parametrize("optim", EIGHT_BIT)
def test_an_eight_bit_step_taken_in_chunks_is_the_whole_step_to_the_bit(optim, wide, tmp_path):
    plain = make_trainer(wide, tmp_path, optim=optim)
    plain.train()
    chunked = fl.protect(make_trainer(wide, tmp_path, optim=optim), Passes(), chunk_bytes=40_000)
    chunked.train()
    assert len(quantised(chunked)) > 5
    assert apart(weights(plain), weights(chunked)) == 0.0
    for name, state in states(plain).items():
        other = states(chunked)[name]
        assert all(
            torch.equal(value, other[key]) if isinstance(value, torch.Tensor) else value == other[key] for key, value in state.items()
        )


@eight_bit
@pytest.mark.parametrize("optim", EIGHT_BIT)
def test_cpl_freezes_exactly_under_eight_bit_states(optim, wide, tmp_path):
    method = fl.CPL(mask="fixed")
    trainer = fl.protect(make_trainer(wide, tmp_path, optim=optim), method, rows(8, 1))
    before = weights(trainer)
    trainer.train()
    after = weights(trainer)
    held = moved = 0
    for name in quantised(trainer):
        frozen = method.frozen(name, before[name].shape)
        assert torch.equal(before[name][frozen], after[name][frozen])
        held, moved = held + int(frozen.sum()), moved + int((before[name] != after[name]).sum())
    assert held > 1000 and moved > 1000 and trainer.forgetless.constraint_violation == 0.0


@eight_bit
def test_packnet_keeps_the_first_task_to_the_bit_under_eight_bit_states(wide, tmp_path):
    method = fl.PackNet(prune=0.5)
    first = fl.protect(make_trainer(wide, tmp_path, optim="adamw_8bit"), method, last=False)
    first.train()
    kept, owners = weights(first), {name: owner.clone() for name, owner in method.owners.items()}
    second = fl.protect(make_trainer(wide, tmp_path, optim="adamw_8bit", model=first.model, data=rows(16, 5)), method, index=1)
    second.train()
    after = weights(second)
    assert quantised(second) and second.forgetless.constraint_violation == 0.0
    for name, owner in owners.items():
        own = owner == 1
        assert own.any() and torch.equal(kept[name][own], after[name][own]) and not torch.equal(kept[name][~own], after[name][~own])


@eight_bit
def test_ewc_pulls_and_resumes_to_the_bit_under_eight_bit_states(wide, tmp_path):
    saving = {"save_strategy": "steps", "save_steps": 3}
    drift = {}
    for name, strength in (("free", 0.0), ("held", 1e4)):
        whole = fl.protect(make_trainer(wide, tmp_path / name, optim="adamw_8bit", **saving), fl.EWC(strength=strength), rows(8, 1))
        before = weights(whole)
        whole.train()
        drift[name] = sum(float((value - before[key]).square().sum()) for key, value in weights(whole).items())
    resumed = fl.protect(make_trainer(wide, tmp_path / "again", optim="adamw_8bit"), fl.EWC(strength=1e4), rows(8, 1))
    resumed.train(resume_from_checkpoint=str(tmp_path / "held" / "checkpoint-3"))
    assert quantised(resumed) and apart(weights(whole), weights(resumed)) == 0.0 and drift["held"] < 0.95 * drift["free"]


OPTIMIZERS = {
    "adadelta": lambda p: torch.optim.Adadelta(p, lr=0.5, weight_decay=0.1),
    "adagrad": lambda p: torch.optim.Adagrad(p, lr=0.01, weight_decay=0.1),
    "adamax": lambda p: torch.optim.Adamax(p, lr=0.01, weight_decay=0.1),
    "adamw amsgrad": lambda p: torch.optim.AdamW(p, lr=0.01, amsgrad=True),
    "adamw foreach": lambda p: torch.optim.AdamW(p, lr=0.01, foreach=True),
    "adamw fused": lambda p: torch.optim.AdamW(p, lr=0.01, fused=True),
    "asgd": lambda p: torch.optim.ASGD(p, lr=0.1, t0=0, weight_decay=0.1),
    "nadam": lambda p: torch.optim.NAdam(p, lr=0.01, weight_decay=0.1),
    "radam": lambda p: torch.optim.RAdam(p, lr=0.01, weight_decay=0.1),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=0.01, momentum=0.9, weight_decay=0.1),
    "rprop": lambda p: torch.optim.Rprop(p, lr=0.01),
    "nesterov": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.1),
    "muon": lambda p: torch.optim.Muon([one for one in p if one.ndim == 2], lr=0.01),
    "adafactor": lambda p: torch.optim.Adafactor(p, lr=0.01, weight_decay=0.1),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_cpl_freezes_exactly_under_every_optimizer_of_torch(name, tiny, tmp_path):
    model = AutoModelForCausalLM.from_pretrained(tiny)
    if name == "muon":  # matrices only
        for parameter in model.parameters():
            parameter.requires_grad_(parameter.ndim == 2)
    method = fl.CPL(mask="fixed")
    trainer = make_trainer(tiny, tmp_path, model=model)
    trainer.optimizer = OPTIMIZERS[name](list(model.parameters()))
    fl.protect(trainer, method, rows(8, 1))
    before = weights(trainer)
    trainer.train()
    after, held, moved = weights(trainer), 0, 0
    for key, value in before.items():
        frozen = method.frozen(key, value.shape)
        assert torch.equal(value[frozen], after[key][frozen])
        held, moved = held + int(frozen.sum()), moved + int((value != after[key]).sum())
    assert held > 1000 and moved > 1000 and trainer.forgetless.constraint_violation == 0.0


SCHEDULES = {
    "cosine": {"warmup_steps": 2},
    "cosine_with_restarts": {"lr_scheduler_kwargs": {"num_cycles": 2}},
    "polynomial": {},
    "constant_with_warmup": {"warmup_steps": 2},
    "inverse_sqrt": {"warmup_steps": 1},
    "warmup_stable_decay": {"lr_scheduler_kwargs": {"num_decay_steps": 2}},
    "reduce_lr_on_plateau": {"eval_strategy": "steps", "eval_steps": 2},
}


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_schedules_run_as_without_a_method(schedule, tiny, tmp_path):
    """The rates and the weights of an idle method that filters the step are those of the plain trainer."""
    found = []
    for method in (None, Passes()):
        trainer = make_trainer(tiny, tmp_path, lr_scheduler_type=schedule, asked=rows(4, 7), **SCHEDULES[schedule])
        if method is not None:
            fl.protect(trainer, method)
        trainer.train()
        found.append((weights(trainer), [line["learning_rate"] for line in trainer.state.log_history if "learning_rate" in line]))
    assert found[0][1] == found[1][1] and len(found[0][1]) == 6 and apart(found[0][0], found[1][0]) == 0.0


@pytest.mark.parametrize("recompute", [False, True])
def test_a_model_loaded_in_bf16_stays_so_and_cpl_freezes_exactly(recompute, tiny, tmp_path):
    model = AutoModelForCausalLM.from_pretrained(tiny, dtype=torch.bfloat16)
    method = fl.CPL(mask="fixed")
    trainer = make_trainer(tiny, tmp_path, model=model, bf16=True, activation_checkpointing=recompute, learning_rate=0.01)
    fl.protect(trainer, fl.Replay() >> method, rows(8, 1))
    before = weights(trainer)
    trainer.train()
    after, held, moved = weights(trainer), 0, 0
    for key, value in before.items():
        frozen = method.frozen(key, value.shape)
        assert after[key].dtype == torch.bfloat16 and torch.equal(value[frozen], after[key][frozen])
        held, moved = held + int(frozen.sum()), moved + int((value != after[key]).sum())
    assert held > 1000 and moved > 1000 and trainer.forgetless.constraint_violation == 0.0
