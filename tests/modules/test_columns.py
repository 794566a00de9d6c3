import pytest
import torch
from torch import nn

from forgetless.errors import InputError
from forgetless.modules.columns import ColumnNet


def filled(model, seed=0):
    """The model in float64 with random weights everywhere."""
    draw = torch.Generator().manual_seed(seed)
    model.double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.5 * torch.randn(parameter.shape, generator=draw, dtype=torch.float64))
    return model


def mlp():
    return nn.Sequential(nn.Flatten(), nn.Linear(6, 4), nn.Tanh(), nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2))


def grown(adapter, first, columns=3):
    model = ColumnNet(first, 0)
    for task in range(1, columns):
        model.add(task, adapter, seed=task)
    return filled(model)


def test_one_column_is_the_model_itself():
    first = mlp()
    x = torch.randn(5, 2, 3)
    assert torch.equal(ColumnNet(first, 0)(x), first(x))


def by_hand(model, x, lateral):
    """Eq. 1 and 2 for the columns of `mlp`, one example and one unit at a time; gives the answer of every column."""
    hidden, found = [], []
    for k, column in enumerate(model.columns):
        layers = [column[1], column[3], column[5]]
        h, own = x.flatten(), []
        for i, layer in enumerate(layers):
            total = [sum(layer.weight[n, m] * h[m] for m in range(len(h))) + layer.bias[n] for n in range(layer.out_features)]
            if i and k:
                extra = lateral(model.laterals[k][i - 1], [hidden[j][i - 1] for j in range(k)])
                total = [a + b for a, b in zip(total, extra, strict=True)]
            h = torch.stack(total)
            if i < 2:
                h = torch.tanh(h)
                own.append(h)
        hidden.append(own)
        found.append(h)
    return found


def eq1(lateral, inputs):
    return [sum(u.weight[n] @ h for u, h in zip(lateral.weights, inputs, strict=True)) for n in range(lateral.weights[0].out_features)]


def eq2(lateral, inputs):
    joined = torch.cat([lateral.scales[j] * h for j, h in enumerate(inputs)])
    reduced = [max(torch.zeros(()), lateral.reduce.weight[n] @ joined + lateral.reduce.bias[n]) for n in range(len(inputs[0]))]
    return [sum(lateral.weight.weight[n, m] * reduced[m] for m in range(len(reduced))) for n in range(lateral.weight.out_features)]


@pytest.mark.parametrize(("adapter", "lateral"), [("linear", eq1), ("mlp", eq2)])
def test_three_columns_equal_the_paper_written_out_unit_by_unit(adapter, lateral):
    model, x = grown(adapter, mlp()), torch.randn(2, 2, 3, dtype=torch.float64)
    expected = [by_hand(model, example, lateral) for example in x]
    for column in range(3):
        model.active = column
        torch.testing.assert_close(model(x), torch.stack([each[column] for each in expected]), rtol=0, atol=1e-12)


def test_pinned_two_columns_of_single_units():
    model = ColumnNet(nn.Sequential(nn.Linear(1, 1, bias=False), nn.ReLU(), nn.Linear(1, 1, bias=False)), 0)
    model.add(1, "mlp", 0)
    with torch.no_grad():
        for (_, parameter), value in zip(model.named_parameters(), [2, 3, 5, 7, 0.5, 11, 1, 13], strict=True):
            parameter.fill_(value)
    assert [name for name, _ in model.named_parameters()][4:] == [
        "laterals.1.0.scales",
        "laterals.1.0.reduce.weight",
        "laterals.1.0.reduce.bias",
        "laterals.1.0.weight.weight",
    ]
    # h1 = 2, h2 = 5; 7 * 5 + 13 * relu(11 * 0.5 * 2 + 1) = 35 + 156
    assert model(torch.ones(1, 1)).item() == 191.0
    model.active = 0
    assert model(torch.ones(1, 1)).item() == 6.0


@pytest.mark.parametrize("adapter", ["linear", "mlp"])
def test_conv_columns_equal_the_paper_written_out(adapter):
    first = nn.Sequential(
        nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.MaxPool2d(2)),
        nn.Conv2d(3, 2, 2, padding=1),
        nn.Tanh(),
        nn.Flatten(),
        nn.Linear(32, 2),
    )
    model = grown(adapter, first, columns=2)
    x = torch.randn(4, 1, 8, 8, dtype=torch.float64)
    one, two = model.columns
    h1 = [torch.relu(c[0][0](x)) for c in (one, two)]
    h1 = [nn.functional.max_pool2d(h, 2) for h in h1]
    a, b = model.laterals[1]
    if adapter == "linear":
        into_conv = nn.functional.conv2d(h1[0], a.weights[0].weight, padding=1)
    else:
        into_conv = nn.functional.conv2d(torch.relu(a.reduce(a.scales[0] * h1[0])), a.weight.weight, padding=1)
    h2 = [torch.tanh(one[1](h1[0])).flatten(1), torch.tanh(two[1](h1[1]) + into_conv).flatten(1)]
    seen = h2[0] if adapter == "linear" else torch.relu(b.reduce(b.scales[0] * h2[0]))
    into_linear = seen @ (b.weights[0] if adapter == "linear" else b.weight).weight.T
    torch.testing.assert_close(model(x), two[4](h2[1]) + into_linear, rtol=0, atol=1e-12)


def test_a_new_column_depends_on_its_seed_alone_and_uses_up_no_random_numbers():
    made = []
    for global_seed in (0, 1):
        torch.manual_seed(5)
        model = ColumnNet(mlp(), 0)
        torch.manual_seed(global_seed)
        state = torch.get_rng_state()
        model.add(1, "mlp", seed=9)
        assert torch.equal(torch.get_rng_state(), state)
        made.append(model.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(made[0].values(), made[1].values(), strict=True))
    weights = [value for name, value in made[0].items() if name.endswith("1.weight")]
    assert not torch.equal(weights[0], weights[1]), "the second column is not a copy of the first"


def test_adding_freezes_what_stands_and_drops_its_gradients():
    model = ColumnNet(mlp(), 0)
    model(torch.randn(3, 6)).sum().backward()
    model.add(1, "linear", 0)
    frozen = list(model.columns[0].parameters())
    assert all(not p.requires_grad and p.grad is None for p in frozen)
    assert all(p.requires_grad for name, p in model.named_parameters() if not name.startswith("columns.0."))
    model(torch.randn(3, 6)).sum().backward()
    assert all(p.grad is None for p in frozen)
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)


def test_statistics_of_frozen_columns_stand_in_training():
    model = ColumnNet(nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 2)), 0)
    model(torch.randn(8, 6))
    model.add(1, "mlp", 0)
    model.train()
    old = [column[1].running_mean.clone() for column in model.columns]
    model(torch.randn(8, 6))
    assert [torch.equal(column[1].running_mean, mean) for column, mean in zip(model.columns, old, strict=True)] == [True, False]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
@pytest.mark.parametrize("adapter", ["linear", "mlp"])
def test_new_columns_have_the_dtype_of_the_first(dtype, adapter):
    model = ColumnNet(mlp().to(dtype), 0)
    model.add(1, adapter, 0)
    assert {parameter.dtype for parameter in model.parameters()} == {dtype}
    assert model(torch.randn(3, 6, dtype=dtype)).dtype == dtype


class Own(nn.Sequential):
    """A network whose forward is not that of a Sequential."""

    def forward(self, x):
        return super().forward(x) + 1


@pytest.mark.parametrize(
    ("model", "what"),
    [
        (nn.Sequential(nn.Linear(2, 2), nn.LSTM(2, 2)), "a LSTM"),
        (Own(nn.Linear(2, 2)), "an? Own"),
        (nn.Sequential(nn.Linear(2, 2), nn.MultiheadAttention(2, 1)), "a MultiheadAttention"),
        (nn.Sequential(nn.ReLU()), "without a linear or conv layer"),
    ],
)
def test_what_cannot_become_a_column_is_named_with_what_to_use_instead(model, what):
    with pytest.raises(InputError, match=f"{what}.*lora"):
        ColumnNet(model, 0)
