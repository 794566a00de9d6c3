import pytest
import torch
from torch import nn

from forgetless.core import importance
from forgetless.core.context import Context
from forgetless.core.predictions import Predictions
from forgetless.core.task import Task
from forgetless.errors import InputError, ProtectionError
from nets import batches, loss_fn, net
from tiny import make_tiny_model


def context(model, train=()):
    parameters = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    return Context(model, torch.optim.SGD(parameters.values(), lr=0.1), Task("t", list(train)), loss_fn, parameters)


def fisher(ctx, data, labels="data", examples=None, seed=0):
    return importance.fisher(ctx, data, labels=labels, examples=examples, generator=torch.Generator().manual_seed(seed))


def squares_one_by_one(model, pairs):
    """The mean of squared gradients of log p(y|x), for x and y one by one."""
    total = {name: torch.zeros_like(parameter) for name, parameter in model.named_parameters()}
    for x, y in pairs:
        model.zero_grad()
        model(x[None])[0].log_softmax(-1)[y].backward()
        for name, parameter in model.named_parameters():
            total[name] += parameter.grad**2 / len(pairs)
    model.zero_grad()
    return total


@pytest.fixture(scope="module")
def language(tmp_path_factory):
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(make_tiny_model(tmp_path_factory.mktemp("tiny"), hidden=16, layers=1))
    return model.double()


def sequences():
    """Two sequences, the second padded; three and two labelled tokens."""
    return {
        "input_ids": torch.tensor([[5, 9, 17, 30, 8], [7, 40, 11, 0, 0]]),
        "attention_mask": torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]]),
        "labels": torch.tensor([[-100, -100, 17, 30, 8], [-100, 40, 11, -100, -100]]),
    }


def token_scores(model, ids):
    """The gradient of log p(token | tokens before it) of each labelled position, and the distributions there."""
    return model(input_ids=torch.tensor([ids])).logits[0].log_softmax(-1)


def test_the_empirical_fisher_is_the_per_example_loop():
    model, data = net(dtype=torch.float64), batches(3, 2, torch.float64)
    expected = squares_one_by_one(model, [pair for x, y in data for pair in zip(x, y, strict=True)])
    for name, tensor in fisher(context(model), data).items():
        torch.testing.assert_close(tensor, expected[name], rtol=1e-6, atol=0)


def test_squared_batch_means_are_another_and_smaller_thing():
    model, data = net(dtype=torch.float64), batches(4, 2, torch.float64)
    right = sum(float(tensor.sum()) for tensor in fisher(context(model), data).values())
    wrong = 0.0
    for batch in data:
        model.zero_grad()
        loss_fn(model, batch).backward()
        wrong += sum(float(parameter.grad.square().sum()) for parameter in model.parameters()) / len(data)
    assert wrong < right / 3


def test_with_labels_from_the_model_the_mean_over_seeds_approaches_the_exact_expectation():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 10)).double()
    x = torch.randn(4, 3, dtype=torch.float64)
    exact = {name: torch.zeros_like(parameter) for name, parameter in model.named_parameters()}
    for one in x:
        for label, p in enumerate(model(one[None])[0].softmax(-1).tolist()):
            for name, square in squares_one_by_one(model, [(one, label)]).items():
                exact[name] += p * square / len(x)
    draws = [fisher(context(model), [(x, torch.zeros(4, dtype=torch.int64))], "model", seed=seed) for seed in range(300)]
    flat = torch.stack([torch.cat([tree[name].flatten() for name in exact]) for tree in draws])
    expected = torch.cat([tensor.flatten() for tensor in exact.values()])
    error = flat.std(0) / len(draws) ** 0.5
    distances = [float((flat[:n].mean(0) - expected).norm() / expected.norm()) for n in (1, 300)]
    assert distances[0] > 0.5 and distances[1] < 0.08
    assert ((flat.mean(0) - expected).abs() <= 5 * error + 1e-12).all()


def test_labels_from_the_model_need_no_labels_and_ignore_those_given():
    model, data = net(), batches(2, 2)
    bare = fisher(context(model), [x for x, _ in data], "model")
    other = fisher(context(model), [(x, (y + 1) % 5) for x, y in data], "model")
    assert all(torch.equal(bare[name], other[name]) for name in bare)


def test_a_sequence_is_one_example_whose_likelihood_is_the_sum_over_its_labelled_tokens(language):
    found = fisher(context(language), [sequences()])
    expected = {name: torch.zeros_like(parameter) for name, parameter in language.named_parameters()}
    for ids, labelled in (([5, 9, 17, 30, 8], (2, 3, 4)), ([7, 40, 11], (1, 2))):
        language.zero_grad()
        scores = token_scores(language, ids)
        sum(scores[t - 1, ids[t]] for t in labelled).backward()
        for name, parameter in language.named_parameters():
            expected[name] += parameter.grad**2 / 2
    language.zero_grad()
    assert found.keys() == expected.keys() and "lm_head.weight" not in found, "tied weights are one parameter"
    for name, tensor in found.items():
        torch.testing.assert_close(tensor, expected[name], rtol=1e-6, atol=1e-18)


def test_a_language_models_fisher_with_drawn_tokens_approaches_the_sum_of_the_positions_expectations(language):
    """Given the true tokens before them the drawn ones are independent with mean score zero, so the squares add up."""
    ids, labelled, weight = [5, 9, 17], (1, 2), language.model.norm.weight
    batch = {"input_ids": torch.tensor([ids]), "labels": torch.tensor([[-100, 9, 17]])}
    expected = torch.zeros_like(weight)
    for t in labelled:
        scores = token_scores(language, ids)[t - 1]
        for token in range(len(scores)):
            (grad,) = torch.autograd.grad(scores[token], [weight], retain_graph=True)
            expected += scores[token].exp().detach() * grad**2
    found = [fisher(context(language), [batch], "model", seed=seed)["model.norm.weight"] for seed in range(300)]
    assert (torch.stack(found).mean(0) - expected).norm() < 0.15 * expected.norm()


def test_sensitivity_is_the_mean_over_examples_of_the_absolute_gradient(language):
    model, data = net(dtype=torch.float64), batches(2, 2, torch.float64)
    found = importance.sensitivity(context(model), data, examples=None, generator=torch.Generator())
    expected = {name: torch.zeros_like(parameter) for name, parameter in model.named_parameters()}
    for x, _ in data:
        for one in x:
            model.zero_grad()
            model(one[None]).pow(2).sum().backward()
            for name, parameter in model.named_parameters():
                expected[name] += parameter.grad.abs() / 16
    for name, tensor in found.items():
        torch.testing.assert_close(tensor, expected[name], rtol=1e-6, atol=0)

    found = importance.sensitivity(context(language), [sequences()], examples=None, generator=torch.Generator())
    weight = language.model.norm.weight
    grads = []
    for ids, labelled in (([5, 9, 17, 30, 8], (2, 3, 4)), ([7, 40, 11], (1, 2))):
        logits = language(input_ids=torch.tensor([ids])).logits[0]
        grads.append(torch.autograd.grad(sum(logits[t - 1].pow(2).sum() for t in labelled), [weight])[0].abs())
    torch.testing.assert_close(found["model.norm.weight"], (grads[0] + grads[1]) / 2, rtol=1e-6, atol=0)


def test_units_that_an_example_may_not_use_have_no_part():
    model, data = net(dtype=torch.float64), batches(1, 2, torch.float64)
    x, active = data[0][0], torch.tensor([[True, True, False, False, False]] * 8)
    batch = (x, torch.zeros(8, dtype=torch.int64), active)
    for tree in (
        fisher(context(model), [batch], "model"),
        importance.sensitivity(context(model), [batch], examples=None, generator=torch.Generator()),
    ):
        assert not tree["2.weight"][2:].any() and not tree["2.bias"][2:].any() and tree["2.weight"][:2].any()


def test_it_leaves_gradients_modes_and_torchs_random_numbers_alone():
    torch.manual_seed(3)
    model = nn.Sequential(nn.Linear(7, 9), nn.BatchNorm1d(9), nn.Dropout(0.5), nn.Linear(9, 5))
    model[0].bias.requires_grad_(False)
    data = batches(2, 2)
    loss_fn(model, data[0]).backward()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    grads = {name: parameter.grad for name, parameter in model.named_parameters()}
    copies = {name: None if grad is None else grad.clone() for name, grad in grads.items()}
    random = torch.get_rng_state()
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(*map(torch.cat, zip(*data, strict=True))), 4, shuffle=True)
    found = fisher(context(model), loader, "model", examples=5)
    assert "0.bias" not in found and found["0.weight"].any()
    assert torch.equal(random, torch.get_rng_state()) and model.training and model[2].training
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    for name, parameter in model.named_parameters():
        assert parameter.grad is grads[name] and (parameter.grad is None or torch.equal(parameter.grad, copies[name]))


def test_half_precision_is_summed_in_single():
    model, data = net(dtype=torch.bfloat16), batches(3, 2, torch.bfloat16)
    exact = fisher(context(net()), batches(3, 2))
    for name, tensor in fisher(context(model), data).items():
        assert tensor.dtype == torch.float32
        assert (tensor - exact[name]).norm() < 0.05 * exact[name].norm()


def test_examples_are_drawn_uniformly_from_all():
    ctx = context(net())
    ctx.task = Task("t", [], predictions=Predictions())
    numbers = [(torch.arange(start, start + 5)[:, None], torch.arange(start, start + 5)) for start in (0, 5, 10, 15)]
    draw = torch.Generator().manual_seed(0)
    seen = torch.zeros(20)
    for _ in range(1000):
        found = [int(example[1]) for example in importance.draw(ctx, numbers, 6, draw)]
        assert len(found) == len(set(found)) == 6
        seen[found] += 1
    assert ((seen - 300).square() / 300).sum() < 43.8  # chi-square of 19 degrees of freedom at 0.001; drawing without replacement is below
    assert [int(example[1]) for example in importance.draw(ctx, numbers, 50, draw)] == list(range(20))
    assert [int(example[1]) for example in importance.draw(ctx, numbers, None, draw)] == list(range(20))


def test_no_data_and_no_finite_number_are_refused():
    with pytest.raises(InputError, match="gives no batch"):
        fisher(context(net()), [])
    model = net()
    with torch.no_grad():
        model[0].weight.fill_(float("inf"))
    with pytest.raises(ProtectionError, match="is not finite"):
        fisher(context(model), batches(1, 2), "data")
