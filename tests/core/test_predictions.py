from types import SimpleNamespace

import pytest
import torch

from forgetless.core.predictions import INACTIVE, Predictions
from forgetless.errors import InputError
from nets import net

READ = Predictions()


def test_a_classifier_has_a_row_an_example_and_may_be_told_its_units():
    model = net()
    x, y = torch.randn(4, 7), torch.tensor([0, 1, 2, 3])
    active = torch.tensor([[True, True, False, False, False]] * 4)
    out = READ.outputs(model, (x, y, active))
    assert torch.equal(READ.logits(out, (x, y)), out)
    masked = READ.logits(out, (x, y, active))
    assert torch.equal(masked[:, :2], out[:, :2]) and (masked[:, 2:] == INACTIVE).all()
    assert torch.equal(READ.logits(out, (x, y, active), every=True), out)
    assert READ.owners((x, y)).tolist() == [0, 1, 2, 3]
    again = READ.collate(READ.examples((x, y, active)))
    assert all(torch.equal(a, b) for a, b in zip(again, (x, y, active), strict=True))


def test_a_language_model_has_a_row_a_labelled_position():
    labels = torch.tensor([[-100, -100, 5, 6], [-100, 7, -100, -100]])
    batch = {
        "input_ids": torch.tensor([[1, 2, 5, 6], [3, 7, 0, 0]]),
        "attention_mask": torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]]),
        "labels": labels,
    }
    logits = torch.randn(2, 4, 9)
    rows = READ.logits(SimpleNamespace(logits=logits), batch)
    assert torch.equal(rows, torch.stack([logits[0, 1], logits[0, 2], logits[1, 0]]))
    assert READ.labels(batch).tolist() == [5, 6, 7]
    assert READ.owners(batch).tolist() == [0, 0, 1]
    other = READ.with_labels(batch, torch.tensor([8, 8, 4]))
    assert other["labels"].tolist() == [[-100, -100, 8, 8], [-100, 4, -100, -100]]
    first, second = READ.examples(batch)
    assert READ.collate([second])["input_ids"].tolist() == [[3, 7]], "padding that all examples share is cut"
    both = READ.collate([READ.collate([second]), first])
    assert both["labels"].tolist() == [[-100, 7, -100, -100], [-100, -100, 5, 6]]


def test_a_batch_is_cut_into_what_each_example_has_and_what_belongs_to_all():
    batch = {
        "input_ids": torch.arange(6).view(3, 2),
        "pair": (torch.arange(3), "name"),
        "scale": torch.tensor(2.0),
        "kind": "text",
        "more": {},
    }
    cut = READ.examples(batch)
    assert [one["input_ids"].tolist() for one in cut] == [[[0, 1]], [[2, 3]], [[4, 5]]]
    assert [one["pair"][0].tolist() for one in cut] == [[0], [1], [2]]
    assert all((one["pair"][1], one["scale"].item(), one["kind"], one["more"]) == ("name", 2.0, "text", {}) for one in cut)
    assert READ.examples((torch.zeros(0, 2), torch.zeros(0))) == []


def test_outputs_without_logits_are_refused():
    with pytest.raises(InputError, match="holds no logits"):
        READ.logits(SimpleNamespace(loss=1), {"labels": torch.zeros(1)})
