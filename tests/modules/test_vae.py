import math

import pytest
import torch

from forgetless.errors import InputError
from forgetless.modules.vae import VAE, VAEGenerator, inputs


def patterns(low, count=10):
    """Batches of 20 pixels; ten from ``low`` on are mostly 1, the others mostly 0."""
    chances = torch.full((20,), 0.1)
    chances[low : low + 10] = 0.9
    draw = torch.Generator().manual_seed(0)
    return [((torch.rand(32, 20, generator=draw) < chances).float(), None) for _ in range(count)]


@pytest.mark.parametrize("binary", [True, False])
def test_the_loss_is_the_definition_example_by_example(binary):
    torch.manual_seed(0)
    vae = VAE(5, (8,), 3, binary).double()
    x, noise = torch.rand(4, 5, dtype=torch.float64), torch.randn(4, 3, dtype=torch.float64)
    distance = divergence = squares = 0.0
    for row, e in zip(x, noise, strict=True):
        h = torch.relu(vae.encoder[0](row))
        mean, log_variance = vae.heads(h)[:3], vae.heads(h)[3:]
        z = mean + torch.sqrt(torch.exp(log_variance)) * e
        made = vae.decoder(z)
        for a, b in zip(row.tolist(), made.tolist(), strict=True):
            p = 1 / (1 + math.exp(-b))
            distance -= a * math.log(p) + (1 - a) * math.log(1 - p)
            squares += (a - b) ** 2
        for m, v in zip(mean.tolist(), log_variance.exp().tolist(), strict=True):
            divergence += 0.5 * (v + m * m - 1 - math.log(v))
    expected = distance / 4 if binary else 0.5 * 5 * math.log(squares / 20 + 1e-8)
    assert vae.loss(x, noise).item() == pytest.approx(expected + divergence / 4, rel=1e-10)


def test_learning_pixels_lowers_its_loss_and_samples_look_like_them():
    maker, draw = VAEGenerator((32,), 4, steps=100, lr=1e-2), torch.Generator().manual_seed(0)
    losses = maker.learn(patterns(0), draw)
    assert len(losses) == 100 and maker.learned == 1 and maker.vae.binary
    assert sum(losses[-10:]) / 10 < sum(losses[:10]) / 10 - 3, "nats of an example"
    made = maker.sample(200, draw).mean(0)
    assert made[:10].min() > 0.75 and made[10:].max() < 0.25


def test_learning_unbounded_inputs_lowers_its_loss_and_samples_lie_where_they_do():
    maker, draw = VAEGenerator((32,), 2, steps=150, lr=1e-2), torch.Generator().manual_seed(0)
    losses = maker.learn([3 + torch.randn(32, 6, generator=draw) for _ in range(20)], draw)
    assert not maker.vae.binary and losses[-1] < losses[0] - 4
    assert (maker.sample(200, draw).mean(0) - 3).abs().max() < 0.5


def test_a_second_task_is_learned_together_with_samples_of_the_first():
    both, new = VAEGenerator((32,), 4, steps=100, lr=1e-2), VAEGenerator((32,), 4, steps=100, lr=1e-2)
    for low in (0, 10):
        both.learn(patterns(low), torch.Generator().manual_seed(0))
        new.learn(patterns(low), torch.Generator().manual_seed(0))
        new.learned = 0  # forgets that there was a first task
    made = [maker.sample(300, torch.Generator().manual_seed(1)) for maker in (both, new)]
    share = [float((x[:, :10].mean(1) > 0.5).float().mean()) for x in made]
    assert 0.3 < share[0] < 0.7 and share[1] < 0.05


def test_sampling_four_and_four_is_sampling_eight_and_state_goes_on():
    maker = VAEGenerator((64,), 20)
    maker.learn([torch.rand(16, 3, 2, dtype=torch.float64)] * 3, torch.Generator().manual_seed(0))
    whole = maker.sample(8, torch.Generator().manual_seed(1))
    draw = torch.Generator().manual_seed(1)
    parts = torch.cat([maker.sample(4, draw), maker.sample(4, draw)])
    assert whole.shape == (8, 3, 2) and whole.dtype == torch.float64
    torch.testing.assert_close(parts, whole, rtol=0, atol=1e-14)
    again = VAEGenerator((64,), 20, seed=9)
    again.load_state_dict(maker.state_dict())
    assert torch.equal(again.sample(8, torch.Generator().manual_seed(1)), whole)


def test_it_leaves_torchs_random_numbers_alone():
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    VAEGenerator((8,), 2).learn(patterns(0, 2), torch.Generator())
    assert torch.equal(torch.rand(3), expected)


def test_the_inputs_of_a_batch():
    x = torch.rand(2, 3)
    assert inputs(x) is x and inputs((x, 1)) is x and inputs({"labels": torch.rand(2), "pixel_values": x}) is x
    for batch in (torch.tensor([1]), {"a": x, "b": x}, {"input_ids": torch.tensor([1])}, ("text", 1)):
        with pytest.raises(InputError, match="no float inputs"):
            inputs(batch)
