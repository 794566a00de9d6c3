"""A comparison from the plan to its files: resumed, killed, grown, refused."""

from __future__ import annotations

import json
import os
import shutil
import signal
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from comparison.conftest import run
from forgetless.comparison.inputs import _check_memory
from forgetless.comparison.plan import read_plan
from forgetless.comparison.pool import Processes
from forgetless.comparison.ray_pool import Cluster
from forgetless.comparison.run import compare
from forgetless.comparison.worker import Job, Outcome, perform
from forgetless.errors import InputError
from forgetless.methods import METHODS
from forgetless.train.settings import build_method


def lines(study: Path) -> list[dict]:
    return [json.loads(line) for line in (study / "results.jsonl").read_bytes().splitlines()]


def change(folder: Path, old: str, new: str) -> None:
    text = (folder / "plan.yaml").read_text("utf-8")
    assert old in text
    (folder / "plan.yaml").write_text(text.replace(old, new), "utf-8")


def copy(alone: Path, folder: Path) -> Path:
    """The finished comparison, taken to another folder."""
    shutil.copytree(alone, folder / "study")
    return folder / "study"


def test_every_cell_has_a_row_that_agrees_with_its_run_folder(alone):
    found, study = alone
    rows = lines(study)
    assert [(row["label"], row["lr"], row["seed"]) for row in rows] == [(m, lr, 0) for m in ("none", "replay") for lr in (3e-3, 1e-2)]
    for row in rows:
        cell = study / "cells" / row["cell"]
        summary = json.loads((cell / "summary.json").read_text("utf-8"))
        last = row["trajectory"][-1]["splits"]
        assert (row["steps"], row["epochs"], row["status"]) == (summary["steps"], summary["epochs_run"], "finished")
        assert (last["inject"]["learned"], last["retain-heldout"]["forgotten"]) == (summary["learned"], summary["forgotten_heldout"])
        items = [json.loads(line) for line in (cell / "items.jsonl").read_text("utf-8").splitlines()]
        for name, marks in row["right"].items():
            assert marks == "".join("01"[item["after"]] for item in items if item["split"] == name)
        assert not (cell / "model").exists() and not (cell / "checkpoint").exists()
    assert found == json.loads((study / "comparison.json").read_text("utf-8"))
    costs = [json.loads(line) for line in (study / "costs.jsonl").read_bytes().splitlines()]
    assert all(cost["seconds"] > 0 and cost["peak_memory_bytes"] > 10**7 and cost["machine"]["cores"] for cost in costs)
    assert found["commits"] == sorted({cost["commit"] for cost in costs if cost["commit"]})
    commit = yaml.safe_load((study / "cells" / rows[0]["cell"] / "config.yaml").read_text("utf-8"))["git"]
    assert costs[0]["commit"] == commit and found["commit"] == commit
    assert all(len(cost["seconds_at"]) == len(row["trajectory"]) for cost, row in zip(costs, rows, strict=True))


def test_a_cell_is_what_train_gives_alone(alone, place, capsys):
    from forgetless.cli.main import app

    _, study = alone
    row = lines(study)[2]
    arguments = ["train", "--model", str(place / "model"), "--method", "replay", "--lr", "3e-3", "--epochs", "4", "--batch-size", "4"]
    for name in ("inject", "inject-heldout", "retain", "retain-heldout"):
        arguments += [f"--{name}", str(place / f"{name}.jsonl")]
    arguments += ["--probe", f"other={place / 'other.jsonl'}", "--retain-batch-size", "4", "--out", str(place / "run"), "--json"]
    app(arguments, standalone_mode=False)
    epochs = [json.loads(line) for line in (place / "run/metrics.jsonl").read_text("utf-8").splitlines()]
    assert [line["splits"] for line in epochs if line["kind"] == "epoch"] == [point["splits"] for point in row["trajectory"]]


def test_a_method_that_may_not_see_the_old_data_trains_as_without_it_and_is_scored_on_it(place):
    from forgetless.cli.main import app

    change(place, "[none, replay]", "[{method: auto, old-data: false, options: {texts: 4, length: 4}}]")
    change(place, "[3e-3, 1e-2]", "3e-3")
    run(place)
    (row,) = lines(place / "study")
    assert row["old_data"] is False and "old_data" not in row["options"]
    arguments = [
        "train",
        "--model",
        str(place / "model"),
        "--lr",
        "3e-3",
        "--epochs",
        "4",
        "--batch-size",
        "4",
        "--out",
        str(place / "run"),
    ]
    arguments += ["--inject", str(place / "inject.jsonl"), "--retain-heldout", str(place / "retain-heldout.jsonl"), "--json"]
    app([*arguments, "--method-arg", "auto.texts=4", "--method-arg", "auto.length=4"], standalone_mode=False)
    epochs = [json.loads(line) for line in (place / "run/metrics.jsonl").read_text("utf-8").splitlines()]
    alone = [line["splits"] for line in epochs if line["kind"] == "epoch"]
    for point, without in zip(row["trajectory"], alone, strict=True):
        assert {name: point["splits"][name] for name in without} == without
        assert set(point["splits"]) - set(without) == {"retain", "inject-heldout", "other"}


def test_what_is_finished_is_not_run_again(alone, place):
    _, finished = alone
    study = copy(finished, place)
    before = {path: path.stat().st_mtime_ns for path in (study / "cells").rglob("*")}
    for name in ("results.jsonl", "comparison.json", "costs.jsonl", "items.json"):
        (study / name).write_bytes((study / name).read_bytes()[:-20])  # as if torn in the middle of a line
    plan = read_plan(place / "plan.yaml")
    with pytest.raises(InputError, match="the comparison in it has model"):
        compare(plan, study, no_pool, METHODS, command="", show=False)  # the model of another folder is another model
    change(place, "model: model", f"model: {finished.parent / 'model'}")
    compare(read_plan(place / "plan.yaml"), study, no_pool, METHODS, command="", show=False)
    assert (study / "results.jsonl").read_bytes() == (finished / "results.jsonl").read_bytes()
    assert before == {path: path.stat().st_mtime_ns for path in (study / "cells").rglob("*")}


def no_pool(log: Path):
    raise AssertionError("something was to be run")


def test_more_seeds_only_add_cells_and_a_changed_plan_is_refused_by_what_differs(alone, place):
    _, finished = alone
    study = copy(finished, place)
    change(place, "model: model", f"model: {finished.parent / 'model'}")
    for old, new, told in (
        ("batch-size: 4\nretain", "batch-size: 5\nretain", "the comparison in it has batch-size = 4, this plan 5"),
        (
            "[3e-3, 1e-2]",
            "[3e-3]",
            "the comparison in it has none, adamw at lr 0.01, seed 0, on data, this plan has not (and 1 more cells)",
        ),
        ("{epochs: 4}", "{epochs: 5}", "budget"),
        ("  probes: {other: other.jsonl}\n", "", "the data set 'data' of the comparison in it has other"),
        ("other: other.jsonl", "other: inject-heldout.jsonl", "inject-heldout.jsonl) is not what it was"),
    ):
        text = (place / "plan.yaml").read_text("utf-8")
        change(place, old, new)
        with pytest.raises(InputError) as caught:
            compare(read_plan(place / "plan.yaml"), study, no_pool, METHODS, command="", show=False)
        assert told in str(caught.value)
        (place / "plan.yaml").write_text(text, "utf-8")
    change(place, "seeds: [0]", "seeds: [1, 0]")
    before = {path: path.stat().st_mtime_ns for path in (study / "cells").rglob("*")}
    change(place, "[3e-3, 1e-2]", "[1e-2, 3e-3]")
    found = run(place)
    assert found["cells"]["finished"] == 8 and [row["seed"] for row in lines(study)] == [1, 0] * 4
    assert all(path.stat().st_mtime_ns == when for path, when in before.items() if path.is_file())
    old = {row["cell"]: row for row in lines(finished)}
    assert all({**row, "trial": 0} == {**old[row["cell"]], "trial": 0} for row in lines(study) if row["cell"] in old)


def test_two_at_a_time_give_the_same_bytes(alone, place):
    run(place, jobs=2)
    assert (place / "study/results.jsonl").read_bytes() == (alone[1] / "results.jsonl").read_bytes()


class Cutting(Processes):
    """Processes of which those of one cell are killed as soon as they run, a given number of times."""

    def __init__(self, log: Path, name: str, times: int) -> None:
        super().__init__(log, 1)
        self.name, self.left, self.starts = name, times, []

    def start(self, job: Job):
        running = super().start(job)
        self.starts.append(job.name)
        if self.name in job.name and self.left:
            self.left -= 1
            os.kill(running.process.pid, signal.SIGKILL)
        return running


@pytest.mark.parametrize("times", [1, 2])
def test_a_killed_worker_is_begun_once_more_and_then_told(alone, place, times):
    made = []

    def pool(log: Path) -> Cutting:
        made.append(Cutting(log, "none_adamw_0.01", times))
        return made[0]

    change(place, "[none, replay]", "[none]")
    found = compare(read_plan(place / "plan.yaml"), place / "study", pool, METHODS, command="", show=False)
    assert [name for name in made[0].starts if "0.01" in name] == [lines(alone[1])[1]["cell"]] * 2
    rows = lines(place / "study")
    if times == 1:
        assert found["cells"]["failed"] == 0
    else:
        assert (rows[1]["status"], found["cells"]["failed"]) == ("failed", 1) and "killed (signal 9), 2 times" in rows[1]["reason"]
        assert run(place)["cells"]["failed"] == 0  # the same command tries it again
    assert lines(place / "study") == lines(alone[1])[:2]


def test_a_cell_that_fails_does_not_stop_the_others(alone, place):
    change(place, "rates: [3e-3, 1e-2]", "rates: [1e30, 3e-3]")
    change(place, "[none, replay]", "[none]")
    found = run(place)
    rows = lines(place / "study")
    assert [row["status"] for row in rows] == ["failed", "finished"] and "the loss is nan at step" in rows[0]["reason"]
    assert rows[1]["trajectory"] == lines(alone[1])[0]["trajectory"]
    assert found["problems"][0]["reason"] == rows[0]["reason"] and found["entries"][0]["chosen"]["trial"] == 1


def test_two_comparisons_do_not_work_in_one_folder(place):
    started, go_on = threading.Event(), threading.Event()
    told = []

    def wait(log: Path):
        started.set()
        assert go_on.wait(60)
        raise InputError("enough", where="here")

    def first() -> None:
        with pytest.raises(InputError, match="enough"):
            compare(read_plan(place / "plan.yaml"), place / "study", wait, METHODS, command="", show=False)
        told.append("ended")

    thread = threading.Thread(target=first)
    thread.start()
    assert started.wait(60)
    with pytest.raises(InputError, match="another comparison works in it"):
        compare(read_plan(place / "plan.yaml"), place / "study", no_pool, METHODS, command="", show=False)
    go_on.set()
    thread.join(60)
    assert told == ["ended"] and not (place / "study").exists()  # nothing came of it, so nothing is left


WRONG = {
    "a missing file": (("inject: inject.jsonl", "inject: none.jsonl"), "plan.yaml:4, data data, none, "),
    "a missing probe": (("{other: other.jsonl}", "{other: none.jsonl}"), "plan.yaml:8, data data, none"),
    "an unknown scorer": (
        ("batch-size: 4\nretain", "scorer: guess\nbatch-size: 4\nretain"),
        "plan.yaml:13, data data, none, scorer: 'guess'",
    ),
    "an unknown device": (("batch-size: 4\nretain", "device: guess\nbatch-size: 4\nretain"), "plan.yaml:13, data data, none, --device"),
    "a method without its retain set": (("  retain: retain.jsonl\n", ""), "plan.yaml:3, data data, cpl, --retain: cpl needs a retain set"),
    "a memory of nothing": (("  retain: retain.jsonl\n", ""), "data data, derpp: derpp has no old data to replay"),
    "a memory that is hidden": (
        ("[none, replay]", "[none, {method: replay, old-data: false}]"),
        "data data, replay: replay has no old data to replay",
    ),
    "a memory that is hidden, and nothing made up": (
        ("[none, replay]", "[none, {method: auto, old-data: false, options: {texts: 0, prompted: 0}}]"),
        "data data, auto: auto has no old data to replay",
    ),
    "an item of the retain set in a probe": (("other: other.jsonl", "other: retain.jsonl"), "12 questions stand in both"),
    "an item in two files": (("retain-heldout: retain-heldout.jsonl", "retain-heldout: retain.jsonl"), "stand in both"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_files_are_refused_before_anything_is_written(place, name):
    (old, new), told = WRONG[name]
    change(place, old, new)
    if "old-data" not in new:
        change(place, "[none, replay]", "[none, derpp]" if "derpp" in told else "[none, cpl]")
    with pytest.raises(InputError) as caught:
        compare(read_plan(place / "plan.yaml"), place / "study", no_pool, METHODS, command="", show=False)
    assert told in str(caught.value) and not (place / "study").exists()


@pytest.mark.parametrize("names", [("auto", "kl"), ("replay", "null-space")])
def test_a_chain_that_makes_up_what_is_old_can_do_without_old_data(names):
    _check_memory(SimpleNamespace(label="one", old_data=False), build_method(names, {}, METHODS), {})
    idle = build_method(names, {"null-space" if "null-space" in names else "auto": {"strength": 0.0}}, METHODS)
    with pytest.raises(InputError, match="one has no old data to replay"):
        _check_memory(SimpleNamespace(label="one", old_data=False), idle, {})


def test_an_empty_file_and_a_folder_of_something_else_are_refused(place):
    (place / "inject.jsonl").write_text("")
    with pytest.raises(InputError, match="the file is empty"):
        compare(read_plan(place / "plan.yaml"), place / "study", no_pool, METHODS, command="", show=False)
    (place / "other").mkdir()
    (place / "other" / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match="holds no comparison"):
        compare(read_plan(place / "plan.yaml"), place / "other", no_pool, METHODS, command="", show=False)
    assert [path.name for path in (place / "other").iterdir()] == ["thesis.txt"]
    before = (place / "plan.yaml").read_bytes()
    with pytest.raises(InputError, match="holds no comparison"):  # the folder of the plan itself
        compare(read_plan(place / "plan.yaml"), place, no_pool, METHODS, command="", show=False)
    assert (place / "plan.yaml").read_bytes() == before


@pytest.mark.parametrize("name", ["summary.json", "metrics.jsonl", "items.jsonl"])
def test_a_cell_that_was_tampered_with_is_told_with_what_to_do(alone, place, name):
    study = copy(alone[1], place)
    change(place, "model: model", f"model: {alone[1].parent / 'model'}")
    cell = next((study / "cells").glob("*replay*"))
    (cell / name).write_text("{}}\n")
    with pytest.raises(InputError) as caught:
        compare(read_plan(place / "plan.yaml"), study, no_pool, METHODS, command="", show=False)
    assert cell.name in str(caught.value) and "Delete it; the cell is then trained again" in str(caught.value)


class Refusing(Processes):
    """Jobs that are refused, as where the model does not exist."""

    def __init__(self) -> None:
        pass

    def room(self, running: int) -> bool:
        return True

    def start(self, job: Job) -> Job:
        return job

    def ended(self, handles):
        return [(handle, Outcome("refused", "no such model")) for handle in handles]

    def stop(self, handles) -> None:
        pass


def test_a_model_that_cannot_be_loaded_leaves_nothing_behind(place):
    with pytest.raises(InputError, match="no such model"):
        compare(read_plan(place / "plan.yaml"), place / "study", lambda log: Refusing(), METHODS, command="", show=False)
    assert not (place / "study").exists()


def test_too_few_items_to_choose_and_to_report_are_refused(place):
    change(place, "checkpoint-every: 2", "validation: 0.01")
    with pytest.raises(InputError, match="cannot be shared between choosing and reporting"):
        run(place)
    assert not (place / "study").exists()


def test_trials_are_stopped_the_same_with_one_and_with_two_at_a_time_and_only_at_their_first_seed(place):
    text = (place / "plan.yaml").read_text("utf-8").replace("[none, replay]", "[none]").replace("[3e-3, 1e-2]", "[3e-3, 1e-6, 1e-2]")
    (place / "plan.yaml").write_text(text.replace("seeds: [0]", "seeds: [4, 7]"), "utf-8")
    found = run(place, prune=True)
    rows = [json.loads(line) for line in (place / "study/results.jsonl").read_bytes().splitlines()]
    assert [(row["trial"], row["seed"]) for row in rows] == [(trial, seed) for trial in range(3) for seed in (4, 7)]
    pruned = [row for row in rows if row["status"] == "pruned"]
    assert pruned and found["cells"]["pruned"] == len(pruned) and len({row["trial"] for row in pruned}) == 2, "one goes on"
    for row in pruned:
        assert row["reason"].startswith("its trial was") == (row["seed"] == 7)
        assert (row["trajectory"] == []) == (row["seed"] == 7)
    assert all(trial["pruned"] == any(row["trial"] == trial["trial"] for row in pruned) for trial in found["entries"][0]["trials"])
    change(place, "seeds: [4, 7]", "seeds: [4]")
    alone = run(place, "first")["entries"][0]["chosen"]["trial"]
    assert all(row["trial"] != alone for row in pruned), "the trial that the first seed alone would choose gets its other seeds"
    change(place, "seeds: [4]", "seeds: [4, 7]")
    whole = run(place, "two", jobs=2, prune=True)
    assert (place / "two/results.jsonl").read_bytes() == (place / "study/results.jsonl").read_bytes()
    assert run(place, "two", prune=True) == whole
    assert (place / "two/results.jsonl").read_bytes() == (place / "study/results.jsonl").read_bytes(), "nor does it differ when asked again"


def test_two_cells_on_a_local_cluster_give_the_same_lines(alone, place):
    study = copy(alone[1], place)
    change(place, "model: model", f"model: {alone[1].parent / 'model'}")
    cells = [row["cell"] for row in lines(study)][1:3]
    for cell in cells:  # these are trained again
        shutil.rmtree(study / "cells" / cell)
    made: list[Cluster] = []

    def pool(log: Path) -> Cluster:
        made.append(Cluster(None, None, 1))
        return made[0]

    try:
        compare(read_plan(place / "plan.yaml"), place / "study", pool, METHODS, command="", show=False)
    finally:
        for cluster in made:
            cluster.close()
    assert (study / "results.jsonl").read_bytes() == (alone[1] / "results.jsonl").read_bytes()
    assert all((study / "cells" / cell / "summary.json").is_file() for cell in cells)
    costs = [json.loads(line) for line in (study / "costs.jsonl").read_bytes().splitlines()]
    assert len(costs) == 4 and all(cost["peak_memory_bytes"] > 10**7 for cost in costs)


def test_a_machine_that_does_not_see_the_folder_says_so(tmp_path):
    job = Job("cell", "train", tmp_path / "cell", tmp_path / "log", (tmp_path / "elsewhere" / "plan.yaml", "the plan"), None)
    outcome = perform(job)
    assert isinstance(outcome, Outcome) and outcome.status == "refused"
    assert "this machine does not see the folder of the comparison" in outcome.reason


def test_a_model_blended_after_training_is_compared_as_it_was_left(place):
    change(place, "[none, replay]", "[none, {method: wise, options: {alpha: 0.05}}]")
    change(place, "[3e-3, 1e-2]", "1e-2")
    found = run(place)
    plain, blended = lines(place / "study")
    assert len(plain["trajectory"]) == 5 and [point["epoch"] for point in blended["trajectory"]] == [0, 4]
    cost = [json.loads(line) for line in (place / "study/costs.jsonl").read_text("utf-8").splitlines()][1]
    assert len(cost["seconds_at"]) == 2 and cost["seconds_at"][1] == cost["seconds"]
    tables = blended["trajectory"][-1]["splits"]
    epochs = [json.loads(line) for line in (place / "study/cells" / blended["cell"] / "metrics.jsonl").read_text("utf-8").splitlines()]
    before = [line for line in epochs if line["kind"] == "epoch"][-1]["splits"]
    assert before == plain["trajectory"][-1]["splits"], "until then wise is plain training"
    assert tables["inject"]["learned"] < before["inject"]["learned"]
    items = [json.loads(line) for line in (place / "study/cells" / blended["cell"] / "items.jsonl").read_text("utf-8").splitlines()]
    assert tables["inject"]["right"] == sum(item["after"] for item in items if item["split"] == "inject")
    trials = {entry["label"]: entry["trials"][0] for entry in found["entries"]}
    assert trials["none"]["at"]["0.5"]["reached"] == 1 and trials["wise"]["at"]["0.5"]["reached"] == 0
    assert trials["wise"]["final"]["learned"]["mean"] == tables["inject"]["learned"] / (12 - tables["inject"]["right_before"])
    assert [point["epoch"] for point in trials["wise"]["trajectory"]] == [0, 4]


def test_trials_that_are_blended_after_training_are_stopped_by_their_training_alone(place):
    change(place, "[none, replay]", "[none, replay, {method: wise, options: {alpha: [0.5, 0.05]}, rates: 1e-2}]")
    run(place, prune=True)
    blended = [row for row in lines(place / "study") if row["label"] == "wise"]
    assert [row["status"] for row in blended] == ["finished"] * 2, "both train alike, so neither is behind as it trains"
    assert [len(row["trajectory"]) for row in blended] == [2, 2]


def test_every_trial_of_a_method_is_checked_before_anything_is_run(place):
    change(place, "[none, replay]", "[none, {method: wise, options: {alpha: [auto, 0.5]}, rates: 1e-2}]")
    change(place, "  retain: retain.jsonl\n", "")
    with pytest.raises(InputError, match="wise"):
        run(place)
    assert not (place / "study").exists()
