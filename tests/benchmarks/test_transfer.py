"""A mask handed to a second task: what is drawn, compared and told."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import raw
import study_claims
import transfer
from forgetless.ops.packing import FROZEN, pack_codes, unpack


def test_a_random_mask_freezes_as_many_weights_of_each_tensor_elsewhere():
    torch.manual_seed(0)
    model = nn.ModuleDict({"a": nn.Linear(40, 30), "b": nn.Linear(7, 5, bias=False)})
    parameters = dict(model.named_parameters())
    mask = {name: pack_codes((torch.rand(p.numel()) < 0.3).to(torch.int8) * FROZEN) for name, p in parameters.items()}
    drawn = transfer.shuffled(parameters, mask, seed=3)
    for name, parameter in parameters.items():
        was, now = (unpack(codes[name], 0, parameter.numel()) == FROZEN for codes in (mask, drawn))
        assert int(was.sum()) == int(now.sum()) and (parameter.numel() < 64 or not torch.equal(was, now))
    total = sum(p.numel() for p in parameters.values())
    frozen = sum(int((unpack(mask[name], 0, p.numel()) == FROZEN).sum()) for name, p in parameters.items())
    assert transfer.compared(model, mask, mask) == {"frozen": frozen / total, "frozen_first": frozen / total, "shared": 1.0}
    assert 0.1 < transfer.compared(model, mask, drawn)["shared"] < 0.5
    assert transfer.compared(model, mask, {}) == {"frozen": 0.0, "frozen_first": 0.0, "shared": None}


def test_the_table_has_sums_and_every_seed():
    row = {"way": "plain", "items": {"second": 36}, "learned": 30, "frozen": 0.0, "shared": None}
    row |= {f"{key}_{name}": value for name in ("A", "B", "first") for key, value in (("lost", 4), ("known", 60))}
    lines = transfer.table([row | {"seed": 1, "learned": 20}, row | {"seed": 0}])
    assert len(lines) == 3
    assert lines[2] == "| plain | 2 | 50 of 72 (30, 20) | 8 of 120 (4, 4) | 8 of 120 (4, 4) | 8 of 120 (4, 4) | 0.0% |  |"


@pytest.mark.parametrize(("learned", "lost", "verdict"), [(33, 3, "holds"), (31, 3, "does not hold"), (36, 6, "does not hold")])
def test_the_claim_on_one_mask_is_judged_against_a_mask_of_its_own(tmp_path, learned, lost, verdict):
    assert study_claims.transferred({}, tmp_path) == study_claims.NOT
    found = {"plain": (36, 12), "the mask of the first task": (learned, lost), "a mask of its own": (36, 2), "a random mask": (36, 9)}
    rows = [
        {"way": way, "seed": seed, "learned": one, "lost_A": 0, "lost_B": other, "shared": 0.75}
        for seed in (0, 1)
        for way, (one, other) in found.items()
    ]
    raw.keep(tmp_path / "transfer.json", rows)
    said, told = study_claims.transferred({}, tmp_path)
    assert said == verdict and "2 seeds" in told and "75%" in told
    assert f"under it: {2 * learned} learned, 0 of A and {2 * lost} of B" in told
