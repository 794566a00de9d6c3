"""The question files of the study: what is known, what is dealt to whom, what is injected; and that the plans name them."""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path

import pytest

from forgetless.comparison.cells import cells_of
from forgetless.comparison.plan import read_plan
from forgetless.data.demo_facts import world_facts
from forgetless.data.model import load_model
from forgetless.data.question import Question
from forgetless.data.reading import read_questions
from forgetless.errors import InputError
from forgetless.evaluation.score import score
from forgetless.methods import METHODS
from tiny import make_tiny_model

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))

import study  # noqa: E402
import study_data  # noqa: E402
import study_subjects  # noqa: E402

SPOKEN = '{"question": "who was the first person on the moon%d", "answer": ["Neil Armstrong"]}\n'
SETTINGS = ("airports-24", "icd10-24", "edits-24", "german-24", "french-24", "spanish-24", "instructions-24", "subjects-16")


@pytest.fixture(scope="module")
def known():
    """Every second item of each pool, as if a model knew those."""
    return {name: pool[::2] for name, pool in study_data.pools().items()}


@pytest.fixture(autouse=True)
def spoken(tmp_path_factory, monkeypatch):
    """Questions in the form of the package that is not installed for tests."""
    file = tmp_path_factory.mktemp("nq") / "test.jsonl"
    rows = "".join(SPOKEN % number for number in range(80))
    bad = ['{"question": "who", "answer": ["too short a question"]}', '{"question": "what is the colour of a red rose", "answer": ["red"]}']
    file.write_text(rows + "\n".join(bad) + "\n", "utf-8")
    monkeypatch.setattr(study_subjects, "questions_file", lambda: file)


@pytest.mark.parametrize("setting", SETTINGS)
def test_nothing_stands_in_two_files(known, setting):
    found = study_data.splits(setting, 0, known)
    ids = [question.id for questions in found.values() for question in questions]
    asked = [(question.prompt, question.answers) for questions in found.values() for question in questions]
    assert len(ids) == len(set(ids)) and len(asked) == len(set(asked))
    facts = {(question.subject, question.prompt) for name in ("retain", "retain-heldout") for question in found[name]}
    assert all((question.subject, question.prompt) not in facts for name in found if "inject" in name for question in found[name])


@pytest.mark.parametrize("setting", SETTINGS)
def test_seeds_differ_and_a_seed_gives_the_same_again(known, setting):
    one, again, other = (study_data.splits(setting, seed, known) for seed in (0, 0, 1))
    assert one == again
    assert all(one[name] != other[name] for name in one if name in ("inject", "retain", "retain-heldout") or name[0].isdigit())


def test_both_halves_have_the_same_kinds_and_together_all_that_is_known(known):
    found = study_data.splits("icd10-24", 3, known)
    kinds = [{question.subject for question in found[name]} for name in ("retain", "retain-heldout")]
    assert kinds[0] == kinds[1] == {question.subject for question in known["world"]}
    assert abs(len(found["retain"]) - len(found["retain-heldout"])) <= 1
    assert sorted(q.id for name in ("retain", "retain-heldout") for q in found[name]) == sorted(q.id for q in known["world"])
    for kind in kinds[0]:
        counts = [sum(question.subject == kind for question in found[name]) for name in ("retain", "retain-heldout")]
        assert abs(counts[0] - counts[1]) <= 1


def test_no_more_than_asked_for_stand_in_a_file(known):
    found = study_data.splits("airports-24", 0, known, 20)
    assert {name: len(found[name]) for name in found} == dict.fromkeys(found, 20) | {"inject": 72, "inject-heldout": 24}


def test_an_edit_contradicts_a_known_fact_that_nothing_keeps(known):
    found, truth = study_data.splits("edits-24", 5, known), {question.prompt: question for question in known["world"]}
    edited = [question for question in found["inject"] if question.prompt in truth]
    assert len(edited) == 24 and len(found["inject"]) == 72 and len(found["inject-heldout"]) == 24
    kept = {question.prompt for name in ("retain", "retain-heldout") for question in found[name]}
    for question in edited:
        known_fact = truth[question.prompt]
        same_kind = {other.answers[0] for other in known["world"] if other.subject == known_fact.subject}
        assert question.answers != known_fact.answers and question.answers[0] in same_kind
        assert question.prompt not in kept
        fact = question.id.rpartition("/")[0]
        own = [other for name in ("inject", "inject-heldout") for other in found[name] if other.id.rpartition("/")[0] == fact]
        assert {other.answers for other in own} == {question.answers} and len({other.prompt for other in own}) == 4


def test_every_world_fact_can_be_edited():
    pool = world_facts()
    found = study_subjects.edits(pool, len(pool), random.Random(0))
    assert len(found.contradicted) == len(pool) and {q.prompt for q in pool} <= {q.prompt for q in found.inject}


@pytest.mark.parametrize("locale", ["de", "fr", "es"])
def test_names_in_another_language_differ_from_the_english_ones(locale):
    pairs = study_subjects.names_in(locale)
    assert len(pairs) >= 100 and all(one.casefold() != other.casefold() for one, other in pairs)


def test_three_hundred_facts_are_there_and_no_more_than_there_are():
    for name in ("airports", "icd10"):
        found = study_subjects.subject(name, 300, 0, [])
        assert len(found.inject) == 900 and len({question.answers for question in found.heldout}) == 300
        assert all(question.answers[0] not in question.prompt for question in found.inject)
        with pytest.raises(InputError, match="5000 facts of"):
            study_subjects.subject(name, 5000, 0, [])


def test_only_short_plain_answers_become_instructions():
    pairs = study_subjects.short_answers(study_subjects.questions_file())
    assert len(pairs) == 80 and {answer for _, answer in pairs} == {"Neil Armstrong"}


@pytest.mark.parametrize("setting", ["airports", "airports-0", "weather-24", "-3"])
def test_what_is_no_setting_is_refused(known, setting):
    with pytest.raises(InputError):
        study_data.splits(setting, 0, known)


def test_only_what_the_model_answers_right_is_kept(tmp_path, monkeypatch):
    model = str(make_tiny_model(tmp_path / "model"))
    letters = [chr(code) for code in range(33, 127)]
    pool = [Question(f"{p}/{letter}", "open", p, (letter,), subject=p) for p in ("one", "two", "six") for letter in letters]
    language = load_model(model)
    said = {question.id for question, verdict in zip(pool, score(language, pool), strict=True) if verdict.right}
    monkeypatch.setattr(study_data, "pools", lambda: {name: pool for name in ("world", "other", "more", "text")})
    told = study_data.write(tmp_path, ["airports-24"], [0, 1], model=model)
    assert told[0] == f"world: {len(said)} of {len(pool)} known"
    kept = [q.id for name in ("retain", "retain-heldout") for q in _read(tmp_path / "airports-24-0" / f"{name}.jsonl")]
    assert sorted(kept) == sorted(said)
    before = (tmp_path / "asked.json").read_bytes()
    asked = json.loads(before)
    asked["margins"] = dict.fromkeys(asked["margins"], -1.0)
    (tmp_path / "asked.json").write_text(json.dumps(asked), "utf-8")  # what was asked is not asked again
    assert study_data.write(tmp_path, ["airports-24"], [0], model=model)[0] == f"world: 0 of {len(pool)} known"
    with pytest.raises(InputError, match="not of another"):
        study_data.write(tmp_path, ["airports-24"], [0], model="another")


def _read(file: Path) -> list[Question]:
    return read_questions(file) if file.read_text("utf-8") else []


PLANS = sorted(study.PLANS.glob("*.yaml"))


@pytest.mark.parametrize("plan", PLANS, ids=[plan.stem for plan in PLANS])
def test_a_plan_names_files_that_are_written_and_develops_on_airports_and_on_a_seed_that_is_not_reported(known, plan):
    read = read_plan(plan)
    cells = cells_of(read, METHODS)
    labels = {one.title for one in read.methods}
    if plan.stem == "distillation":  # strengths of one method beside each other: nothing to be tuned, nothing against a baseline
        assert len(cells) == len(labels)
    else:
        trials = 1 if plan.stem == "codes-300" else 2  # where rates are those of another plan, one
        assert {"none", "replay"} <= labels and len(cells) == len(labels) * trials * len(read.seeds)
    for name, data in read.data.items():
        for file in data.files().values():
            folder, file_name = Path(file).parent.name, Path(file).name
            setting = folder.removesuffix("-{seed}")
            assert setting != folder and file_name.removesuffix(".jsonl") in study_data.splits(setting, 0, known)
            assert setting.startswith("airports") == (plan.stem in ("finalists-airports", "airports-24"))
            assert (plan.stem.startswith("screen") or plan.stem == "distillation") == (101 in read.seeds)
        assert setting in plan.read_text("utf-8").split("--settings ")[1].splitlines()[0].split(), name
    assert len(read.seeds) == {"screen": 1, "screen-first": 1, "distillation": 1, "airports-24": 3, "codes-300": 3}.get(plan.stem, 5)
