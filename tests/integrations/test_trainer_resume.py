"""A training that goes on from a checkpoint ends with the same weights, bit for bit, as one that was never interrupted."""

import copy

import pytest
from transformers import TrainerCallback

import forgetless as fl
from architectures import data, llama, old, trainer_of
from trainers import apart, make_trainer, rows, weights

METHODS = {
    "cpl": lambda: fl.CPL(refresh=3),
    "cpl-fixed": lambda: fl.CPL(mask="fixed"),
    "cpl-epoch": lambda: fl.CPL(refresh="epoch"),
    "ewc-replay": lambda: fl.EWC(strength=1e3) >> fl.Replay(ratio=0.75),
    "kl-agem": lambda: fl.KL() >> fl.AGEM(),
}
OPTIMIZERS = {
    "adamw": {"optim": "adamw_torch", "train_sampling_strategy": "random"},
    "momentum": {"optim": "sgd", "optim_args": "momentum=0.9", "learning_rate": 0.05},
}


def chain():
    return fl.Replay(ratio=0.75) >> fl.GEM() >> fl.CPL(refresh=2)


@pytest.fixture(scope="module")
def every_checkpoint(tiny, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    whole = fl.protect(make_trainer(tiny, folder, save_strategy="steps", save_steps=1, **OPTIMIZERS["adamw"]), chain(), rows(8, 1))
    whole.train()
    return weights(whole), folder


class Killed(Exception):
    pass


class Kill(TrainerCallback):
    def __init__(self, step):
        self.step = step

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == self.step:
            raise Killed


@pytest.mark.parametrize(("method", "optimizer"), [*((name, "momentum") for name in METHODS), ("ewc-replay", "adamw")])
def test_killed_and_resumed_equals_uninterrupted_to_the_bit(method, optimizer, tiny, tmp_path):
    changes = {"save_strategy": "steps", "save_steps": 2, **OPTIMIZERS[optimizer]}
    whole = fl.protect(make_trainer(tiny, tmp_path / "whole", **changes), METHODS[method](), rows(8, 1))
    whole.train()
    killed = fl.protect(make_trainer(tiny, tmp_path / "killed", **changes), METHODS[method](), rows(8, 1))
    killed.add_callback(Kill(5))
    with pytest.raises(Killed):
        killed.train()
    resumed = fl.protect(make_trainer(tiny, tmp_path / "killed", **changes), METHODS[method](), rows(8, 1))
    resumed.train(resume_from_checkpoint=True)  # from step 4, the beginning of the second epoch
    assert resumed.forgetless.session.ctx.step == 6
    assert apart(weights(whole), weights(resumed)) == 0.0
    other = fl.protect(make_trainer(tiny, tmp_path / "other", **changes), METHODS[method](), rows(8, 1))
    other.train(resume_from_checkpoint=str(tmp_path / "killed" / "checkpoint-2"))  # in the midst of the first epoch
    assert apart(weights(whole), weights(other)) == 0.0


@pytest.mark.parametrize("name", [name for name in fl.METHODS if name != "progressive"])  # which wants an nn.Sequential
def test_every_method_resumes_its_second_task_to_the_bit_in_a_new_process(name, tmp_path):
    """In the midst of an epoch, with dropout, in an order drawn by the trainer; the first task's state comes from a file."""
    options = {"generative-replay": {"count": 4, "length": 4}, "cpl": {"refresh": 3}}.get(name, {})
    changes = {"train_sampling_strategy": "random", "drop": 0.3}
    method = fl.METHODS[name](**options)
    first = fl.protect(trainer_of(llama, tmp_path, max_steps=2, **changes), method, old(llama), last=False)
    first.train()
    fl.save_state(tmp_path / "method", method.state_dict())
    model = copy.deepcopy(first.model)

    def second(out, method, model, **more):
        trainer = trainer_of(llama, out, model=model, rows=data(llama, 16, 1), **changes, **more)
        return fl.protect(trainer, method, old(llama), index=1)

    whole = second(tmp_path / "whole", method, first.model, save_strategy="steps", save_steps=3)
    whole.train()
    again = fl.METHODS[name](**options)
    again.load_state_dict(fl.load_state(tmp_path / "method"))
    resumed = second(tmp_path / "resumed", again, model)
    resumed.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-3"))
    assert resumed.state.global_step == 6 and apart(weights(whole), weights(resumed)) == 0.0
    assert str(again.state_dict()) == str(method.state_dict())


@pytest.mark.parametrize("step", range(1, 6))
def test_any_step_will_do(step, tiny, tmp_path, every_checkpoint):
    whole, folder = every_checkpoint
    resumed = fl.protect(make_trainer(tiny, tmp_path, **OPTIMIZERS["adamw"]), chain(), rows(8, 1))
    resumed.train(resume_from_checkpoint=str(folder / f"checkpoint-{step}"))
    assert apart(whole, weights(resumed)) == 0.0


def test_without_the_state_the_resumed_training_would_differ(tiny, tmp_path):
    """What makes the test above one that can fail."""
    changes = {"save_strategy": "steps", "save_steps": 2, **OPTIMIZERS["momentum"]}
    whole = fl.protect(make_trainer(tiny, tmp_path, **changes), METHODS["cpl"](), rows(8, 1))
    whole.train()
    checkpoint = tmp_path / "checkpoint-4"
    state = fl.load_state(checkpoint / "forgetless_state.safetensors")
    wrong = fl.protect(make_trainer(tiny, tmp_path / "wrong", **changes), METHODS["cpl"](), rows(8, 1))
    state["session"] |= {"method": fl.CPL(refresh=3).state_dict(), "step": 5}
    fl.save_state(checkpoint / "forgetless_state.safetensors", state)
    wrong.train(resume_from_checkpoint=str(checkpoint))
    assert apart(weights(whole), weights(wrong)) > 0.0


def test_a_checkpoint_without_state_or_of_another_method_is_refused_before_any_step(tiny, tmp_path):
    changes = {"save_strategy": "steps", "save_steps": 3}
    make_trainer(tiny, tmp_path / "plain", **changes).train()
    trainer = fl.protect(make_trainer(tiny, tmp_path / "plain", **changes), fl.EWC(), rows(8, 1))
    with pytest.raises(fl.InputError, match="holds no state of the method"):
        trainer.train(resume_from_checkpoint=True)
    fl.protect(make_trainer(tiny, tmp_path / "cpl", **changes), fl.CPL(), rows(8, 1)).train()
    trainer = fl.protect(make_trainer(tiny, tmp_path / "cpl", **changes), fl.EWC(), rows(8, 1))
    with pytest.raises(fl.InputError, match="of another method"):
        trainer.train(resume_from_checkpoint=str(tmp_path / "cpl" / "checkpoint-3"))
    with pytest.raises(fl.InputError, match="no checkpoint"):
        fl.protect(make_trainer(tiny, tmp_path / "empty"), fl.EWC()).train(resume_from_checkpoint=True)


def test_one_method_object_goes_through_two_trainers_as_through_two_tasks(tiny, tmp_path):
    method = fl.EWC(strength=1e4)
    first = fl.protect(make_trainer(tiny, tmp_path), method, last=False)
    first.train()
    middle = weights(first)
    drift = []
    for kept in (fl.Plain(), method):
        second = make_trainer(tiny, tmp_path, data=rows(16, 5), model=None)
        second.model.load_state_dict(middle, strict=False)  # the head is tied
        fl.protect(second, kept, index=1).train()
        drift.append(sum(float((value - middle[name]).square().sum()) for name, value in weights(second).items()))
    assert drift[1] < 0.9 * drift[0]


def test_weights_that_the_trainer_does_not_restore_stop_the_resumed_training(tiny, tmp_path):
    """transformers 5.23 only warns where the names in a checkpoint are not those of the model (so it is with ViT)."""
    from safetensors.torch import load_file, save_file

    fl.protect(make_trainer(tiny, tmp_path, save_strategy="steps", save_steps=3), fl.CPL(), rows(8, 1)).train()
    file = tmp_path / "checkpoint-3" / "model.safetensors"
    tensors = load_file(file)
    tensors["renamed"] = tensors.pop("model.layers.0.mlp.up_proj.weight")
    save_file(tensors, file, metadata={"format": "pt"})
    trainer = fl.protect(make_trainer(tiny, tmp_path), fl.CPL(), rows(8, 1))
    with pytest.raises(fl.ProtectionError, match=r"did not restore 1 weights of the checkpoint, such as .*up_proj"):
        trainer.train(resume_from_checkpoint=str(tmp_path / "checkpoint-3"))
