import pytest
import torch
from scipy.stats import chisquare

from forgetless.core.predictions import Predictions
from forgetless.core.state import load_state, save_state
from forgetless.errors import InputError
from forgetless.memory.reservoir import Reservoir


def test_a_reservoir_is_uniform_over_all_that_was_offered():
    """Chi-square over 4,000 reservoirs of 5 out of 40: every example is held equally often."""
    held = [0] * 40
    for seed in range(4000):
        reservoir = Reservoir(5, seed)
        for value in range(40):
            reservoir.offer((torch.tensor([value]),))
        assert len(reservoir) == 5
        for (value,) in reservoir.store.examples:
            held[int(value)] += 1
    assert sum(held) == 20_000
    assert chisquare(held).pvalue > 0.001


@pytest.mark.parametrize("held", [1, 3, 500])
def test_places_drawn_at_once_are_those_drawn_one_after_another(held):
    at_once, by_parts, singly = (Reservoir(held, seed=5) for _ in range(3))
    for reservoir in (at_once, by_parts, singly):
        for _ in range(held):
            reservoir.offer(torch.zeros(1, 2))
    drawn = at_once.draw(40)
    assert drawn == by_parts.draw(4) + by_parts.draw(36) == [singly.draw(1)[0] for _ in range(40)]
    assert drawn == [int(torch.randint(held, (1,), generator=g)) for g in [torch.Generator().manual_seed(5)] for _ in range(40)]


def test_the_state_round_trips_through_safetensors_and_draws_on_alike(tmp_path):
    reservoir = Reservoir(4)
    for value in range(9):
        reservoir.offer(
            {"input_ids": torch.full((1, 2 + value % 3), value), "labels": torch.tensor([[value]])}, {"logits": torch.randn(1, 3)}
        )
    save_state(tmp_path / "state", reservoir.state_dict())
    again = Reservoir(4, seed=9)
    again.load_state_dict(load_state(tmp_path / "state"))
    for one in (reservoir, again):
        one.offer({"input_ids": torch.ones(1, 2), "labels": torch.ones(1, 1)}, {"logits": torch.ones(1, 3)})
    places = reservoir.draw(6)
    assert again.draw(6) == places
    batch, same = (one.store.batch(places, Predictions(), "cpu") for one in (reservoir, again))
    assert torch.equal(batch["input_ids"], same["input_ids"])
    assert torch.equal(reservoir.store.extra("logits", places, "cpu"), again.store.extra("logits", places, "cpu"))


def test_what_it_keeps_is_its_own():
    x = torch.zeros(1, 2)
    reservoir = Reservoir(1)
    reservoir.offer((x,))
    x.add_(1)
    assert reservoir.store.examples[0][0].sum() == 0


def test_a_capacity_of_nothing_is_refused():
    with pytest.raises(InputError, match="capacity"):
        Reservoir(0)
