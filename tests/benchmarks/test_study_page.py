"""The page of the study says what its raw results say, and nothing of the machine that made them but its processor."""

from __future__ import annotations

import copy
import json
import shutil
import sys
from pathlib import Path
from statistics import mean, stdev

import pytest
import yaml

from comparison.made_up import study as made_up
from forgetless.advice.options import CHOICES
from forgetless.comparison.summary import summarize
from forgetless.errors import InputError
from forgetless.files import write_json, write_jsonl

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))

import study  # noqa: E402
import study_choose  # noqa: E402
import study_claims  # noqa: E402
import study_goals  # noqa: E402
import study_page  # noqa: E402
import study_raw  # noqa: E402
import study_screen  # noqa: E402
import study_streams  # noqa: E402


@pytest.fixture
def compared(tmp_path):
    """The folder of a comparison of made-up rows, and what it found."""
    head, rows, costs, items = made_up(("none", "replay", "cpl"))
    head["command"] = "forgetless compare --config /home/somebody/plan.yaml --out /home/somebody/out"
    head["model"] = "/home/somebody/model"
    next(row for row in rows if row["status"] == "failed")["reason"] = "/home/somebody/out/cells/one is full"
    costs = [cost | {"machine": {"cores": 3, "gpu": None, "system": "Linux", "processor": "x86_64"}} for cost in costs]
    found, folder = summarize(head, rows, costs, items), tmp_path / "compared"
    folder.mkdir()
    write_json(folder / "comparison.json", found)
    write_json(folder / "items.json", items)
    write_jsonl(folder / "results.jsonl", rows)
    write_jsonl(folder / "costs.jsonl", costs)
    return folder, found


def test_a_raw_result_gives_the_figures_of_its_comparison_and_no_path(compared, tmp_path):
    folder, found = compared
    file = study_raw.keep(folder, "icd10", tmp_path / "study")
    text = file.read_text("utf-8")
    assert "somebody" not in text and '"cores": [3]' in text
    again = summarize(*study_raw.restored(json.loads(text)))
    for key in ("entries", "items", "cells", "levels", "seeds"):
        assert json.loads(json.dumps(again[key])) == json.loads(json.dumps(found[key]))
    assert again["command"] == "forgetless compare --config plan.yaml --out out" and again["problems"][0]["reason"] == "one is full"


def test_the_page_has_the_figures_of_the_raw_result_and_says_what_is_missing(compared, tmp_path):
    folder, found = compared
    study.main(["keep", str(folder), "icd10", "--results", str(tmp_path / "results")])
    study.main(["page", "--results", str(tmp_path / "results")])
    text, shown = (tmp_path / "results/study.md").read_text("utf-8"), 0
    for entry in found["entries"]:
        trial = next(one for one in entry["trials"] if one["trial"] == entry["chosen"]["trial"])
        learned, start = study_page.share(trial["final"]["learned"]), f"| `{entry['label']}` | "
        line = next(line for line in text.split("\n") if line.startswith(start) and learned in line)
        level = study_page.told_level(found, entry["data"])
        assert all(study_page.share(trial["at"][level][kind]) in line for kind in "ABC")
        for baseline, one in entry["against"].items():
            told = one["at"][level]["B"]
            if entry["label"] != "none" and told["difference"] is not None:
                assert f"| `{entry['label']}` | `{baseline}` | B | {100 * told['difference']:+.1f}" in text
                shown += 1
    assert shown > 1
    assert "Not run yet: there is no raw result `study/screen.json`." in text and "the loss is" not in text
    for name in ("air", "icd"):
        for kind in "BC":
            assert f"(study/icd10-{name}-{kind}.svg)" in text and (tmp_path / f"results/study/icd10-{name}-{kind}.svg").is_file()


def test_c_by_file_is_counted_on_test_items(compared):
    folder, _ = compared
    raw = study_raw.comparison(folder)
    _, rows, _, items = study_raw.restored(raw)
    row = rows[0]
    own = items[row["data"]]
    for name in ("opposites", "plurals"):
        pairs = list(zip(own[name]["before"], own[name]["validation"], row["right"][name], strict=True))
        known = [after for before, mark, after in pairs if (before, mark) == ("1", "0")]
        last = row["trajectory"][-1]["splits"]["inject"]
        end = last["learned"] / (last["total"] - last["right_before"])
        assert study_page._lost(row, own, name, end) == pytest.approx(known.count("0") / len(known))


def test_claims_follow_the_figures(compared, tmp_path):
    _, found = compared
    sets = {"made": found}
    assert study_claims.conflicting(sets, tmp_path) == study_claims.NOT == ("not measured", "")
    verdict, told = study_claims.outside(sets, tmp_path)
    assert verdict != "not measured" and "made (n = 3)" in told
    worse = copy.deepcopy(found)
    for entry in worse["entries"]:
        if entry["label"] == "cpl":
            for trial in entry["trials"]:
                for at in trial["at"].values():
                    for kind in "AB":
                        if at[kind]:
                            at[kind]["mean"] = 1.0
    assert study_claims.outside({"made": worse}, tmp_path)[0] == study_claims.inside({"made": worse}, tmp_path)[0] == "does not hold"
    assert study_claims.inside({}, tmp_path) == study_claims.recomputed(sets, tmp_path) == study_claims.NOT


def test_what_cpl_says_of_signs_is_kept_and_told(compared, tmp_path):
    folder, _ = compared
    row = next(
        row
        for row in (json.loads(line) for line in (folder / "results.jsonl").open())
        if (row["method"], row["status"]) == ("cpl", "finished")
    )
    lines = [{"kind": "epoch", "step": 0}]
    for step in range(1, 10):
        own = {"conflicting_fraction": step / 10} | ({"refresh": True, "sign_flips": 0.02 * step} if step in (4, 8) else {})
        lines.append({"kind": "step", "step": step, "method": own})
    (folder / "cells" / row["cell"]).mkdir(parents=True)
    write_jsonl(folder / "cells" / row["cell"] / "metrics.jsonl", lines)
    raw = json.loads(study_raw.keep(folder, "icd10", tmp_path / "study").read_text("utf-8"))
    told = {one["cell"]: one["signs"] for one in raw["rows"] if "signs" in one}
    assert told == {row["cell"]: {"conflicting": pytest.approx(0.5), "flipped": pytest.approx(0.12), "every": 4}}
    study_raw.restored(raw)
    verdict, text = study_claims.conflicting({}, tmp_path)
    assert verdict == "holds" and "(n = 1): 50.0% of the weights at a step" in text
    assert "(n = 1): 12.0% of all signs in 4 steps" in study_claims.flips({}, tmp_path)[1]
    assert study_raw.signs([{"kind": "step", "step": 1, "method": {}}]) is None


def test_methods_are_shown_by_other_labels_where_names_have_changed_and_the_page_says_so(compared, tmp_path):
    folder, _ = compared
    plain = json.loads(study_raw.keep(folder, "icd10", tmp_path / "study").read_text("utf-8"))
    raw = json.loads(study_raw.keep(folder, "icd10", tmp_path / "study", {"cpl": "cpl-once"}).read_text("utf-8"))
    assert "renamed" not in plain and raw["renamed"] == {"cpl": "cpl-once"}
    changed = [(a["label"], b["label"]) for a, b in zip(plain["rows"], raw["rows"], strict=True) if a["label"] != b["label"]]
    assert changed and set(changed) == {("cpl", "cpl-once")}
    assert [row["cell"] for row in plain["rows"]] == [row["cell"] for row in raw["rows"]]
    study_page.write(tmp_path)
    text = (tmp_path / "study.md").read_text("utf-8")
    assert "`cpl-once` was run as `cpl` with the label `cpl`" in text and "| `cpl-once` |" in text and "| `cpl` |" not in text
    with pytest.raises(InputError, match="nothing was run as wrong"):
        study_raw.keep(folder, "icd10", tmp_path / "study", {"wrong": "cpl"})


def test_streams_become_a_table(tmp_path):
    study_raw.keep(ROOT / "docs/results/facts", "subjects", tmp_path / "study")
    study_page.write(tmp_path)
    text = (tmp_path / "study.md").read_text("utf-8")
    seeds = json.loads((ROOT / "docs/results/facts/cpl/matrix.json").read_text("utf-8"))["seeds"]
    learned, right = (
        [mean(pick(seed["accuracy"])) for seed in seeds] for pick in (lambda m: [m[i][i] for i in range(len(m))], lambda m: m[-1])
    )
    half = stdev(right) / 2**0.5 * 12.706  # Student's t for two seeds
    assert f"| `cpl` | 0.0001 | 2 | {100 * mean(learned):.1f} [" in text
    assert f"| {100 * mean(right):.1f} [{100 * max(0, mean(right) - half):.1f}, {100 * min(1, mean(right) + half):.1f}] |" in text
    assert "| `cpl` | `none-higher-rate` | forgetting |" in text


def test_draws_of_the_facts_are_seeds_of_a_method_and_probes_stand_beside(tmp_path):
    matrix = json.loads((ROOT / "docs/results/facts/none/matrix.json").read_text("utf-8"))
    count = len(matrix["tasks"])
    for label, lost in (("none", (2, 3, 4)), ("auto", (0, 1, 1))):
        for draw, wrong in enumerate(lost):
            folder = tmp_path / "subjects" / label / str(draw)
            shutil.copytree(ROOT / "docs/results/facts/none", folder)
            config = yaml.safe_load((folder / "config.yaml").read_text("utf-8"))
            config["stream_args"] = {"seed": draw}
            (folder / "config.yaml").write_text(yaml.safe_dump(config), "utf-8")
            asked = {str(item): [True] * (count - 1) + [item >= wrong] for item in range(10)}
            own = matrix | {"method": label, "seeds": [matrix["seeds"][0] | {"probes": {"B": asked}}]}
            (folder / "matrix.json").write_text(json.dumps(own), "utf-8")
    study_raw.keep(tmp_path / "subjects", "subjects", tmp_path / "study")
    study_page.write(tmp_path)
    text = (tmp_path / "study.md").read_text("utf-8")
    assert "B 10 items" in text and "seeds 0, 1, 2" in text
    cells = {line.split(" | ")[0]: line.split(" | ") for line in text.splitlines() if line.startswith("| `")}
    assert cells["| `auto`"][1:3] == ["`none`", "B"]  # the last line of auto is its difference to none
    assert cells["| `auto`"][3].startswith("-23.3 [") and cells["| `auto`"][5] == "3 |"
    assert "| 30.0 [5.2, 54.8] |" in text  # 2, 3 and 4 of 10 forgotten: the half width is 4.303 / sqrt(3) of a tenth
    chosen = (tmp_path / "choose.md").read_text("utf-8")
    assert f"{count} subjects, 3 draws, forgotten at the end: learned facts auto " in chosen and "; B auto 6.7%, none 30.0% |" in chosen


def test_tasks_that_help_earlier_ones_have_an_interval_below_nothing_forgotten():
    seed = {"learned": 1.0, "acc": 1.0, "heldout": None, "probes": {}, "known": {}, "steps": 1, "seconds": 1.0}
    run = {"method": "auto", "lr": 1e-3, "until_learned": 0.9, "epochs": 2, "tasks": ["a", "b"], "draw": 0}
    run["seeds"] = [seed | {"seed": place, "forgetting": value} for place, value in enumerate((-0.04, 0.0, -0.02))]
    line = study_streams.section({"auto": run})[1].splitlines()[2]
    assert "| -2.0 [-7.0, 3.0] |" in line  # 4.303 / sqrt(3) of the spread 0.02


def test_a_folder_of_neither_is_refused(tmp_path, capsys):
    with pytest.raises(InputError, match="neither a comparison nor streams"):
        study_raw.keep(tmp_path, "x", tmp_path)
    with pytest.raises(SystemExit):
        study.main(["keep", str(tmp_path), "x", "--results", str(tmp_path)])
    assert "neither a comparison nor streams" in capsys.readouterr().err


def test_the_published_page_is_what_the_committed_raw_results_give(tmp_path):
    results = ROOT / "docs/results"
    own = tmp_path / "results"
    raw = [f"study/{file.name}" for file in (results / "study").glob("*.json")]
    for file in ("diagnosis.json", "perplexity.json", "split_mnist.json", "transfer.json", "../methods/figures/more.json", *raw):
        (own / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(results / file, own / file)
    study_page.write(own)
    for page in ("study.md", "choose.md"):
        assert (own / page).read_text("utf-8") == (results / page).read_text("utf-8")
    for figure in (own / "study").glob("*.svg"):
        assert figure.read_bytes() == (results / "study" / figure.name).read_bytes()


def test_the_page_of_choices_takes_its_figures_from_the_raw_results(tmp_path):
    found = summarize(*made_up(("none", "replay", "cpl")))
    told = study_choose.against({"made": found}, "cpl", ("none",))
    level, data = study_choose.told_level(found, found["entries"][0]["data"]), found["entries"][0]["data"]
    trials = {entry["label"]: study_choose.chosen_trial(entry) for entry in found["entries"] if entry["data"] == data}
    own, plain = (f"{100 * trials[name]['at'][level]['B']['mean']:.1f}%" for name in ("cpl", "none"))
    assert told.startswith(f"made, {len(trials['cpl']['seeds'])} seeds, at {float(level):.0%} learned: B {own} (none {plain}), C ")
    assert study_choose.against({"made": found}, "absent", ("none",)) == study_choose.NO_FIGURE
    digits = study_choose.accuracies(ROOT / "docs/results/split_mnist.json")
    assert study_choose.told(digits, "class", ("derpp", "nothing")) == f"class setting: derpp {digits['class', 'derpp']:.1f}%"
    study_page.write(tmp_path)
    assert study_choose.NO_FIGURE in (tmp_path / "choose.md").read_text("utf-8")


def test_the_recommendation_says_the_times_that_the_study_measured():
    found = summarize(*study_raw.restored(json.loads((ROOT / "docs/results/study/edits.json").read_text("utf-8"))))
    trials = {entry["label"]: study_choose.chosen_trial(entry) for entry in found["entries"]}
    told = {choice.name: choice.compute for choice in CHOICES if choice.name in trials}
    told |= {f"{choice.name}-no-data": choice.time(old_data=False) for choice in CHOICES if choice.alone is not None}
    assert set(told) == {name for name in trials if name != "none" and "distilled" not in name} == {"auto", "replay", "cpl", "auto-no-data"}
    for name, times in told.items():
        assert times == pytest.approx(study_choose.time_ratio(trials[name], trials["none"], "0.9"), abs=0.051), name


def test_a_time_is_compared_over_the_seeds_that_both_reach():
    def trial(**seeds):
        points = {seed: [{"learned": 0.0, "seconds": 0.0}, {"learned": end, "seconds": took}] for seed, (end, took) in seeds.items()}
        return {"trajectories": [{"seed": seed, "points": own} for seed, own in points.items()]}

    own, base = trial(a=(1.0, 20.0), b=(1.0, 40.0), c=(0.4, 99.0)), trial(a=(1.0, 10.0), b=(0.2, 10.0), c=(1.0, 10.0), d=(1.0, 70.0))
    assert study_choose.time_ratio(own, base, "0.5") == pytest.approx(2.0)
    assert study_choose.time_ratio(own, trial(c=(1.0, 1.0)), "0.5") is None is study_choose.time_ratio(own, None, "0.5")


def test_a_random_mask_does_not_count_as_cpl_in_the_verdicts_on_its_claims(tmp_path):
    head, rows, costs, items = made_up(("none", "cpl"))
    found = summarize(head, rows, costs, items)
    before = study_claims.outside({"made": found}, tmp_path)
    control = copy.deepcopy([row for row in rows if row["label"] == "cpl"])
    for row in control:
        row |= {"label": "cpl-control", "cell": f"control-{row['cell']}", "options": {"cpl": {"control": 0}}}
        for point in row["trajectory"]:
            for part in (*point["splits"].values(), *point["validation"].values()):
                part["forgotten"] = 0
    found = summarize(head, rows + control, costs, items)
    assert {entry["label"] for entry in found["entries"]} == {"none", "cpl", "cpl-control"}
    assert study_claims.outside({"made": found}, tmp_path) == before


@pytest.mark.parametrize("better", [True, False])
def test_a_claim_on_pairs_is_judged_by_what_each_forgets_of_b(tmp_path, better):
    head, rows, costs, items = made_up(("none", "cpl"))
    made = []
    forgets = {"cpl-control": True} if better else {}
    for ours, other in study_claims.PAIRS.values():
        forgets |= {ours: not better, other: better}
    for label, all_of_it in forgets.items():
        for row in copy.deepcopy([row for row in rows if row["label"] == ("cpl" if label.startswith("cpl") else "none")]):
            row |= {"label": label, "cell": f"{label}-{row['cell']}"}
            for point in row["trajectory"]:
                for part in (*point["splits"].values(), *point["validation"].values()):
                    part["forgotten"] = part["right_before"] if all_of_it else 0
            made.append(row)
    sets = {"made": summarize(head, made, costs, items)}
    verdict, told = study_claims.optimizers(sets, tmp_path)
    assert verdict == ("holds" if better else "does not hold") and all(f"{name}: cpl" in told for name in study_claims.PAIRS)
    assert study_claims.control(sets, tmp_path)[0] == ("holds" if better else "not measured")
    without = {"made": summarize(head, [row for row in made if row["label"] != "momentum"], costs, items)}
    assert study_claims.optimizers(without, tmp_path) == study_claims.NOT  # two optimizers are not three


def test_where_all_forget_too_soon_what_is_learned_before_cannot_be_told_and_time_is_compared_at_equal_learning(tmp_path):
    head, rows, costs, items = made_up(("none", "replay", "cpl"))
    for row in rows:
        for point in row["trajectory"][1:]:
            for part in (*point["splits"].values(), *point["validation"].values()):
                part["forgotten"] = part["right_before"]
    found = summarize(head, rows, costs, items)
    assert study_claims.more_learned({"made": found}, tmp_path)[0] == "cannot be told"
    assert study_claims.more_learned({}, tmp_path) == study_claims.NOT
    data = rows[0]["data"]
    trials = {entry["label"]: study_claims.chosen_trial(entry) for entry in found["entries"] if entry["data"] == data}
    told = study_claims.time({"made": found}, tmp_path)[1]
    level = next(
        f"{level:g}"
        for level in sorted(found["levels"], reverse=True)
        if all(study_choose.time_ratio(trials[name], trials["none"], f"{level:g}") is not None for name in ("cpl", "replay"))
    )
    assert f"made (n = 3): {study_choose.time_ratio(trials['cpl'], trials['none'], level):.2f} of plain's" in told
    assert study_claims.time({"german": found}, tmp_path) == study_claims.NOT, "other work ran beside it"


def test_seeds_of_a_trial_that_ended_alike_stand_in_one_line():
    rows = [("a_none_adamw_1e-05_12ab_s0", "pruned", "behind"), ("a_none_adamw_1e-05_12ab_s1", "pruned", "its trial")]
    rows += [("a_none_adamw_1e-05_12ab_s2", "pruned", "its trial"), ("a_cpl_adamw_1e-05_34cd_s2", "failed", "its trial")]
    told = study_page._problems([dict(zip(("cell", "status", "reason"), row, strict=True)) for row in rows])
    assert told.splitlines() == [
        "* `a_none_adamw_1e-05_12ab`, seed 0, pruned: behind",
        "* `a_none_adamw_1e-05_12ab`, seeds 1, 2, pruned: its trial",
        "* `a_cpl_adamw_1e-05_34cd`, seed 2, failed: its trial",
    ]


def test_a_goal_is_met_by_the_ratio_of_means_and_by_the_test_over_seeds():
    def trial(shares):
        start = dict.fromkeys(("learned", "B", "C"), 0.0)  # and on a straight line to all learned
        ways = {seed: [start, {"learned": 1.0, "B": b / 0.9, "C": c / 0.9}] for seed, (b, c) in shares.items()}
        return {"trial": 0, "trajectories": [{"seed": seed, "points": points} for seed, points in ways.items()]}

    plain = {0: (0.2, 0.1), 1: (0.3, 0.02), 2: (0.3, 0.04), 3: (0.2, 0.1), 4: (0.3, 0.03)}
    less, once = {seed: (0.05, 0.01 * seed) for seed in plain}, {2: (0.0, 0.0)}
    four = {seed: less[seed] for seed in range(4)}
    for own, met in ((less, "yes"), (four, "with too few seeds"), (plain, "no"), (once, "the ratio, not the test")):
        labels = {"none": plain, "auto-no-data": own}
        entries = [{"data": "d", "label": name, "chosen": {"trial": 0}, "trials": [trial(one)]} for name, one in labels.items()]
        (line,) = study_goals.table({"made": {"entries": entries, "seeds": [*plain]}})[2:]
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        sums = [sum(sum(shares[seed]) for seed in own) for shares in (own, plain)]
        assert cells[:3] == ["made", "`auto-no-data`", "B + C at most 0.5 of `none`"] and cells[-1] == met
        assert float(cells[3]) == pytest.approx(sums[0] / sums[1], abs=6e-4) and cells[8] == str(len(own))
        assert cells[5] == f"{100 * sums[1] / len(own):.1f}%"
    assert study_goals.table({"made": {"entries": entries[:1], "seeds": [*plain]}}) == []


def test_a_screen_tells_every_method_once_and_the_best_first(tmp_path):
    head, rows, costs, items = made_up(("none", "replay", "cpl"))
    data = rows[0]["data"]
    rows = [row for row in rows if row["data"] == data]
    for row in rows:
        for point in row["trajectory"]:
            for part in (*point["splits"].values(), *point["validation"].values()):
                part["forgotten"] = {"none": part["right_before"], "replay": part["right_before"] // 2, "cpl": 0}[row["label"]]
            if row["label"] == "none":
                part = point["splits"]["inject"]
                part["learned"] = min(part["learned"], (part["total"] - part["right_before"]) // 2)
    found = summarize(head, rows, costs, items)
    entries = study_screen.best_first(found["entries"])
    assert [entry["label"] for entry in entries] == ["cpl", "replay", "none"]
    assert study_screen.loss(entries[0]) == 0 < study_screen.loss(entries[1]) and study_screen.loss(entries[2]) is None
    text = "\n".join(study_screen.section("tried", found, tmp_path))
    told = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("| `")]
    assert [cells[0].strip() for cells in told] == ["`cpl`", "`replay`", "`none`"]
    at = study_screen.chosen_trial(entries[1])["at"]["0.8"]
    assert [cell.strip() for cell in told[1][2:5]] == [f"{100 * at[kind]['mean']:.1f}" for kind in "ABC"]
    assert [cell.strip() for cell in told[2][2:8]] == [""] * 6, "what was never learned has no figure at that level"
    drawn = (tmp_path / "tried.svg").read_text("utf-8")
    assert "(study/tried.svg)" in text and "<!-- replay -->" in drawn and "<!-- none -->" not in drawn
    study_screen.section("tried", found, tmp_path)
    assert (tmp_path / "tried.svg").read_text("utf-8") == drawn
