"""The whole diagnosis on a tiny model: it adds up, in its exact and in its fast mode, and suggests by its rules."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from forgetless.analysis.diagnose import Plan, diagnose, fast_tensors, spread
from forgetless.analysis.suggestion import suggest
from forgetless.analysis.taylor import RatePoint
from forgetless.data.model import Language, load_model
from forgetless.data.question import Question
from forgetless.errors import InputError
from tiny import make_tiny_model

WORDS = ("red", "blue", "green", "white")
RETAIN = [Question(id=f"r{n}", kind="open", prompt=f"old {n} is", answers=(WORDS[n % 4],), subject="ab"[n % 2]) for n in range(8)]
INJECT = [Question(id=f"i{n}", kind="open", prompt=f"new {n} is", answers=(WORDS[n % 3],)) for n in range(6)]
PLAN = Plan(rates=(1e-4, 10.0), curve_items=3, batch_size=3)


@pytest.fixture(scope="module")
def language(tmp_path_factory: pytest.TempPathFactory) -> Language:
    return load_model(str(make_tiny_model(tmp_path_factory.mktemp("model"), hidden=16, layers=4)))


@pytest.fixture(scope="module")
def found(language: Language) -> dict[str, Any]:
    return diagnose(language, RETAIN, INJECT, PLAN)


def test_it_is_json_and_adds_up(found: dict[str, Any]) -> None:
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert found["n"] == {"retain": 8, "inject": 6, "weights": found["conflict"]["all"]["weights"], "groups": {"a": 4, "b": 4}}
    inner = [item["inner"] for item in found["items"]]
    assert inner == sorted(inner) and [item["rank"] for item in found["items"]] == [1, 2, 3, 4, 5, 6]
    assert sum(inner) / 6 == pytest.approx(found["similarity"]["inner"], rel=1e-4)
    for item in found["items"]:
        assert item["predicted_change"] == pytest.approx(-PLAN.lr * item["inner"])
        assert sum(group["inner"] for group in item["groups"].values()) / 2 == pytest.approx(item["inner"], rel=1e-4, abs=1e-9)
    assert found["against"] == sum(value < 0 for value in inner)
    rows = [row for row in found["histogram"] if row["from"] > 0]
    assert sum(row["below"] for row in rows) == found["conflict"]["all"]["conflicting"]
    assert [row["name"] for row in found["conflict"]["by_layer"]] == ["0", "1", "2", "3", "outside"]


def test_the_curve_ends_where_it_breaks(found: dict[str, Any]) -> None:
    assert found["trusted"] == {"sgd": 1e-4, "adamw": 1e-4} and found["refresh"]["lr"] == 1e-4
    assert [row["steps"] for row in found["refresh"]["turned"]] == [1, 4, 16]
    assert found["suggestion"]["lr"] == 1e-4


def test_the_fast_mode_is_told_how_far_it_is_from_the_exact_one(language: Language, found: dict[str, Any]) -> None:
    fast = diagnose(language, RETAIN, INJECT, replace(PLAN, fast=True, check=6, curve_items=0))
    exact = {item["id"]: item["inner"] for item in found["items"]}
    quick = {item["id"]: item["inner"] for item in fast["items"]}
    assert fast["ranking"]["mode"] == "last layers" and 0 < fast["ranking"]["fast_weights"] < 1
    assert quick != pytest.approx(exact, rel=0.01)
    from scipy.stats import spearmanr

    order = sorted(exact)
    rank = spearmanr([exact[one] for one in order], [quick[one] for one in order]).statistic
    assert fast["ranking"]["fast_against_exact"]["spearman"] == pytest.approx(rank)
    assert found["ranking"]["fast_against_exact"]["spearman"] == pytest.approx(rank), "the exact mode tells what the fast one would have"
    assert fast["similarity"]["inner"] == pytest.approx(found["similarity"]["inner"], rel=1e-3), "conflict is over all weights in both"
    assert fast["curve"] == {} and fast["refresh"]["turned"] == [] and fast["suggestion"]["lr"] is None


def test_the_fast_mode_looks_at_a_quarter_of_the_layers(language: Language) -> None:
    assert {name.split(".")[2] for name in fast_tensors(language.model, None) if ".layers." in name} == {"3"}
    assert {name.split(".")[2] for name in fast_tensors(language.model, 2) if ".layers." in name} == {"2", "3"}


def test_a_model_without_numbers_and_empty_sets_are_refused(language: Language) -> None:
    with pytest.raises(InputError, match="--inject"):
        diagnose(language, RETAIN, [], PLAN)
    with pytest.raises(InputError, match="--retain"):
        diagnose(language, [], INJECT, PLAN)
    kept = language.model.model.norm.weight.clone()
    with torch.no_grad():
        language.model.model.norm.weight[0] = math.nan
    try:
        with pytest.raises(InputError, match="not a finite number"):
            diagnose(language, RETAIN, INJECT, PLAN)
    finally:
        with torch.no_grad():
            language.model.model.norm.weight.copy_(kept)


@pytest.mark.parametrize(
    "options",
    [{"lr": 0.0}, {"lr": math.nan}, {"rates": (1e-3, -1.0)}, {"rates": ()}, {"curve_items": -1}, {"last_layers": 0}, {"check": 2},
     {"group_by": "colour"}, {"batch_size": 0}, {"hold_bytes": 0}, {"lr": True}],
    ids=str,
)  # fmt: skip
def test_options_out_of_range_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=next(iter(options)).replace("_", ".")):
        Plan(**options)


def test_places_are_spread_from_end_to_end() -> None:
    assert spread(10, 4) == [0, 3, 6, 9] and spread(3, 5) == [0, 1, 2] and spread(9, 1) == [0] and spread(5, 0) == []


def test_the_suggestion_follows_its_rules() -> None:
    good, bad = RatePoint(1e-5, (), (), 0.95, 1.0, 1.0), RatePoint(1e-4, (), (), 0.2, 1.0, 1.0)

    def advice(cosine: float, inner: list[float], turns: list[tuple[int, float]], points: list[RatePoint]) -> dict[str, Any]:
        seen: Any = SimpleNamespace(cosine=cosine, whole=SimpleNamespace(share=0.4))
        return suggest(seen, torch.tensor(inner, dtype=torch.float64), {"adamw": points}, turns, 1e-5)

    friendly = advice(0.3, [1, 1, 1], [(1, 0.0)], [good, bad])
    assert (friendly["method"], friendly["lr"]) == ("none", 1e-5) and len(friendly["reasons"]) == 2
    assert advice(0.3, [1, 1, 1], [(1, 0.0)], [bad])["lr"] is None
    hostile = advice(-0.1, [1, -1], [(1, 0.01), (4, 0.08), (16, 0.4)], [good, bad])
    assert (hostile["method"], hostile["lr"]) == ("auto", None), "it has a rate of its own"
    assert "refreshed every 4 steps: after 4 steps at lr 1e-05 8% " in hostile["reasons"][1]
    assert advice(0.3, [1, 1, -1], [(1, 0.3)], [good])["method"] == "auto"
    assert "refreshed at every step: after 1 step at lr 1e-05 20% " in advice(-0.1, [1, -1], [(1, 0.2)], [bad])["reasons"][1]
    assert not any("refreshed" in reason for reason in advice(0.0, [1, -1], [], [])["reasons"])
