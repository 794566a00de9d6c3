import copy
from functools import partial

import pytest
import torch
from torch import nn

from forgetless.core.session import attach
from forgetless.core.task import Task
from forgetless.errors import InputError
from forgetless.memory import spoken as spoken_module
from forgetless.memory.spoken import speak
from forgetless.methods import null_space
from forgetless.methods.null_space import NullSpace
from forgetless.methods.plain import Plain
from forgetless.modules.input_covariance import watch
from forgetless.ops.null_space import projected, projector
from language import language_batches, language_loss, language_model
from nets import batches, loss_fn, net, same
from running import adapted, frozen, run

DOUBLE = torch.float64


def covariance_by_hand(rows):
    """The mean outer product, one input after another; one longer than 3 medians of its batch counts as of that length."""
    total = torch.zeros(rows[0].shape[1], rows[0].shape[1], dtype=DOUBLE)
    for batch in rows:
        lengths = batch.norm(dim=1)
        for x, length in zip(batch, lengths, strict=True):
            x = x * min(1.0, float(3 * lengths.median() / length))
            total += torch.outer(x, x)
    return total / sum(len(batch) for batch in rows)


@pytest.mark.parametrize("make", [torch.optim.SGD, torch.optim.AdamW])
def test_equals_the_twin_from_the_equations(make):
    model = net(dtype=DOUBLE)
    task = Task("new", batches(6, 2, DOUBLE), batches(3, 30, DOUBLE))
    task.retain[0][0][0] *= 50  # one that is far longer than the others
    twin = copy.deepcopy(model)
    with torch.no_grad():
        inputs = {"0": [x for x, _ in task.retain], "2": [twin[1](twin[0](x)) for x, _ in task.retain]}
    right = {}
    for layer, rows in inputs.items():
        c = covariance_by_hand(rows)
        right[layer] = torch.linalg.inv(torch.eye(len(c), dtype=DOUBLE) + 7.0 * c / (c.trace() / len(c)))
    optimizer = make(twin.parameters(), lr=0.1)
    for batch in task.train:
        before = copy.deepcopy(twin.state_dict())
        optimizer.zero_grad()
        loss_fn(twin, batch).backward()
        optimizer.step()
        with torch.no_grad():
            for name, now in twin.named_parameters():
                layer, _, kind = name.partition(".")
                old = before[name]
                now.copy_(old + (now - old) @ right[layer] if kind == "weight" else old)
    run(NullSpace(strength=7.0), model, task, make=make)
    for one, other in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)


def test_inputs_that_leave_room_are_answered_as_before():
    torch.manual_seed(0)
    model = nn.Linear(20, 5, dtype=DOUBLE)
    model = nn.Sequential(model)
    room = torch.randn(8, 20, dtype=DOUBLE)  # old inputs lie in 8 of 20 directions
    old = torch.randn(40, 8, dtype=DOUBLE) @ room
    new = (torch.randn(40, 20, dtype=DOUBLE), torch.randint(0, 5, (40,)))
    task = Task("new", [new] * 60, [(old, torch.zeros(40, dtype=torch.long))])
    said, lost = model(old).detach(), loss_fn(model, new).item()
    plain = copy.deepcopy(model)
    run(NullSpace(strength=1e9), model, task, make=torch.optim.AdamW)
    run(Plain(), plain, task, make=torch.optim.AdamW)
    assert (model(old) - said).abs().max() < 1e-5 < 1 < (plain(old) - said).abs().max()
    assert loss_fn(model, new).item() < 0.7 * lost


def test_more_strength_moves_old_answers_less():
    task, moved = Task("new", batches(12, 2, DOUBLE), batches(1, 30, DOUBLE)), []
    for strength in (0.0, 1.0, 10.0, 100.0):
        model = net(dtype=DOUBLE)
        said = model(task.retain[0][0]).detach()
        run(NullSpace(strength=strength), model, task)
        moved.append((model(task.retain[0][0]) - said).square().mean().item())
    assert moved == sorted(moved, reverse=True) and moved[-1] < 0.01 * moved[0]


def test_the_projector_shrinks_each_direction_by_its_eigenvalue():
    torch.manual_seed(1)
    q = torch.linalg.qr(torch.randn(4, 4, dtype=DOUBLE)).Q
    values = torch.tensor([0.0, 1.0, 3.0, 8.0], dtype=DOUBLE)  # mean 3
    right = projector(q @ torch.diag(values) @ q.T, 6.0)
    torch.testing.assert_close(q.T @ right @ q, torch.diag(1 / (1 + 6.0 * values / 3)))
    torch.testing.assert_close(projector(torch.zeros(3, 3), 5.0), torch.eye(3, dtype=DOUBLE))


def test_a_weight_that_did_not_move_stays_where_it_is():
    before = torch.randn(3, 4)
    after = before + torch.randn(3, 4)
    after[:, 1] = before[:, 1]
    kept = projected(before, after, projector(torch.ones(4, 4), 9.0).float())
    assert torch.equal(kept[:, 1], before[:, 1]) and not torch.equal(kept[:, 0], before[:, 0])
    half = projected(before.bfloat16(), after.bfloat16(), torch.eye(4))
    assert half.dtype == torch.bfloat16 and torch.equal(half, after.bfloat16())


def test_layers_that_share_an_input_share_its_covariance_and_the_rest_is_held_still():
    model = language_model()
    start = copy.deepcopy(model.state_dict())
    method = NullSpace(texts=0, target="all-linear")
    task = Task("new", language_batches(3, 1), language_batches(2, 2))
    session = run(method, model, task, language_loss)
    at = "model.layers.0."
    attention = {f"{at}self_attn.{one}_proj": f"{at}self_attn.q_proj" for one in "qkv"}
    mlp = {f"{at}mlp.{one}_proj": f"{at}mlp.gate_proj" for one in ("gate", "up")}
    own = {name: name for name in (f"{at}self_attn.o_proj", f"{at}mlp.down_proj")}
    assert method.sources == attention | mlp | own
    assert set(method.covariance) == set(method.sources.values()) == set(method.counts)
    for name, now in model.named_parameters():
        assert torch.equal(now, start[name]) == (name.removesuffix(".weight") not in method.sources), name
    assert session.constraint_violation == 0.0
    assert 0 < session.metrics["null_space_share"] < 1


def test_only_the_layers_named_are_trained():
    model = language_model()
    start = copy.deepcopy(model.state_dict())
    run(NullSpace(texts=0, target="down_proj"), model, Task("new", language_batches(2, 1), language_batches(2, 2)), language_loss)
    assert [name for name, now in model.named_parameters() if not torch.equal(now, start[name])] == ["model.layers.0.mlp.down_proj.weight"]


def test_what_is_held_still_is_frozen_until_the_task_ends():
    model, method = language_model(), NullSpace(texts=2, length=2, prompted=0)
    model.model.norm.weight.requires_grad_(False)  # by the user
    everything, task = {name for name, _ in model.named_parameters()}, Task("new", language_batches(2, 1), last=True)
    assert method.prepare(model, task) is model
    assert everything - frozen(model) == {"model.layers.0.mlp.down_proj.weight"}, "the widest"
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    with attach(method, model, optimizer, task, language_loss):
        pass
    assert frozen(model) == {"model.norm.weight"}
    for method in (NullSpace(strength=0.0), NullSpace(texts=0, prompted=0)):
        method.prepare(model, task)
        assert frozen(model) == {"model.norm.weight"}, "there is nothing to protect"


def test_a_classifier_trains_all_its_linear_layers():
    model = net()
    NullSpace().prepare(model, Task("new", batches(1, 2), batches(1, 3)))
    assert frozen(model) == {"0.bias", "2.bias"}
    NullSpace(target="widest").prepare(model, Task("new", batches(1, 2), batches(1, 3)))
    assert frozen(model) == {"0.weight", "0.bias", "2.bias"}


def test_padding_counts_for_nothing():
    model = language_model()
    layers = {"down": model.model.layers[0].mlp.down_proj}
    batch = language_batches(1, 3)[0]
    ids, mask = batch["input_ids"], batch["attention_mask"]
    longer, more = nn.functional.pad(ids, (0, 5)), nn.functional.pad(mask, (0, 5))
    one = watch(layers, [(lambda: model(input_ids=ids, attention_mask=mask), mask)])
    other = watch(layers, [(lambda: model(input_ids=longer, attention_mask=more), more)])
    assert one.counts == other.counts == {"down": int(mask.sum())}
    torch.testing.assert_close(one.covariance["down"], other.covariance["down"])


@pytest.mark.parametrize("cached", [True, False])
def test_the_inputs_of_made_up_texts_count_once_each(cached, monkeypatch):
    model, spoken = language_model(), []

    def listen(*args, **kwargs):
        spoken.append(speak(*args, **kwargs))
        return spoken[-1]

    monkeypatch.setattr(null_space, "speak", listen)
    if not cached:
        monkeypatch.setattr(spoken_module, "caches", lambda model: False)
        monkeypatch.setattr(null_space, "caches", lambda model: False)
    method = NullSpace(texts=3, length=4, prompted=4)
    run(method, model, Task("new", language_batches(3, 1), last=True), language_loss, steps=0)
    read = [torch.cat([text["input_ids"] for text in together]) for together in spoken]
    assert [len(ids) for ids in read] == [3, 4], "some begin freely, some as the prompts do"
    if cached:  # what was drawn last is not read
        read = [ids[:, :-1] for ids in read]
    layer = model.model.layers[0].mlp.down_proj
    twin = watch({"down": layer}, [(partial(model, input_ids=ids), None) for ids in read])
    (found,) = method.covariance.values()
    assert set(method.counts.values()) == set(twin.counts.values()) == {sum(ids.numel() for ids in read)}
    torch.testing.assert_close(found, twin.covariance["down"])


def test_the_inputs_of_tasks_that_ended_come_to_those_before():
    model, method = net(dtype=DOUBLE), NullSpace()
    first, second = Task("one", batches(3, 2, DOUBLE)), Task("two", batches(5, 3, DOUBLE), index=1, last=True)
    plain = net(dtype=DOUBLE)
    run(method, model, first)
    run(Plain(), plain, first)
    assert same(model, plain), "there was nothing to protect yet"
    torch.testing.assert_close(method.covariance["0"], covariance_by_hand([x for x, _ in first.train]), rtol=1e-9, atol=1e-12)
    start = copy.deepcopy(model.state_dict())
    run(method, model, second)
    assert torch.equal(model[0].bias, start["0.bias"]) and not torch.equal(model[0].weight, start["0.weight"])
    assert method.counts == {"0": 24, "2": 24}, "nothing follows the last task"
    run(method, model, Task("three", batches(5, 3, DOUBLE), index=2))
    both = [x for x, _ in first.train + batches(5, 3, DOUBLE)]
    torch.testing.assert_close(method.covariance["0"], covariance_by_hand(both), rtol=1e-9, atol=1e-12)


def test_only_so_many_examples_are_looked_at():
    method = NullSpace(examples=9)  # whole batches of 8
    run(method, net(), Task("new", batches(2, 2), batches(5, 30), last=True))
    assert method.counts["0"] == 16


def test_a_language_model_makes_up_its_own_texts():
    def seen(train, **options):
        method = NullSpace(texts=3, length=3, prompted=3, target="all-linear", **options)
        run(method, language_model(), Task("new", train, last=True), language_loss, steps=1)
        return method

    train = language_batches(2, 5)
    one, again, other = seen(train), seen(train), seen(train, seed=1)
    key = "model.layers.0.self_attn.q_proj"
    assert torch.equal(one.covariance[key], again.covariance[key]) and not torch.equal(one.covariance[key], other.covariance[key])
    # three begin with the end token, three with one to four tokens of a prompt; of each at most two tokens more are read
    assert 6 <= one.counts[key] <= 3 * 3 + 3 * 6
    with_data = NullSpace(texts=3, length=3, target="all-linear")
    run(with_data, language_model(), Task("new", train, language_batches(2, 6), last=True), language_loss, steps=0)
    shown = sum(int(batch["attention_mask"].sum()) for batch in language_batches(2, 6))
    assert with_data.counts[key] - shown <= 3 * 3, "none is begun as the prompts where a retain set is given"


def test_a_model_that_names_no_token_to_begin_with_needs_none_where_no_text_is_made_up():
    model, task = language_model(), Task("new", language_batches(2, 1), language_batches(2, 2), last=True)
    for config in (model.config, model.generation_config):
        config.bos_token_id = config.eos_token_id = None
    method = NullSpace(texts=0)
    run(method, model, task, language_loss)
    assert method.covariance
    with pytest.raises(InputError, match="no token to begin a text with"):
        run(NullSpace(texts=1), model, task, language_loss)


def test_made_up_texts_do_not_disturb_the_random_numbers_of_training():
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    model = language_model()
    attach(
        NullSpace(texts=2, length=2, prompted=2),
        model,
        torch.optim.SGD(model.parameters(), 0.1),
        Task("new", language_batches(2, 5)),
        language_loss,
    ).start()
    assert torch.equal(torch.rand(1), expected)


class Branches(nn.Module):
    """The second layer is asked by new inputs only."""

    def __init__(self):
        super().__init__()
        self.old, self.new = nn.Linear(7, 5, bias=False), nn.Linear(7, 5, bias=False)

    def forward(self, x):
        return self.new(x) if x.mean() > 0 else self.old(x)


def test_a_layer_that_no_old_input_reaches_is_free():
    torch.manual_seed(0)
    model = Branches()
    plain = copy.deepcopy(model)
    old = [(-torch.rand(8, 7), torch.zeros(8, dtype=torch.long))]
    new = [(torch.rand(8, 7), torch.zeros(8, dtype=torch.long))] * 2
    run(NullSpace(), model, Task("new", new, old))
    run(Plain(), plain, Task("new", new, old))
    assert torch.equal(model.new.weight, plain.new.weight)


def test_tightening_raises_the_strength_and_is_part_of_the_state():
    model, method = net(), NullSpace(strength=2.0)
    task = Task("new", batches(2, 2), batches(1, 30))
    session = attach(method, model, torch.optim.SGD(model.parameters(), 0.1), task, loss_fn).start()
    assert method.tighten(session.ctx, 3.0) == "null-space.strength from 2 to 6"
    later = NullSpace(strength=2.0)
    later.load_state_dict(method.state_dict())
    assert later.in_force(session.ctx) == 6.0


def test_a_model_without_a_linear_layer_to_train_is_refused():
    model = nn.Sequential(nn.Conv1d(1, 2, 3), nn.Flatten())
    with pytest.raises(InputError, match="no linear layer"):
        run(NullSpace(), model, Task("new", [(torch.randn(2, 1, 5), torch.tensor([0, 1]))], [(torch.randn(2, 1, 5), torch.tensor([0, 1]))]))
    frozen = net()
    frozen[0].weight.requires_grad_(False)
    frozen[2].weight.requires_grad_(False)
    with pytest.raises(InputError, match="no linear layer is trained"):
        run(NullSpace(), frozen, Task("new", batches(1, 2), batches(1, 3)))


FIRST, SECOND = (f"base_model.model.model.layers.0.mlp.down_proj.lora_{one}.default" for one in "AB")


def test_the_default_strength_is_greater_where_texts_alone_stand_for_the_old():
    train, retain = language_batches(2, 1), language_batches(2, 2)
    for task, expected in (
        (Task("new", train, retain, last=True), 10.0),
        (Task("new", train, last=True), 30.0),
        (Task("new", train), 10.0),
    ):
        method = NullSpace(texts=2, length=2, prompted=2)
        session = run(method, language_model(), task, language_loss)
        assert method.in_force(session.ctx) == expected, "after a task that is not the last its inputs stand there too"
    other = NullSpace(texts=2, length=2, prompted=2)
    one, twin = language_model(), language_model()
    run(other, one, Task("new", train, last=True), language_loss)
    run(NullSpace(texts=2, length=2, prompted=2, strength=30.0), twin, Task("new", train, last=True), language_loss)
    assert same(one, twin)
    again = NullSpace()
    again.load_state_dict(other.state_dict())
    assert again.made_up


def test_a_new_adapter_begins_in_the_null_space():
    model, method = adapted(), NullSpace(texts=0, strength=1e4)
    task = Task("new", language_batches(4, 1), language_batches(2, 2), last=True)
    everything = {name for name, p in model.named_parameters() if p.requires_grad}
    assert method.prepare(model, task) is model
    assert {name for name, p in model.named_parameters() if p.requires_grad} == everything == {f"{FIRST}.weight", f"{SECOND}.weight"}
    twin, before = copy.deepcopy(model), copy.deepcopy(model)
    run(method, model, task, language_loss)
    assert set(method.covariance) == {FIRST} and method.free == [SECOND] and method.put == {FIRST: 0}
    right = projector(method.covariance[FIRST], 1e4).float()
    for number, batch in enumerate(task.train):
        twin.zero_grad()
        language_loss(twin, batch).backward()
        with torch.no_grad():
            one, other = twin.get_parameter(f"{FIRST}.weight"), twin.get_parameter(f"{SECOND}.weight")
            one.copy_((one - 0.1 * one.grad) @ right if number == 0 else one - 0.1 * one.grad @ right)
            other.sub_(0.1 * other.grad)
    for name in (FIRST, SECOND):
        torch.testing.assert_close(model.get_parameter(f"{name}.weight"), twin.get_parameter(f"{name}.weight"))
    plain = copy.deepcopy(before)
    run(Plain(), plain, task, language_loss)

    def moved(now, batches):
        with torch.no_grad():
            return sum(float((now(**batch).logits - before(**batch).logits).square().sum()) for batch in batches)

    assert moved(model, task.retain) < 0.05 * moved(plain, task.retain)
    assert float(model.get_parameter(f"{SECOND}.weight").abs().max()) > 0


def test_of_an_adapter_that_was_trained_before_only_the_first_factor_moves():
    model, method = adapted(), NullSpace(texts=0)
    torch.nn.init.normal_(model.get_parameter(f"{SECOND}.weight"))
    start, task = copy.deepcopy(model), Task("new", language_batches(2, 1), language_batches(2, 2), last=True)
    method.prepare(model, task)
    assert [name for name, p in model.named_parameters() if p.requires_grad] == [f"{FIRST}.weight"]
    session = run(method, model, task, language_loss)
    changed = [name for name, now in model.named_parameters() if not torch.equal(now, start.get_parameter(name))]
    assert changed == [f"{FIRST}.weight"] and session.constraint_violation == 0.0
    right = projector(method.covariance[FIRST], 10.0).float()
    for batch in task.train:
        start.zero_grad()
        language_loss(start, batch).backward()
        with torch.no_grad():
            one = start.get_parameter(f"{FIRST}.weight")
            one.sub_(0.1 * one.grad @ right)
    torch.testing.assert_close(model.get_parameter(f"{FIRST}.weight"), start.get_parameter(f"{FIRST}.weight"))


def test_adapters_are_chosen_by_the_layers_they_stand_on():
    model = adapted(target_modules=["down_proj", "q_proj"])
    NullSpace(texts=0, target="q_proj").prepare(model, Task("new", language_batches(2, 1), language_batches(2, 2)))
    trained = [name for name, p in model.named_parameters() if p.requires_grad]
    assert len(trained) == 2 and all(".q_proj.lora_" in name for name in trained)
    from peft import IA3Config, get_peft_model

    other = get_peft_model(language_model(), IA3Config(target_modules=["down_proj"], feedforward_modules=["down_proj"]))
    for model, target in ((other, "auto"), (adapted(), "o_proj")):
        with pytest.raises(InputError, match="none a trained LoRA"):
            NullSpace(target=target).prepare(model, Task("new", language_batches(2, 1), language_batches(2, 2)))


def test_the_strength_is_found():
    model, method = net(), NullSpace(strength="auto")
    task = Task("new", batches(40, 2), batches(6, 30), steps=40)
    session = run(method, model, task)
    assert method.found in method.numbers(session.ctx) and method.covariance
