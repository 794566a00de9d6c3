import torch
from torch.utils.data import DataLoader, TensorDataset

from forgetless.core.predictions import Predictions
from forgetless.memory.distinct import distinct
from nets import batches

READ = Predictions()


def test_an_example_counts_once_however_often_it_comes():
    (x, y), (u, v) = batches(2, seed=1)
    found = list(distinct([(x, y), (x.flip(0), y.flip(0)), (u, v), (x[:2], y[:2])], READ))
    assert len(found) == 16
    assert torch.equal(torch.cat([e[0] for e in found]), torch.cat([x, u]))
    assert torch.equal(torch.cat([e[1] for e in found]), torch.cat([y, v]))


def test_the_same_input_with_another_label_is_another_example():
    x = torch.ones(2, 3)
    assert len(list(distinct([(x, torch.tensor([0, 1]))], READ))) == 2
    assert len(list(distinct([(x, torch.tensor([1, 1]))], READ))) == 1


def test_examples_to_leave_out():
    x, y = batches(1, seed=1)[0]
    found = list(distinct([(x, y)], READ, but=READ.examples((x[:3], y[:3]))))
    assert torch.equal(torch.cat([e[0] for e in found]), x[3:])


def test_padding_makes_no_difference():
    long = {
        "input_ids": torch.tensor([[5, 6, 0, 0]]),
        "attention_mask": torch.tensor([[1, 1, 0, 0]]),
        "labels": torch.tensor([[-100, 6, -100, -100]]),
    }
    short = {key: value[:, :2] for key, value in long.items()}
    (found,) = distinct([long, short], READ)
    assert found["input_ids"].tolist() == [[5, 6]]


def test_bfloat16_bool_and_empty_tensors():
    batch = (torch.ones(3, 2).bfloat16(), torch.tensor([0, 1, 0]), torch.ones(3, 4, dtype=torch.bool), torch.zeros(3, 0))
    assert len(list(distinct([batch], READ))) == 2


def test_walking_a_shuffling_loader_uses_up_no_random_numbers_and_still_shuffles():
    loader = DataLoader(TensorDataset(torch.arange(50.0)[:, None], torch.zeros(50)), batch_size=7, shuffle=True)
    torch.manual_seed(3)
    before = torch.get_rng_state()
    found = [float(e[0]) for e in distinct(loader, READ)]
    assert torch.equal(torch.get_rng_state(), before)
    assert sorted(found) == list(range(50)) and found != sorted(found)
