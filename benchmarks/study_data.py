"""The question files of the study: what is injected beside what the untouched model knows, dealt anew for every seed.

For every setting and seed a folder ``SETTING-SEED``:

* ``inject.jsonl``, ``inject-heldout.jsonl``: to learn; the same facts in a phrasing that is never trained;
* ``retain.jsonl`` (A) and ``retain-heldout.jsonl`` (B): known facts of the same kinds, dealt kind by kind;
* ``other.jsonl``, ``more.jsonl``, ``text.jsonl`` (C): known items of kinds that are never in A: opposites, plurals, verbs, products,
  scholars; proverbs, sequences, comparatives, categories, sums; next words of plain text.

Known is what the untouched model answers right under strict scoring. It is asked once; ``asked.json`` keeps by how far each answer wins.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Sequence
from pathlib import Path

from forgetless.data.demo_facts import other_facts, world_facts
from forgetless.data.model import load_model
from forgetless.data.question import Question
from forgetless.data.reading import to_row
from forgetless.errors import InputError
from forgetless.files import write_json, write_jsonl
from forgetless.guard.look import standing
from forgetless.streams.world import world_facts as world_stream
from study_kinds import more_kinds, next_words
from study_subjects import subject

Margins = dict[str, float]
C_KINDS = ("other", "more", "text")


def pools() -> dict[str, list[Question]]:
    """All that the model is asked, by the files in which it may stand."""
    return {"world": world_facts(), "other": other_facts(), "more": more_kinds(), "text": next_words()}


def ask(out: Path, model: str, questions: Sequence[Question]) -> Margins:
    """By id, in nats, by how far the untouched model's answer wins (above 0) or loses; asked once and kept in ``out``.

    Raises:
        InputError: ``out`` holds the answers of another model.
    """
    file = out / "asked.json"
    kept = json.loads(file.read_text("utf-8")) if file.is_file() else {"model": model, "margins": {}}
    if kept["model"] != model:
        raise InputError(f"these are the answers of {kept['model']}, not of {model}", where=str(file), mend="Name another folder for --out")
    margins: Margins = kept["margins"]
    keys = {question.id: _key(question) for question in questions}
    new = [question for question in questions if keys[question.id] not in margins]
    if new:
        found = standing(load_model(model), new, "exact", None, 64).margins or []
        margins |= {keys[question.id]: margin for question, margin in zip(new, found, strict=True)}
        write_json(file, {"model": model, "margins": margins})
    return {name: margins[key] for name, key in keys.items()}


def _key(question: Question) -> str:
    """A question asked in other words is another one."""
    return f"{question.id} {hashlib.sha256(repr((question.prompt, question.answers)).encode()).hexdigest()[:8]}"


def splits(setting: str, seed: int, known: dict[str, list[Question]], most: int | None = None) -> dict[str, list[Question]]:
    """The questions of a setting at a seed, by the names of their files without suffix.

    Args:
        setting: ``subject-count``.
        seed: decides what is injected, what is A and what B, and which items stand in each.
        known: what the model knows, of each of `pools`.
        most: items in each file to keep; None keeps all.

    Raises:
        InputError: there is no such setting.
    """
    name, _, number = setting.rpartition("-")
    if not number.isdecimal() or int(number) < 1:
        raise InputError(f"{setting!r} is no setting", mend="Write SUBJECT-COUNT, as airports-24")
    draw = random.Random(seed)
    if name == "subjects":
        found = {}
        for place, task in enumerate(world_stream(items=int(number), seed=seed).tasks, 1):
            found[f"{place}-{task.name.replace(' ', '-')}"] = list(task.train)
            found[f"{place}-{task.name.replace(' ', '-')}-heldout"] = list(task.test)
        gone: frozenset[str] = frozenset()
    else:
        own = subject(name, int(number), seed, known["world"])
        found, gone = {"inject": own.inject, "inject-heldout": own.heldout}, own.contradicted
    left = [question for question in known["world"] if question.id not in gone]
    retain, heldout = deal(left, draw)
    found |= {"retain": _few(retain, most, draw), "retain-heldout": _few(heldout, most, draw)}
    return found | {kind: _few(known[kind], most, draw) for kind in C_KINDS}


def deal(questions: Sequence[Question], draw: random.Random) -> tuple[list[Question], list[Question]]:
    """Two halves with as many of each kind, one more in one of them where a kind has an odd number."""
    kinds: dict[str | None, list[Question]] = {}
    for question in questions:
        kinds.setdefault(question.subject, []).append(question)
    halves: tuple[list[Question], list[Question]] = ([], [])
    for kind in kinds.values():
        draw.shuffle(kind)
        first = int(len(halves[0]) > len(halves[1]))
        for place, question in enumerate(kind):
            halves[(first + place) % 2].append(question)
    for half in halves:
        draw.shuffle(half)
    return halves


def _few(questions: Sequence[Question], most: int | None, draw: random.Random) -> list[Question]:
    """At most so many, in the order of the draw; not those that stand first, so that every kind is there."""
    return draw.sample(list(questions), len(questions) if most is None else min(most, len(questions)))


def write(out: Path, settings: Sequence[str], seeds: Sequence[int], *, model: str, most: int | None = None) -> list[str]:
    """Write the files of all settings at all seeds into ``out``; gives a line on each."""
    asked = pools()
    margins = ask(out, model, [question for pool in asked.values() for question in pool])
    known = {name: [question for question in pool if margins[question.id] > 0] for name, pool in asked.items()}
    told = [f"{name}: {len(known[name])} of {len(pool)} known" for name, pool in asked.items()]
    for setting in settings:
        for seed in seeds:
            found = splits(setting, seed, known, most)
            for name, questions in found.items():
                write_jsonl(out / f"{setting}-{seed}" / f"{name}.jsonl", [to_row(question) for question in questions])
            told.append(f"{setting}-{seed}: " + ", ".join(f"{name} {len(questions)}" for name, questions in found.items()))
    return told
