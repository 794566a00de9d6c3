"""Half precision with a GradScaler. accelerate wants a GPU for it; here torch's scaler for processors is put in its place."""

import pytest
import torch

import forgetless as fl
from trainers import apart, make_trainer, rows, weights

METHOD = {
    "cpl": lambda: fl.CPL(refresh=2),
    "penalty": lambda: fl.L2SP(strength=10.0) >> fl.GEM() >> fl.Replay(),
}


def scaled(trainer, **options):
    """The trainer, with a GradScaler around full precision."""
    accelerator = trainer.accelerator
    accelerator.scaler = torch.amp.GradScaler("cpu", **options)
    accelerator.unscale_gradients = lambda: accelerator.scaler.unscale_(trainer.optimizer.optimizer)
    return trainer


@pytest.mark.parametrize(("name", "norm", "optim"), [("cpl", 1.0, "sgd"), ("penalty", 0.0, "sgd"), ("penalty", 1.0, "adamw_torch_fused")])
def test_with_a_scaler_the_weights_are_those_without(name, norm, optim, tiny, tmp_path):
    changes = {"max_grad_norm": norm, "optim": optim}
    plain = fl.protect(make_trainer(tiny, tmp_path, **changes), METHOD[name](), rows(8, 1))
    plain.train()
    trainer = fl.protect(scaled(make_trainer(tiny, tmp_path, **changes), init_scale=4096.0), METHOD[name](), rows(8, 1))
    trainer.train()
    assert trainer.accelerator.scaler.get_scale() == 4096.0 and trainer.forgetless.session.ctx.step == 6
    assert apart(weights(plain), weights(trainer)) < 1e-7
    steps = (trainer.optimizer._optimizer_original_step_method, trainer.optimizer._optimizer_patched_step_method)
    assert not any(getattr(step, "__forgetless__", False) for step in steps)  # given back


@pytest.mark.parametrize("optim", ["sgd", "adamw_torch_fused"])  # a fused optimizer is called even then, and told of it
def test_a_step_that_the_scaler_leaves_out_after_an_overflow_is_left_out_by_the_method_too(optim, tiny, tmp_path):
    trainer = scaled(make_trainer(tiny, tmp_path, optim=optim), init_scale=3e38, backoff_factor=1e-20)
    fl.protect(trainer, fl.GEM() >> fl.CPL(refresh=2), rows(8, 1))
    before = weights(trainer)
    trainer.train()
    assert trainer.forgetless.session.ctx.step == 5 and trainer.state.global_step == 6  # the first overflowed
    after = weights(trainer)
    assert apart(before, after) > 0 and all(bool(value.isfinite().all()) for value in after.values())
    assert trainer.forgetless.constraint_violation == 0.0
