import itertools
import json

import pytest

from forgetless.advice.options import CHOICES
from forgetless.advice.recommend import Situation, recommend
from forgetless.errors import InputError
from forgetless.methods import METHODS
from forgetless.train.settings import build_method, parse_method_args

BASE = {"old_data": True, "headroom": 10e9, "tasks": 1, "task_known": False, "kind": "language", "parameters": 135e6, "loss": 0.01}


def names(**changes):
    return [choice["method"] for choice in recommend(Situation(**BASE | changes))["choices"]]


def test_every_choice_can_be_built_and_says_what_the_methods_say():
    for choice in CHOICES:
        built = build_method(choice.methods, parse_method_args(choice.arguments, choice.methods), METHODS)
        assert built.needs_task_id == choice.task_identity, choice.name
        assert choice.old_data or not built.needs_retain, choice.name


@pytest.mark.parametrize("old", [True, False])
def test_of_a_language_model_the_recipe_comes_first(old):
    assert names(old_data=old)[0] == "auto"


def test_with_old_data_and_one_task_replay_comes_first_of_the_others():
    assert names()[1] == "replay"
    assert names(kind="classifier")[0] == "replay"


def test_when_next_to_nothing_may_be_lost_a_brake_is_added_to_replay():
    assert names(loss=0.001, kind="classifier")[0] == "replay,cpl"


def test_without_old_data_nothing_that_needs_it_is_named():
    found = names(old_data=False)
    assert not {"replay", "cpl", "agem"} & set(found) and "kl" in found


def test_over_several_tasks_nothing_that_keeps_examples_is_named_where_none_may_be_kept():
    assert "auto" in names(tasks=4) and "auto" in names(old_data=False)
    for kind in ("language", "classifier"):
        found = names(tasks=4, old_data=False, kind=kind)
        assert not any(METHODS[name].keeps_examples for choice in found for name in choice.split(","))
        assert found[:2] == ["generative-replay", "null-space"], "as docs/results/choose.md says"


def test_an_adapter_that_training_merges_is_no_promise_for_one_task():
    assert "lora" in names(task_known=True, tasks=2) and "lora" not in names(task_known=True)


def test_a_known_task_makes_the_exact_methods_first():
    assert names(task_known=True, tasks=5, old_data=False)[0] in ("lora", "packnet", "supermask")


def test_memory_rules_out_what_does_not_fit():
    found = recommend(Situation(**BASE | {"headroom": 0.1e9, "old_data": False}))
    assert "kl" not in [choice["method"] for choice in found["choices"]]
    assert {"method": "kl", "why": "it needs about 0.54 GB more than plain training"} in found["ruled_out"]


def test_every_situation_gets_a_choice_with_reasons_and_a_command():
    for old, tasks, known, kind, loss in itertools.product(
        (True, False), (1, 7), (True, False), ("language", "classifier", "sequential"), (0, 0.2)
    ):
        situation = Situation(old, 1e9, tasks, known, kind, 1e6, loss)
        found = recommend(situation, "M")
        assert found["choices"][-1]["method"] == "none"
        assert all(choice["reasons"] and choice["command"] for choice in found["choices"])
        assert len(found["choices"]) + len(found["ruled_out"]) == len(CHOICES) + 1
        if not old:
            assert "--retain" not in found["choices"][0]["command"]


@pytest.mark.parametrize(
    ("change", "option"),
    [
        ({"kind": "robot"}, "--kind"),
        ({"headroom": -1}, "--headroom-gb"),
        ({"tasks": 0}, "--tasks"),
        ({"parameters": float("nan")}, "--parameters"),
        ({"loss": 2}, "--acceptable-loss"),
    ],
)
def test_nonsense_is_refused(change, option):
    with pytest.raises(InputError, match=option):
        Situation(**BASE | change)


def test_the_list_says_that_the_recipe_does_without_old_data_and_replay_does_not():
    from typer.testing import CliRunner

    from forgetless.cli.main import app

    found = CliRunner().invoke(app, ["methods", "--json"])
    told = {row["name"]: row["needs_old_data"] for row in json.loads(found.stdout)}
    assert told["auto"] is told["null-space"] is told["kl"] is False
    assert told["replay"] is told["cpl"] is told["derpp"] is True


def test_a_time_without_old_data_is_told_where_it_is_another():
    auto = next(choice for choice in CHOICES if choice.name == "auto")
    for old_data, times in ((True, auto.compute), (False, auto.alone)):
        reasons = next(
            one["reasons"] for one in recommend(Situation(**BASE | {"old_data": old_data}))["choices"] if one["method"] == "auto"
        )
        assert any(f"about {times:g} times plain" in reason for reason in reasons)
