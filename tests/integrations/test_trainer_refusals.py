"""A trainer is protected or stopped, never run unprotected in silence."""

import pytest
import torch
from transformers import Trainer, TrainerCallback

import forgetless as fl
from forgetless.integrations.trainer import Guard
from trainers import apart, make_trainer, rows, weights


@pytest.mark.parametrize(
    ("attribute", "value", "words"),
    [("is_deepspeed_enabled", True, "DeepSpeed .* FSDP2"), ("is_fsdp_enabled", True, "FSDP1 .* FSDP2")],
)
def test_sharded_training_is_refused_at_once(attribute, value, words, tiny, tmp_path):
    trainer = make_trainer(tiny, tmp_path)
    setattr(trainer, attribute, value)
    with pytest.raises(fl.InputError, match=words):
        fl.protect(trainer, fl.CPL(), rows(4, 1))
    assert type(trainer) is Trainer


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("_n_gpu", 2, "DataParallel"),
        ("torch_compile", True, "torch_compile"),
        ("auto_find_batch_size", True, "auto_find_batch_size"),
        ("optim", "lomo", "steps inside backward"),
        ("optim", "galore_adamw_layerwise", "steps inside backward"),
    ],
)
def test_ways_to_train_that_would_bypass_the_method_are_refused(name, value, words, tiny, tmp_path):
    trainer = make_trainer(tiny, tmp_path)
    object.__setattr__(trainer.args, name, value)
    with pytest.raises(fl.InputError, match=words):
        fl.protect(trainer, fl.CPL(), rows(4, 1))


def test_what_protect_needs_is_asked_for_at_once(tiny, tmp_path):
    with pytest.raises(fl.InputError, match=r"is no transformers Trainer.*attach"):
        fl.protect(object(), fl.CPL(), rows(4, 1))
    with pytest.raises(fl.InputError, match="CPL needs a retain set"):
        fl.protect(make_trainer(tiny, tmp_path), fl.CPL())
    with pytest.raises(fl.InputError, match="it is empty"):
        fl.protect(make_trainer(tiny, tmp_path), fl.CPL(), [])
    with pytest.raises(fl.InputError, match="has no length"):
        fl.protect(make_trainer(tiny, tmp_path), fl.CPL(), iter(rows(4, 1)))
    with pytest.raises(fl.InputError, match="retain_batch_size"):
        fl.protect(make_trainer(tiny, tmp_path), fl.CPL(), rows(4, 1), retain_batch_size=0)
    with pytest.raises(fl.InputError, match="protected already"):
        fl.protect(fl.protect(make_trainer(tiny, tmp_path), fl.Plain()), fl.CPL(), rows(4, 1))
    with pytest.raises(fl.InputError, match="load_best_model_at_end"):
        trainer = make_trainer(tiny, tmp_path)
        trainer.args.load_best_model_at_end = True
        fl.protect(trainer, fl.EWC(), last=False)


def test_an_optimizer_built_before_a_method_that_changes_the_model_is_refused(tiny, tmp_path):
    trainer = make_trainer(tiny, tmp_path)
    trainer.create_optimizer()
    with pytest.raises(fl.InputError, match="has an optimizer, built before LoRA changes the model"):
        fl.protect(trainer, fl.LoRA())


def test_an_optimizer_of_ones_own_is_protected_whole_or_refused(tiny, tmp_path):
    trainer = make_trainer(tiny, tmp_path)
    trainer.optimizer = torch.optim.SGD(list(trainer.model.parameters())[1:], lr=0.1)
    with pytest.raises(fl.InputError, match="misses 1 trainable parameters"):
        fl.protect(trainer, fl.CPL(), rows(4, 1)).train()
    trainer = make_trainer(tiny, tmp_path)
    trainer.optimizer = torch.optim.NAdam(trainer.model.parameters(), lr=1e-3)
    before = weights(trainer)
    fl.protect(trainer, fl.CPL(refresh=2), rows(4, 1)).train()
    assert apart(before, weights(trainer)) > 0 and trainer.forgetless.constraint_violation == 0.0


def test_a_removed_callback_stops_the_training_before_the_first_step(tiny, tmp_path):
    trainer = fl.protect(make_trainer(tiny, tmp_path), fl.CPL(), rows(4, 1))
    before = weights(trainer)
    trainer.remove_callback(Guard)
    with pytest.raises(fl.ProtectionError, match="callback was removed"):
        trainer.train()
    assert apart(before, weights(trainer)) == 0.0


class Meddle(TrainerCallback):
    """Runs after ours and undoes what it did."""

    def __init__(self, meddle):
        self.meddle = meddle

    def on_step_begin(self, args, state, control, **kwargs):
        if state.global_step == 1:
            self.meddle(kwargs)


def test_a_step_past_the_session_stops_the_training(tiny, tmp_path):
    trainer = fl.protect(make_trainer(tiny, tmp_path), fl.CPL(), rows(4, 1))
    trainer.add_callback(Meddle(lambda found: vars(found["optimizer"].optimizer).pop("step")))
    with pytest.raises(fl.ProtectionError, match="past the method"):
        trainer.train()
    assert trainer.state.global_step == 2


def test_parameters_replaced_during_training_stop_it(tiny, tmp_path):
    def replace(found):
        norm = found["model"].model.norm
        norm.weight = torch.nn.Parameter(norm.weight.detach().clone())

    trainer = fl.protect(make_trainer(tiny, tmp_path), fl.CPL(), rows(4, 1))
    trainer.add_callback(Meddle(replace))
    with pytest.raises(fl.ProtectionError, match=r"'model\.norm\.weight', have been replaced"):
        trainer.train()


def test_a_loss_replaced_on_the_object_is_refused_and_a_subclass_is_protected(tiny, tmp_path):
    trainer = make_trainer(tiny, tmp_path)
    trainer.compute_loss = lambda *args, **kwargs: None
    with pytest.raises(fl.InputError, match="compute_loss has been replaced"):
        fl.protect(trainer, fl.CPL(), rows(4, 1))

    class Doubled(Trainer):
        def compute_loss(self, *args, **kwargs):
            found = super().compute_loss(*args, **kwargs)
            return (2 * found[0], found[1]) if isinstance(found, tuple) else 2 * found

    trainer = fl.protect(make_trainer(tiny, tmp_path, kind=Doubled), fl.Replay(), rows(4, 1))
    batch = next(iter(trainer.forgetless.task.retain))
    assert torch.equal(trainer.forgetless.loss(trainer.model, batch), 2 * trainer.model(**batch).loss)
    trainer.train()
    assert isinstance(trainer, Doubled) and trainer.forgetless.session.ctx.step == 6


def test_a_failed_training_gives_everything_back_and_can_be_repeated(tiny, tmp_path):
    def fail(found):
        raise KeyError("mine")

    trainer = fl.protect(make_trainer(tiny, tmp_path), fl.CPL(), rows(4, 1))
    callback = Meddle(fail)
    trainer.add_callback(callback)
    with pytest.raises(KeyError, match="mine"):
        trainer.train()
    assert "clip_grad_norm_" not in vars(trainer.accelerator)
    assert "step" not in vars(trainer.optimizer.optimizer) and not trainer.model._forward_pre_hooks
    trainer.remove_callback(callback)
    trainer.train()
    assert trainer.forgetless.session.ctx.step == 6


def test_walking_the_retain_set_draws_no_random_number_of_the_training(tiny, tmp_path):
    trainer = make_trainer(tiny, tmp_path)
    collate = trainer.data_collator

    def noisy(part):
        torch.rand(3)
        return collate(part) | {"noise": torch.rand(2)}

    trainer.data_collator, trainer.args.remove_unused_columns = noisy, False
    task = fl.protect(trainer, fl.CPL(), rows(4, 1)).forgetless.task
    state = torch.get_rng_state()
    first, again = list(task.retain), list(task.retain)
    assert torch.equal(state, torch.get_rng_state())
    assert len(first) == len(task.retain) == 2 and not torch.equal(first[0]["noise"], first[1]["noise"])
    assert all(torch.equal(one["noise"], two["noise"]) for one, two in zip(first, again, strict=True))


def test_without_a_method_it_is_the_recipe(tiny, tmp_path):
    trainer = fl.protect(make_trainer(tiny, tmp_path), retain=rows(4, 1))
    assert isinstance(trainer.forgetless.method, fl.Auto)
    assert trainer.forgetless.task.retain is not None
