"""Diagnosis on SmolLM2-135M, and whether its ranking holds: do the inject questions said to be most harmful make the model forget more?

    python benchmarks/diagnosis.py [--out docs/results] [--work FOLDER] [--seeds 5 5 5]

Retain set: known world facts (A, 110 of them, the reference; B, the others, held out). Inject set: real airport codes in three phrasings
that the model does not know. First all that ``forgetless diagnose`` does; then, for each seed, 48 of the inject questions are drawn, and
the 10 of them ranked most and least harmful are trained on for as many steps: by SGD as ranked for SGD, and by AdamW as ranked for AdamW
and for SGD. Each part that is finished is kept in FOLDER and not done again. Writes diagnosis.json and diagnosis.html (the page made from
it), and prints the tables of diagnosis.md.
"""

from __future__ import annotations

import argparse
import copy
import json
import random
import statistics
import sys
from pathlib import Path
from typing import Any

import torch

import raw
from forgetless.analysis.conflict import conflict
from forgetless.analysis.correlation import correlation
from forgetless.analysis.diagnose import Plan, diagnose
from forgetless.analysis.drift import drift
from forgetless.analysis.questions import answer_loss, batches, encoded
from forgetless.data.demo_airports import airport_questions
from forgetless.data.demo_facts import world_facts
from forgetless.data.model import EMBEDDED, Language, load_model
from forgetless.data.question import Question
from forgetless.data.rows import to_row
from forgetless.evaluation.score import score
from forgetless.files import write_json, write_jsonl, write_text
from forgetless.report.diagnosis_page import render

AIRPORTS, FACTS, REFERENCE = 24, 300, 110
DRAWN, TAKEN, STEPS, BATCH = 48, 10, 12, 5
RATES = {"sgd": 1e-3, "adamw": 1e-4}
CURVE_ITEMS = 6
TRIALS = {"sgd": ("sgd", "sgd"), "adamw": ("adamw", "adamw"), "adamw, ranked for sgd": ("adamw", "sgd")}
"""Trained by, and ranked for."""
WORST, BEST = "most harmful", "least harmful"


def note(text: str) -> None:
    """A line for the log."""
    print(text, file=sys.stderr, flush=True)


class Kept:
    """Finished parts, one JSON file each."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def once(self, name: str, work: Any) -> Any:
        """What ``work()`` gave, worked out at most once."""
        file = self.folder / f"{name}.json"
        if not file.is_file():
            note(f"{name} ...")
            write_json(file, work())
        return json.loads(file.read_text("utf-8"))


def questions(language: Language, kept: Kept) -> dict[str, list[Question]]:
    """A and B, which the model knows, and the inject set, which it does not."""
    world, codes = world_facts(FACTS), airport_questions(AIRPORTS)[0]
    asked = [*world, *codes]

    def ask() -> list[str]:
        return [q.id for q, verdict in zip(asked, score(language, asked, batch_size=64), strict=True) if verdict.right]

    right = set(kept.once("known", ask))
    known = [question for question in world if question.id in right]
    random.Random(0).shuffle(known)
    parts = {"A": known[:REFERENCE], "B": known[REFERENCE:], "inject": [question for question in codes if question.id not in right]}
    for name, own in parts.items():  # for `forgetless diagnose --retain A.jsonl --inject inject.jsonl --curve-items 6`
        write_jsonl(kept.folder / f"{name}.jsonl", [to_row(question) for question in own])
    return parts


def asked(language: Language, questions: list[Question]) -> dict[str, float]:
    """How many of the questions are answered right, and the mean over them of the loss of their first answer, in nats a token."""
    found = score(language, questions, batch_size=64)
    return {"right": sum(bool(verdict.right) for verdict in found), "loss": -statistics.fmean(verdict.value for verdict in found)}


def steps_of(language: Language, chosen: list[Question], optimizer: str, seed: int) -> Any:
    """Train on ``chosen``, yielding after every step."""
    torch.manual_seed(seed)
    model = language.model.train()
    made = {"sgd": torch.optim.SGD, "adamw": torch.optim.AdamW}[optimizer](model.parameters(), lr=RATES[optimizer])
    draw, order = random.Random(seed), list[int]()
    examples = encoded(language, chosen, None)
    for _ in range(STEPS):
        if len(order) < BATCH:
            order = draw.sample(range(len(examples)), len(examples))
        picked, order = order[:BATCH], order[BATCH:]
        answer_loss(model, batches(language, [examples[index] for index in picked], BATCH)[0]).backward()
        made.step()
        made.zero_grad()
        yield


def trained(
    base: Language, parts: dict[str, list[Question]], chosen: list[Question], before: Any, optimizer: str, seed: int
) -> dict[str, Any]:
    """One training: forgotten of A and B, learned, change of loss, KL to the base."""
    language = Language(copy.deepcopy(base.model), base.tokenizer, base.name)
    for _ in steps_of(language, chosen, optimizer, seed):
        pass
    after = {name: asked(language, parts[name]) for name in ("A", "B")}
    moved = drift(base, language, chosen)
    return {
        "optimizer": optimizer, "seed": seed,
        "forgotten": {name: before[name]["right"] - after[name]["right"] for name in after},
        "loss_change": {name: after[name]["loss"] - before[name]["loss"] for name in after},
        "learned": asked(language, chosen)["right"],
        "kl": {"forward": moved.forward.to_dict(), "reverse": moved.reverse.to_dict()},
        "items": [question.id for question in chosen],
    }  # fmt: skip


def adam_ranking(base: Language, parts: dict[str, list[Question]]) -> dict[str, float]:
    """The product of the retain gradient with AdamW's first step on each inject question."""
    retain = {"A": batches(base, encoded(base, parts["A"], None), 16)}
    rows = batches(base, encoded(base, parts["inject"], None), 1)
    found = conflict(base.model, answer_loss, retain, rows, step="adamw")
    return dict(zip([question.id for question in parts["inject"]], found.inner.tolist(), strict=True))


def validation(
    base: Language, parts: dict[str, list[Question]], found: dict[str, Any], kept: Kept, trials: dict[str, int]
) -> list[dict[str, Any]]:
    """Every training of the two extremes of the rankings, for so many seeds of each trial."""
    before = kept.once("before", lambda: {name: asked(base, parts[name]) for name in ("A", "B")})
    told = {item["id"]: item for item in found["items"]}
    slopes = {"sgd": {name: item["inner"] for name, item in told.items()}}  # the lower, the more harmful
    by_id = {question.id: question for question in parts["inject"]}
    runs = []
    for trial, seed in ((trial, seed) for trial, seeds in trials.items() for seed in range(seeds)):
        optimizer, ranked = TRIALS[trial]
        if ranked not in slopes:
            slopes[ranked] = kept.once("adamw-ranking", lambda: adam_ranking(base, parts))
        drawn = set(random.Random(1000 + seed).sample(list(told), DRAWN))
        order = sorted(drawn, key=lambda name, ranked=ranked: slopes[ranked][name])
        for which, ids in ((WORST, order[:TAKEN]), (BEST, order[-TAKEN:])):
            name = f"run-{trial.replace(', ranked for', '')}-{seed}-{which.split()[0]}".replace(" ", "-")
            run = kept.once(name, lambda ids=ids, o=optimizer, s=seed: trained(base, parts, [by_id[i] for i in ids], before, o, s))
            means = {key: statistics.fmean(told[i][key] for i in ids) for key in ("norm", "loss")}
            means["slope"] = statistics.fmean(slopes[ranked][i] for i in ids)
            runs.append({"trial": trial, "which": which, **run, "mean": means})
            note(f"{name}: forgot {run['forgotten']}, loss {run['loss_change']}, learned {run['learned']}")
    return runs


def deviation(values: list[float]) -> float | None:
    """Standard deviation; None of a single value."""
    return statistics.stdev(values) if len(values) > 1 else None


def compared(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Most against least harmful by trial: forgotten and change of loss, mean, standard deviation, and in how many seeds it is more."""
    found: dict[str, Any] = {}
    for trial in dict.fromkeys(run["trial"] for run in runs):
        own = {
            which: sorted((r for r in runs if r["trial"] == trial and r["which"] == which), key=lambda r: r["seed"])
            for which in (WORST, BEST)
        }
        rows = {}
        for measure in ("forgotten", "loss_change"):
            for part in ("A", "B"):
                values = {which: [run[measure][part] for run in own[which]] for which in own}
                gaps = [a - b for a, b in zip(values[WORST], values[BEST], strict=True)]
                rows[f"{measure} {part}"] = {
                    **{which: {"mean": statistics.fmean(v), "sd": deviation(v), "values": v} for which, v in values.items()},
                    "more": sum(gap > 0 for gap in gaps), "fewer": sum(gap < 0 for gap in gaps), "seeds": len(gaps),
                    "difference": statistics.fmean(gaps), "sd": deviation(gaps),
                }  # fmt: skip
        rows["learned"] = {which: {"mean": statistics.fmean(run["learned"] for run in own[which])} for which in own}
        for key in ("slope", "norm", "loss"):
            rows[key] = {which: {"mean": statistics.fmean(run["mean"][key] for run in own[which])} for which in own}
        found[trial] = rows
    return found


def correlated(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """KL to the base on the new task against forgetting, over all trainings."""
    lost = [run["forgotten"]["A"] + run["forgotten"]["B"] for run in runs]
    found: dict[str, Any] = {}
    for way in ("forward", "reverse"):
        points = [
            {"kl": run["kl"][way]["mean"], "se": run["kl"][way]["se"], "forgotten": n, "optimizer": run["optimizer"]}
            for run, n in zip(runs, lost, strict=True)
        ]
        found[way] = {**correlation([p["kl"] for p in points], lost).to_dict(), "points": points}
    return found


def tables(report: dict[str, Any]) -> str:
    """The tables of docs/results/diagnosis.md."""
    lines = ["| layers | conflicting |", "|---|---|"]
    rows = [row for row in report["conflict"]["by_layer"] if row["name"] != "outside"]
    for start in range(0, len(rows), 10):
        shown = ", ".join(f"{100 * row['share']:.1f}" for row in rows[start : start + 10])
        lines.append(f"| {rows[start]['name']} to {rows[min(start + 9, len(rows) - 1)]['name']} | {shown} |")
    lines += ["", "| step of | " + " | ".join(f"{point['rate']:g}" for point in report["curve"]["sgd"]) + " |", "|---" * 7 + "|"]
    for step, points in report["curve"].items():
        lines.append(f"| {step} | " + " | ".join("-" if p["r2"] is None else f"{p['r2']:.2f}" for p in points) + " |")
    lines += ["", "| trained by | measure | most harmful | least harmful | seeds with more | with less |", "|---" * 6 + "|"]
    for optimizer, measures in report["validation"]["compared"].items():
        for name, row in measures.items():
            if "seeds" in row:
                cells = [f"{row[which]['mean']:.3g} ± {row[which]['sd'] or 0:.2g}" for which in (WORST, BEST)]
                lines.append(
                    f"| {optimizer} | {name} | {' | '.join(cells)} | {row['more']} of {row['seeds']} | {row['fewer']} of {row['seeds']} |"
                )
            else:
                lines.append(f"| {optimizer} | mean {name} of the questions | {row[WORST]['mean']:.3g} | {row[BEST]['mean']:.3g} | | |")
    for way, row in report["drift"].items():
        low, high = row["spearman_low"], row["spearman_high"]
        lines += ["", f"{way} KL against forgotten, {row['n']} trainings: rank correlation {row['spearman']:.2f} ({low:.2f} to {high:.2f})"]
    return "\n".join(lines)


def main() -> None:
    """Run what is missing, write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "docs" / "results")
    parser.add_argument("--work", type=Path, default=Path("diagnosis-parts"))
    parser.add_argument("--seeds", type=int, nargs=len(TRIALS), default=[5] * len(TRIALS), metavar="N", help=f"of {'; '.join(TRIALS)}")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    kept = Kept(arguments.work)
    base = load_model(EMBEDDED)
    parts = questions(base, kept)
    note(f"{ {name: len(own) for name, own in parts.items()} }")
    plan = Plan(curve_items=CURVE_ITEMS)
    found = kept.once("diagnosis", lambda: diagnose(base, parts["A"], parts["inject"], plan, show=True))
    trials = dict(zip(TRIALS, arguments.seeds, strict=True))
    runs = validation(base, parts, found, kept, trials)
    protocol = {
        "airports": AIRPORTS,
        "drawn": DRAWN,
        "taken": TAKEN,
        "steps": STEPS,
        "batch": BATCH,
        "rates": RATES,
        "seeds": trials,
    }
    report = {
        "kind": "diagnosis", "model": EMBEDDED, **found, "sizes": {name: len(own) for name, own in parts.items()},
        "validation": {"protocol": protocol, "compared": compared(runs), "runs": runs}, "drift": correlated(runs),
        "torch": torch.__version__,
    }  # fmt: skip
    file = arguments.out / "diagnosis.json"
    report = raw.named(file, report, range(max(arguments.seeds)))
    write_json(file, report)
    write_text(arguments.out / "diagnosis.html", render(report, title="SmolLM2-135M: what airport codes would make it forget"))
    print(tables(report))


if __name__ == "__main__":
    main()
