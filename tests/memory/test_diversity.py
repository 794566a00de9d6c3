import pytest
import torch
from torch import nn

from forgetless.core.context import Context
from forgetless.core.state import load_state, save_state
from forgetless.core.task import Task
from forgetless.errors import InputError
from forgetless.memory.diversity import Coverage, features, k_centres
from forgetless.memory.store import Store
from language import language_batches, language_loss, language_model
from nets import batches, loss_fn, net


def context(model=None, loss=loss_fn):
    model = model or net(dtype=torch.float64)
    return Context(model, torch.optim.SGD(model.parameters(), lr=0.1), Task("now", []), loss, dict(model.named_parameters()))


def examples(count, seed, shift=0.0):
    draw = torch.Generator().manual_seed(seed)
    return [(torch.randn(1, 7, generator=draw, dtype=torch.float64) + shift, torch.tensor([0])) for _ in range(count)]


def test_k_centres_are_those_of_the_obvious_loop():
    points = torch.randn(60, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    mean = points.mean(0)
    chosen = [min(range(60), key=lambda i: float((points[i] - mean).norm()))]
    while len(chosen) < 12:
        chosen.append(
            max((i for i in range(60) if i not in chosen), key=lambda i: min(float((points[i] - points[c]).norm()) for c in chosen))
        )
    assert k_centres(points, 12) == chosen
    assert k_centres(points, 7) == chosen[:7], "a selection is the beginning of a larger one"


def test_k_centres_on_a_line():
    """Mean 4: first 3 (nearest), then 11 (distance 8), then 0 (3), then 6."""
    assert k_centres(torch.tensor([[0.0], [3.0], [6.0], [11.0], [0.0]]), 4) == [1, 3, 0, 2]


def test_copies_are_chosen_only_when_nothing_else_is_left_and_never_twice():
    assert sorted(k_centres(torch.zeros(4, 2), 9)) == [0, 1, 2, 3]


def test_it_covers_rare_kinds_that_a_uniform_sample_of_that_size_mostly_misses():
    memory = Coverage(4)
    memory.take(context(), examples(97, 0) + examples(3, 1, shift=30.0))
    assert sum(float(x.mean()) > 15 for x, _ in memory.store.examples) >= 1


def test_every_task_gets_its_share_and_keeps_the_first_chosen():
    memory, ctx = Coverage(12), context()
    memory.take(ctx, examples(30, 0))
    first = [x for x, _ in memory.store.examples]
    memory.take(ctx, examples(30, 1))
    assert memory.counts == [6, 6] and len(memory) == 12
    memory.take(ctx, examples(2, 2))
    assert memory.counts == [5, 5, 2], "what a small task leaves goes to the others"
    assert all(torch.equal(a, b[0]) for a, b in zip(first[:5], memory.store.examples, strict=False))


def test_the_features_are_what_the_last_linear_layer_gets():
    ctx, store = context(), Store()
    for example in examples(70, 3):
        store.add(example)
    x = torch.cat([e[0] for e in store.examples])
    torch.testing.assert_close(features(ctx, store), ctx.model[:2](x).detach().float())


def test_without_a_linear_layer_they_are_the_logits():
    model = nn.Sequential(nn.Conv1d(1, 5, 7), nn.Flatten()).double()
    store = Store()
    store.add((torch.randn(1, 1, 7, dtype=torch.float64), torch.tensor([0])))
    torch.testing.assert_close(features(context(model), store), model(store.examples[0][0]).detach().float())


def test_for_a_language_model_they_are_the_mean_hidden_state_at_the_predicted_positions():
    model = language_model()
    ctx, store = context(model, language_loss), Store()
    batch = language_batches(1, seed=1)[0]
    for example in ctx.task.predictions.examples(batch):
        store.add(example)
    hidden = model(**batch, output_hidden_states=True).hidden_states[-1]
    expected = [hidden[row, :-1][batch["labels"][row, 1:] != -100].mean(0) for row in range(4)]
    torch.testing.assert_close(features(ctx, store), torch.stack(expected).detach())


def test_the_state_round_trips_through_safetensors(tmp_path):
    memory, ctx = Coverage(6), context()
    memory.take(ctx, examples(20, 0))
    save_state(tmp_path / "state", memory.state_dict())
    again = Coverage(6)
    again.load_state_dict(load_state(tmp_path / "state"))
    for one in (memory, again):
        one.take(ctx, examples(20, 1))
    assert all(torch.equal(a[0], b[0]) for a, b in zip(memory.store.examples, again.store.examples, strict=True))


def test_a_task_without_examples_changes_nothing():
    memory = Coverage(3)
    memory.take(context(), [])
    assert len(memory) == 0 and memory.counts == []


def test_a_capacity_of_nothing_is_refused():
    with pytest.raises(InputError, match="capacity"):
        Coverage(0)


def test_it_stays_within_its_capacity_whatever_the_tasks():
    memory, ctx = Coverage(3), context()
    for seed in range(5):
        memory.take(ctx, (example for x, y in batches(2, seed, torch.float64) for example in [(x[:1], y[:1]), (x[1:2], y[1:2])]))
        assert len(memory) == min(3, 4 * (seed + 1)) == sum(memory.counts)
