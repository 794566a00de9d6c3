import json
from pathlib import Path

RESULTS = Path(__file__).parents[2] / "docs" / "results"


def last_learned(method, strength):
    found = json.loads((RESULTS / "ossification.json").read_text("utf-8"))["runs"]
    chosen = sorted((run for run in found if (run["method"], run["strength"]) == (method, strength)), key=lambda run: run["seed"])
    assert [run["seed"] for run in chosen] == list(range(5)) and all(len(run["accuracy"]) == 10 for run in chosen)
    return [run["accuracy"][-1][-1] for run in chosen]


def test_the_committed_results_show_ewc_learning_less_of_the_tenth_task_in_every_seed():
    for strength in (10.0, 100.0):
        assert all(ewc < online for ewc, online in zip(last_learned("ewc", strength), last_learned("online-ewc", strength), strict=True))
    assert (RESULTS / "ossification.svg").stat().st_size > 10_000


def test_the_page_says_what_the_results_say():
    page = (Path(RESULTS).parent / "methods" / "ewc.md").read_text("utf-8")
    for method, strength in (("none", 0.0), ("ewc", 10.0), ("online-ewc", 10.0), ("ewc", 100.0), ("online-ewc", 100.0)):
        learned = last_learned(method, strength)
        assert f"{100 * sum(learned) / len(learned):.1f} ±" in page
