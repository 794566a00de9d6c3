"""Cells as tasks of a local Ray cluster give what processes give, to the byte."""

from __future__ import annotations

import json
from pathlib import Path

from forgetless.comparison.plan import read_plan
from forgetless.comparison.ray_pool import Cluster
from forgetless.comparison.run import compare
from forgetless.comparison.worker import Job, Outcome, perform
from forgetless.methods import METHODS


def test_two_cells_on_a_local_cluster_give_the_same_lines(alone, place):
    text = (place / "plan.yaml").read_text("utf-8").replace("[none, replay]", "[none]")
    (place / "plan.yaml").write_text(text, "utf-8")
    made: list[Cluster] = []

    def pool(log: Path) -> Cluster:
        made.append(Cluster(None, None, 1))
        return made[0]

    try:
        compare(read_plan(place / "plan.yaml"), place / "study", pool, METHODS, command="", show=False)
    finally:
        for cluster in made:
            cluster.close()
    found = (place / "study/results.jsonl").read_bytes().splitlines()
    assert found == (alone[1] / "results.jsonl").read_bytes().splitlines()[:2]
    cells = [json.loads(line)["cell"] for line in found]
    costs = [json.loads(line) for line in (place / "study/costs.jsonl").read_bytes().splitlines()]
    assert [cost["cell"] for cost in costs] == cells and all(cost["peak_memory_bytes"] > 10**7 for cost in costs)


def test_a_machine_that_does_not_see_the_folder_says_so(tmp_path):
    job = Job("cell", "train", tmp_path / "cell", tmp_path / "log", (tmp_path / "elsewhere" / "plan.yaml", "the plan"), None)
    outcome = perform(job)
    assert isinstance(outcome, Outcome) and outcome.status == "refused"
    assert "this machine does not see the folder of the comparison" in outcome.reason
