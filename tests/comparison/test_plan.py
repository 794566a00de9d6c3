"""Plans: what they mean, and every mistake told with its line and what to do."""

from __future__ import annotations

import pytest

from forgetless.comparison.cells import cells_of, settings_of
from forgetless.comparison.plan import read_plan
from forgetless.errors import InputError
from forgetless.methods import METHODS

GOOD = """\
model: smollm2-135m
data: {inject: a.jsonl, retain: b.jsonl, probes: {others: c.jsonl}}
methods: [none, {method: "replay,cpl", label: both, options: {cpl.refresh: [2]}}]
rates: [1e-4, 3e-5]
seeds: 3
budget: {epochs: 4, until-learned: 0.9}
batch-size: 4
"""


@pytest.fixture
def write(tmp_path):
    def written(text):
        path = tmp_path / "plan.yaml"
        path.write_text(text, "utf-8")
        return path

    return written


def cells(path):
    return cells_of(read_plan(path), METHODS)


def test_a_plan_is_every_combination_in_order(write):
    found = cells(write(GOOD))
    assert [(cell.label, cell.lr, cell.trial, cell.seed) for cell in found[:4]] == [
        ("none", 1e-4, 0, 0),
        ("none", 1e-4, 0, 1),
        ("none", 1e-4, 0, 2),
        ("none", 3e-5, 1, 0),
    ]
    assert len(found) == len({cell.id for cell in found}) == 2 * 2 * 3
    assert (found[-1].label, found[-1].method, found[-1].options) == ("both", ("replay", "cpl"), {"cpl": {"refresh": 2}})


def test_the_name_of_a_cell_stays_when_the_plan_grows(write):
    before = {cell.id for cell in cells(write(GOOD))}
    grown = GOOD.replace("rates: [", "rates: [1e-3, ").replace("seeds: 3", "seeds: [5, 0, 1, 2]").replace("[none,", "[l2sp, none,")
    assert before < {cell.id for cell in cells(write(grown))}


def test_paths_are_relative_to_the_plan_and_the_settings_are_those_of_the_plan(write, tmp_path):
    plan = read_plan(write(GOOD))
    assert plan.data["data"].files() == {
        name: str(tmp_path / f"{f}.jsonl") for name, f in (("inject", "a"), ("retain", "b"), ("others", "c"))
    }
    settings = settings_of(cells_of(plan, METHODS)[0], plan, {"inject": "x"}, 10)
    assert (settings.epochs, settings.max_steps, settings.until_learned, settings.batch_size) == (4, None, 0.9, 4)


@pytest.mark.parametrize("steps, items, epochs", [(7, 10, 3), (6, 10, 2), (1, 10, 1)])
def test_a_budget_of_steps_allows_just_the_epochs_that_it_needs(write, steps, items, epochs):
    plan = read_plan(write(GOOD.replace("epochs: 4", f"steps: {steps}")))
    settings = settings_of(cells_of(plan, METHODS)[0], plan, {"inject": "x"}, items)
    assert (settings.max_steps, settings.epochs) == (steps, epochs) and settings.planned(-(-items // 4)) == steps


def test_a_budget_of_seconds_leaves_epochs_open(write):
    plan = read_plan(write(GOOD.replace("epochs: 4", "seconds: 1.5")))
    settings = settings_of(cells_of(plan, METHODS)[0], plan, {"inject": "x"}, 10)
    assert settings.max_seconds == 1.5 and settings.epochs > 1e5 and settings.planned(3) is None


def test_as_many_trials_are_drawn_from_each_grid_and_always_the_same(write):
    text = GOOD.replace("[2]", "[1, 2, 4]") + "trials: 2\n"
    found = cells(write(text))
    assert [sorted({cell.trial for cell in found if cell.label == label}) for label in ("none", "both")] == [[0, 1], [0, 1]]
    assert found == cells(write(text))


WRONG = {
    "an unknown key": (GOOD + "colour: red\n", ":8: unknown key 'colour'"),
    "an unknown key inside": (GOOD.replace("retain:", "retian:"), ":2: unknown key 'retian'"),
    "no mapping": ("- a\n- b\n", "it is not a mapping"),
    "nothing": ("", "it is not a mapping"),
    "a tab": ("model: x\ndata:\n\tinject: a\n", ":3: it is not YAML"),
    "no day": (GOOD + "title: 2024-13-45\n", "it is not YAML"),
    "a list for a key": (GOOD.replace("{others: c.jsonl}", "{[a]: c.jsonl}"), ":2: a key is a list or a mapping"),
    "a mapping for a key": (GOOD + "? {a: b}\n: c\n", ":8: a key is a list or a mapping"),
    "a key twice": (GOOD + "seeds: 2\n", ":8: the key 'seeds' stands twice"),
    "no data": (
        GOOD.replace("data:", "title:").replace("{inject: a.jsonl, retain: b.jsonl, probes: {others: c.jsonl}}", "x"),
        "data is missing",
    ),
    "nothing to learn": (GOOD.replace("inject: a.jsonl, ", ""), ":2: data.data: inject is missing"),
    "no method": (GOOD.replace("methods: [", "methods: []\nx: ["), ":3: methods = []"),
    "an unknown method": (GOOD.replace("[none,", "[nonne,"), "plan.yaml:3, methods, nonne: unknown method 'nonne'"),
    "an unknown option": (GOOD.replace("cpl.refresh", "cpl.refrsh"), ":3, methods, both: unknown argument 'refrsh' of method 'cpl'"),
    "an option of which method": (GOOD.replace("cpl.refresh", "refresh"), "of which method 'refresh' is an option"),
    "an option's nonsense": (GOOD.replace("cpl.refresh: [2]", "cpl.refresh: [-1]"), "methods, both"),
    "an option twice": (GOOD.replace("[2]", "[2, 2]"), "or one twice"),
    "a method twice": (GOOD.replace("[none,", "[none, none,"), ":3: methods: 'none' stands twice"),
    "unequal trials": (GOOD.replace("[2]", "[2, 4]"), ":3, methods: methods have different numbers of trials (none 2, both 4)"),
    "too many trials": (GOOD + "trials: 3\n", ":8, trials: none has only 2 combinations"),
    "an unknown optimizer": (GOOD + "optimizers: adamm\n", ":8, optimizers: unknown optimizer 'adamm'"),
    "an unknown optimizer of a method": (
        GOOD.replace("label: both", "label: both, optimizers: adamm"),
        ":3, methods, both: unknown optimizer 'adamm'",
    ),
    "a negative rate": (GOOD.replace("1e-4", "-1e-4"), ":4: rates.0 = -0.0001"),
    "nan": (GOOD.replace("1e-4", "nan"), ":4: rates.0 = nan"),
    "infinity": (GOOD.replace("1e-4", ".inf"), ":4: rates.0 = inf"),
    "a rate twice": (GOOD.replace("3e-5", "1e-4"), ":4: rates: 0.0001 stands twice"),
    "no seed": (GOOD.replace("seeds: 3", "seeds: 0"), ":5: seeds: at least one seed"),
    "no seed in a list": (GOOD.replace("seeds: 3", "seeds: []"), ":5: seeds: at least one"),
    "a seed twice": (GOOD.replace("seeds: 3", "seeds: [1, 1]"), ":5: seeds: 1 stands twice"),
    "a negative seed": (GOOD.replace("seeds: 3", "seeds: [-1]"), ":5: seeds.0 = -1"),
    "true as a seed": (GOOD.replace("seeds: 3", "seeds: true"), ":5: seeds = True"),
    "two budgets": (GOOD.replace("epochs: 4", "epochs: 4, steps: 9"), ":6: budget: give one of"),
    "no budget": (GOOD.replace("epochs: 4, ", ""), ":6: budget: give one of"),
    "half an epoch": (GOOD.replace("epochs: 4", "epochs: 0.5"), ":6: budget.epochs = 0.5"),
    "a level of nothing": (GOOD + "levels: [0]\n", ":8: levels.0 = 0"),
    "all for validation": (GOOD + "validation: 1\n", ":8: validation = 1"),
    "an unknown baseline": (GOOD + "baselines: [kl]\n", ":8: baselines: 'kl' is not among the methods"),
    "a data set out of the folder": (GOOD.replace("data: {", "data: {../x: {").replace("c.jsonl}}", "c.jsonl}}}"), "cannot be the name"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_mistake_is_told_with_its_line(write, name):
    text, told = WRONG[name]
    with pytest.raises(InputError) as caught:
        cells(write(text))
    assert told in str(caught.value) and caught.value.mend


def test_a_plan_that_is_not_there_and_one_that_is_not_text(tmp_path):
    with pytest.raises(InputError, match="it cannot be read"):
        read_plan(tmp_path / "none.yaml")
    (tmp_path / "plan.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="it is not YAML"):
        read_plan(tmp_path / "plan.yaml")
