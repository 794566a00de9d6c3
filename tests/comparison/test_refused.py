"""What a comparison that is refused, or killed before its plan is settled, leaves; and that the folder can be used again."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from comparison.conftest import run
from comparison.test_study import change, no_pool
from forgetless.comparison.inputs import DEMO
from forgetless.comparison.plan import read_plan
from forgetless.comparison.run import compare
from forgetless.comparison.worker import Job, Outcome
from forgetless.errors import ForgetlessError, InputError
from forgetless.methods import METHODS


class Making:
    """Makes the questions of a built-in data set by taking those of the place; scoring ends as given."""

    def __init__(self, place: Path, scored: str) -> None:
        self.place, self.scored, self.made = place, scored, list[str]()

    def room(self, running: int) -> bool:
        return not running

    def start(self, job: Job) -> Job:
        return job

    def ended(self, handles: list[Job]) -> list[tuple[Job, Outcome]]:
        return [(job, self._do(job)) for job in handles]

    def stop(self, handles: list[Job]) -> None:
        pass

    def close(self) -> None:
        pass

    def _do(self, job: Job) -> Outcome:
        if job.kind != "questions":
            return Outcome(self.scored, "no such model")
        self.made.append(job.name)
        job.out.mkdir(parents=True, exist_ok=True)
        for name in DEMO:
            text = (self.place / f"{'other' if name == 'other-kinds' else name}.jsonl").read_bytes()
            (job.out / f"{name}.jsonl").write_bytes(text)
        (job.out / "questions.json").write_text("{}")
        return Outcome("done")


@pytest.fixture
def built_in(place: Path) -> Path:
    """A plan whose data are built in."""
    text = (place / "plan.yaml").read_text("utf-8")
    start, end = text.index("data:"), text.index("methods:")
    (place / "plan.yaml").write_text(f"{text[:start]}data: demo\n{text[end:]}", "utf-8")
    return place


def begin(place: Path, pool: Any, out: str = "study") -> Any:
    return compare(read_plan(place / "plan.yaml"), place / out, pool, METHODS, command="", show=False)


def names(folder: Path) -> set[str]:
    return {entry.name for entry in folder.iterdir()}


WRONG = {
    "a scorer": (("batch-size: 4\nretain", "scorer: guess\nbatch-size: 4\nretain"), "guess"),
    "a template": (("batch-size: 4\nretain", "template: guess\nbatch-size: 4\nretain"), "guess"),
    "the file of another data set": (("data: demo", "data: {demo: demo, mine: {inject: none.jsonl}}"), "none.jsonl: no such file"),
    "a method without old data": (("[none, replay]", "[{method: cpl, old-data: false}]"), "cpl needs a retain set"),
    "a memory that is hidden": (("[none, replay]", "[{method: replay, old-data: false}]"), "replay has no old data to replay"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_told_before_questions_are_made(built_in, name):
    (old, new), told = WRONG[name]
    change(built_in, old, new)
    before = names(built_in)
    with pytest.raises(InputError, match=told):
        begin(built_in, no_pool, "a/b/study")
    assert names(built_in) == before, "nor is a parent of the folder left"


def test_a_refusal_after_the_questions_were_made_leaves_nothing(built_in):
    pool = Making(built_in, "refused")
    with pytest.raises(InputError, match="no such model"):
        begin(built_in, lambda log: pool, "a/study")
    assert pool.made == ["demo"] and not (built_in / "a").exists()


@pytest.mark.parametrize("whole", [False, True])
def test_a_folder_that_a_kill_left_with_questions_alone_is_taken_up(built_in, whole):
    study, first = built_in / "study", Making(built_in, "failed")
    with pytest.raises(ForgetlessError):
        begin(built_in, lambda log: first)
    assert names(study) == {".lock", "questions"}, "what took long is kept where nothing was refused"
    if not whole:
        (study / "questions/demo/questions.json").unlink()
    (study / "logs").mkdir()
    change(built_in, "batch-size: 4\nretain", "batch-size: 2\nretain")  # nothing of the plan was settled
    again = Making(built_in, "refused")
    with pytest.raises(InputError, match="no such model"):
        begin(built_in, lambda log: again)
    assert again.made == ([] if whole else ["demo"]) and names(study) == {".lock", "questions", "logs"}


def test_questions_and_logs_of_somebody_else_are_no_beginning(built_in):
    (built_in / "study/questions").mkdir(parents=True)
    os.mkdir(built_in / "study/logs")
    with pytest.raises(InputError, match="holds no comparison"):
        begin(built_in, no_pool)
    assert names(built_in / "study") == {"questions", "logs"}


def test_a_comparison_on_questions_that_a_kill_left_comes_to_its_end(place):
    (place / "study/logs").mkdir(parents=True)
    (place / "study/.lock").touch()
    change(place, "[none, replay]", "[none]")
    change(place, "[3e-3, 1e-2]", "1e-2")
    assert run(place)["cells"]["finished"] == 1


MORE = "data:\n  first: {inject: inject.jsonl, retain: retain.jsonl}\n  more: {inject: INJECT, retain: retain-heldout.jsonl}\n"


def grown(place: Path, inject: str) -> None:
    """The plan on one data set, or on that and another, whose questions to learn are named."""
    text = (place / "plan.yaml").read_text("utf-8")
    start, end = text.index("data:"), text.index("methods:")
    data = MORE.replace("INJECT", inject) if inject else "".join(MORE.splitlines(True)[:2])
    (place / "plan.yaml").write_text(f"{text[:start]}{data}{text[end:]}", "utf-8")


def test_a_data_set_that_is_refused_spoils_neither_the_old_plan_nor_a_mended_one(place):
    change(place, "[none, replay]", "[none]")
    change(place, "[3e-3, 1e-2]", "1e-2")
    grown(place, "")
    assert run(place)["cells"]["finished"] == 1
    settled = (place / "study/plan.yaml").read_bytes()
    grown(place, "other.jsonl")  # the model knows these
    shutil.copytree(place / "study", place / "killed")
    (place / "killed/before/more.json").write_text("{}")  # as of a scoring that was killed before its data were refused
    for folder in ("study", "killed"):
        with pytest.raises(InputError, match="data more"):
            run(place, folder)
        assert (place / folder / "plan.yaml").read_bytes() == settled
        assert names(place / folder / "before") == {"first.json"}
    grown(place, "")
    assert begin(place, no_pool)["cells"]["finished"] == 1, "the old plan goes on"
    grown(place, "inject.jsonl")
    assert run(place)["cells"]["finished"] == 2, "and so does a mended one"
