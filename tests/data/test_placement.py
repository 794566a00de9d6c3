"""Where a model computes, and in which precision."""

import copy

import pytest
import torch

from forgetless.data.model import Language
from forgetless.data.placement import check_placement, place
from forgetless.errors import InputError
from language import language_batches, language_model


def test_bfloat16_rounds_the_weights_and_the_model_still_runs():
    model = language_model()
    before = copy.deepcopy(model)
    language = place(Language(model, None, "tiny"), "cpu", "bfloat16")
    assert language.model is model
    for now, was in zip(model.parameters(), before.parameters(), strict=True):
        assert now.dtype == torch.bfloat16 and now.device.type == "cpu" and torch.equal(now, was.bfloat16())
    (batch,) = language_batches(1, seed=0)
    assert model(**batch).loss.item() == pytest.approx(before(**batch).loss.item(), rel=0.02)


def test_auto_takes_a_gpu_where_there_is_one():
    model = place(Language(language_model(), None, "tiny")).model
    assert next(model.parameters()).device.type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert next(model.parameters()).dtype == torch.float32


@pytest.mark.parametrize(
    ("device", "dtype", "message"),
    [
        ("cuda:99", "float32", "there is no cuda:99 on this machine"),
        ("gpu", "float32", "'gpu' is no device. Give auto"),
        ("meta", "float32", "'meta' is not supported"),
        ("cpu", "float16", "--dtype: 'float16' is not allowed. Give one of float32, bfloat16"),
    ],
)
def test_what_is_not_there_is_refused_by_name(device, dtype, message):
    with pytest.raises(InputError, match=message):
        check_placement(device, dtype)
