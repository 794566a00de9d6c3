"""Where null-space, and so the recipe, could leave training unprotected or a model frozen without a word: it says so instead."""

import pytest
import torch
from torch import nn

import forgetless as fl
from forgetless.core.session import attach
from forgetless.memory.spoken import caches
from language import language_batches, language_loss, language_model
from nets import batches, net, same
from running import adapted, frozen, run


@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
def test_an_old_input_that_is_not_finite_is_an_error(wrong):
    old = batches(3, 30)
    old[1][0][2, 0] = wrong
    with pytest.raises(fl.ProtectionError, match="an old input of 0 is not finite"):
        run(fl.NullSpace(), net(), fl.Task("new", batches(2, 2), old))


@pytest.mark.parametrize("make", [fl.NullSpace, fl.Auto])
def test_with_nothing_to_protect_in_the_only_task_it_refuses(make):
    with pytest.raises(fl.InputError, match=r"nothing to protect.*Give a retain set"):
        run(make(), net(), fl.Task("new", batches(2, 2), last=True))
    with pytest.raises(fl.InputError, match="nothing to protect"):
        run(make(texts=0, prompted=0), language_model(), fl.Task("new", language_batches(2, 1), last=True), language_loss)
    run(make(strength=0.0), net(), fl.Task("new", batches(2, 2), last=True))
    method = make()
    run(method, net(), fl.Task("first", batches(2, 2)))  # of several: what it learns is what the next one keeps


def broken_off(model, task):
    method = fl.NullSpace(texts=2, length=2)
    method.prepare(model, task)
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    with pytest.raises(KeyboardInterrupt), attach(method, model, optimizer, task, language_loss):
        raise KeyboardInterrupt
    return method, optimizer


def test_a_model_whose_training_was_broken_off_is_not_trained_by_another_method_while_it_is_frozen():
    model, task = language_model(), fl.Task("new", language_batches(2, 1), language_batches(2, 2))
    model.model.norm.weight.requires_grad_(False)  # by the user
    _, optimizer = broken_off(model, task)
    assert len(frozen(model)) > 5
    with pytest.raises(fl.InputError, match=r"a training with NullSpace was broken off.*forgetless\.thaw"):
        attach(fl.CPL(), model, optimizer, task, language_loss)
    fl.thaw(nn.Sequential(model))
    assert frozen(model) == {"model.norm.weight"}
    run(fl.CPL(), model, task, language_loss)


def test_the_same_method_goes_on_with_what_was_broken_off_and_another_of_its_kind_begins_anew():
    model, task = language_model(), fl.Task("new", language_batches(2, 1), language_batches(2, 2))
    method, optimizer = broken_off(model, task)
    held = frozen(model)
    with attach(method, model, optimizer, task, language_loss):
        assert frozen(model) == held
    assert frozen(model) == set()
    broken_off(model, task)
    wide = fl.NullSpace(texts=2, length=2, target="all-linear")
    wide.prepare(model, task)
    assert frozen(model) < held, "the new one decides what is held still"
    run(wide, model, task, language_loss)
    assert frozen(model) == set()


def test_a_prompt_to_begin_with_needs_no_token_to_begin_with():
    model, task = language_model(), fl.Task("new", language_batches(2, 1), last=True)
    for config in (model.config, model.generation_config):
        config.bos_token_id = config.eos_token_id = None
    method = fl.NullSpace(texts=0, length=2, prompted=2)
    run(method, model, task, language_loss)
    assert method.covariance and method.made_up
    bare = [{key: value for key, value in batch.items()} | {"labels": batch["input_ids"]} for batch in task.train]
    with pytest.raises(fl.InputError, match="no token to begin a text with"):
        run(fl.NullSpace(texts=0, length=2, prompted=2), model, fl.Task("new", bare, last=True), language_loss)


def test_a_model_whose_cache_is_another_one_is_given_the_whole_text_each_time():
    from transformers import MambaConfig, MambaForCausalLM

    torch.manual_seed(0)
    model = MambaForCausalLM(MambaConfig(vocab_size=200, hidden_size=16, state_size=4, num_hidden_layers=1, bos_token_id=1))
    assert model.config.use_cache and not caches(model)
    assert caches(language_model()) and caches(adapted())
    method = fl.NullSpace(texts=3, length=3, prompted=2)
    run(method, model, fl.Task("new", language_batches(2, 1), last=True), language_loss)
    assert method.covariance and method.made_up


def test_a_model_that_labels_tokens_makes_up_no_texts():
    from transformers import LlamaForTokenClassification

    torch.manual_seed(0)
    model = LlamaForTokenClassification(language_model().config)
    task = fl.Task("new", language_batches(2, 1, vocabulary=2), language_batches(2, 2, vocabulary=2), last=True)
    method = fl.NullSpace()
    method.prepare(model, task)
    assert "score.weight" not in frozen(model), "all its linear layers are trained"
    run(method, model, task, language_loss)
    assert set(method.counts.values()) == {sum(int(batch["attention_mask"].sum()) for batch in task.retain)}


class Branches(nn.Module):
    """Two linear layers of which a batch goes through one."""

    def __init__(self):
        super().__init__()
        self.one, self.other = nn.Linear(6, 5), nn.Linear(6, 5)

    def forward(self, x, which):
        return (self.one if which else self.other)(x)


def test_an_adapter_that_gets_its_first_gradient_late_begins_in_the_null_space_too():
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(0)
    model = get_peft_model(Branches(), LoraConfig(r=2, target_modules=["one", "other"]))
    draw = torch.Generator().manual_seed(1)
    made = [(torch.randn(8, 6, generator=draw), torch.randint(5, (8,), generator=draw), which) for which in (True, False, True, False)]
    old = [(torch.cat([x[:, :3], torch.zeros(8, 3)], 1), y, which) for x, y, which in made[:2]]  # they lie in half of the space

    class Read(fl.core.predictions.Predictions):
        def outputs(self, model, batch):
            return model(batch[0], batch[2])

    def loss(model, batch):
        return nn.functional.cross_entropy(model(batch[0], batch[2]), batch[1])

    method, task = fl.NullSpace(strength=1e6), fl.Task("new", made, old, predictions=Read(), last=True)
    method.prepare(model, task)
    run(method, model, task, loss)
    first = {name: weight.detach() for name, weight in model.named_parameters() if "lora_A" in name}
    assert method.put == {name.removesuffix(".weight"): step for (name, _), step in zip(first.items(), (0, 1), strict=True)}
    for weight in first.values():
        assert float(weight[:, :3].abs().max()) < 1e-4 < 1e-2 < float(weight[:, 3:].abs().max())


@pytest.mark.parametrize("after", [0, 1, 2])
def test_an_adapter_goes_on_from_the_state_after_any_step(after):
    task = fl.Task("new", language_batches(4, 1), language_batches(2, 2))
    whole, half = adapted(), adapted()
    run(fl.NullSpace(texts=0), whole, task, language_loss)
    first = fl.NullSpace(texts=0)
    with attach(first, half, torch.optim.SGD(half.parameters(), lr=0.1), task, language_loss) as session:
        steps(session, half, task.train[:after])
        state = session.state_dict()
        weights = {name: value.clone() for name, value in half.state_dict().items()}
        steps(session, half, task.train[after:])
    method, model = fl.NullSpace(texts=0), adapted()  # a new process
    method.prepare(model, task)
    model.load_state_dict(weights)
    session = attach(method, model, torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1), task, language_loss)
    session.load_state_dict(state)
    with session:
        steps(session, model, task.train[after:])
    assert same(whole, model)


def steps(session, model, made):
    for batch in made:
        session.total(language_loss(model, batch), batch).backward()
        session.ctx.optimizer.step()
        session.ctx.optimizer.zero_grad()


def test_an_adapter_that_was_loaded_before_prepare_is_not_held_still_in_silence():
    task, model, method = fl.Task("new", language_batches(4, 1), language_batches(2, 2)), adapted(), fl.NullSpace(texts=0)
    with attach(method, model, torch.optim.SGD(model.parameters(), lr=0.1), task, language_loss) as session:
        steps(session, model, task.train[:2])
        state = session.state_dict()
    method.prepare(model, task)
    session = attach(method, model, torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1), task, language_loss)
    session.load_state_dict(state)
    with pytest.raises(fl.InputError, match=r"1 second factors.*are frozen.*Call method\.prepare"), session:
        steps(session, model, task.train[2:])
