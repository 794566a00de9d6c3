"""The streams for language models: facts, world-facts, and a user's own files."""

import json
import re
from pathlib import Path

import pytest

from forgetless.data.demo_airports import airport_questions
from forgetless.errors import InputError
from forgetless.streams.builders import make_stream
from forgetless.streams.facts import facts
from forgetless.streams.files import from_files
from forgetless.streams.probes import probe_rows
from forgetless.streams.record import SeedRecord
from forgetless.streams.run import language_rate
from forgetless.streams.settings import StreamSettings
from forgetless.streams.stream import LanguageStream, check_setting
from forgetless.streams.world import _diseases, _elements, _territories, world_facts


@pytest.fixture(scope="module", params=["facts", "world-facts"])
def stream(request: pytest.FixtureRequest) -> LanguageStream:
    made = make_stream(request.param)
    assert isinstance(made, LanguageStream)
    return made


def everything(stream: LanguageStream):
    return [question for task in stream.tasks for question in task.train + task.test]


def test_ids_and_prompts_are_unique_over_the_whole_stream(stream):
    questions = everything(stream)
    assert len({question.id for question in questions}) == len(questions)
    assert len({question.prompt for question in questions}) == len(questions)


def test_prompts_are_plain_completions_without_the_answer(stream):
    for question in everything(stream):
        (answer,) = question.answers
        assert question.kind == "open"
        assert question.prompt == question.prompt.strip() and question.prompt[0].isupper() and len(question.prompt) < 120
        assert answer == answer.strip() and 0 < len(answer) <= 16 and " " not in answer
        assert not re.search(rf"\b{re.escape(answer)}\b", question.prompt, re.IGNORECASE), question


def test_a_task_asks_the_same_facts_in_training_and_test_in_other_words(stream):
    for task in stream.tasks:
        assert not {question.prompt for question in task.train} & {question.prompt for question in task.test}
        fact = {question.id.rsplit("/", 1)[0]: question.answers for question in task.test}
        assert {question.id.rsplit("/", 1)[0]: question.answers for question in task.train} == fact
        assert len(task.train) % len(task.test) == 0 and len(task.train) >= 2 * len(task.test)


def test_no_two_facts_of_a_task_have_one_answer_or_one_that_begins_as_another(stream):
    for task in stream.tasks:
        answers = [question.answers[0] for question in task.test]
        assert len(set(answers)) == len(answers)
        assert not [(a, b) for a in answers for b in answers if a != b and b.startswith(a)]


def test_a_language_stream_has_no_class_setting(stream):
    assert check_setting(stream, "task") == "task"
    with pytest.raises(InputError, match="no classes to tell apart"):
        check_setting(stream, "class")


def test_facts_has_four_subjects_of_sixteen_and_no_answer_stands_in_two():
    tasks = facts().tasks
    assert [task.name for task in tasks] == ["animals", "colours", "numbers", "shapes"]
    assert [(len(task.train), len(task.test)) for task in tasks] == [(48, 16)] * 4
    answers = [question.answers[0] for task in tasks for question in task.test]
    assert len(set(answers)) == 64
    assert not [(a, b) for a in answers for b in answers if a != b and b.startswith(a)]


def test_the_words_of_facts_are_in_no_answer_and_in_one_subject_only():
    words = [question.id.split("/")[1] for task in facts().tasks for question in task.test]
    assert len(set(words)) == 64
    text = " ".join(question.answers[0] for question in everything(facts()))
    assert not [word for word in words if word in text]


@pytest.mark.parametrize("build", [facts, world_facts])
def test_the_seed_decides_which_facts(build):
    one, again, other = (build(items=5, seed=seed) for seed in (1, 1, 2))
    assert one == again != other
    assert all(len(task.test) == 5 for task in one.tasks)


def test_world_facts_has_forty_real_facts_of_four_kinds():
    tasks = world_facts().tasks
    assert [task.name for task in tasks] == ["airports", "medical codes", "elements", "territories"]
    assert [(len(task.train), len(task.test)) for task in tasks] == [(80, 40)] * 4


def test_the_pools_of_world_facts_hold_what_is_true():
    diseases, elements, territories = dict(_diseases()), dict(_elements()), dict(_territories())
    assert diseases["asthma"] == "J45" and diseases["gout"] == "M10" and diseases["cholera"] == "A00"
    assert elements["hafnium"] == "72" and elements["iron"] == "26" and len(elements) == 79
    assert territories["Germany"] == "Németország" and territories["Hungary"] == "Magyarország"
    assert "Austria" not in territories  # Ausztria: could be guessed
    assert len(diseases) > 250 and len(territories) >= 45
    assert all(re.fullmatch(r"[A-O][0-9]{2}", code) for code in diseases.values())


def test_airports_are_those_of_the_demo_in_two_of_its_phrasings():
    airports = world_facts(items=3).tasks[0]
    assert [question.id.rsplit("/", 1)[1] for question in airports.train] == ["1", "2"] * 3
    assert {question.answers for question in airports.train} <= {question.answers for question in airport_questions(121)[1]}


def write(path: Path, rows: list[dict[str, object]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def rows(*words: str, ids: bool = True) -> list[dict[str, object]]:
    return [
        {**({"id": str(n)} if ids else {}), "prompt": f"The capital of {word} is", "answer": word[::-1]} for n, word in enumerate(words)
    ]


def test_every_file_is_a_task_and_the_heldout_file_beside_it_its_test(tmp_path):
    one, two = write(tmp_path / "one.jsonl", rows("aa", "bb")), write(tmp_path / "two.jsonl", rows("cc"))
    write(tmp_path / "one-heldout.jsonl", rows("dd"))
    stream = make_stream([str(two), str(one)])
    assert [(task.name, len(task.train), len(task.test)) for task in stream.tasks] == [("two", 1, 0), ("one", 2, 1)]
    assert [question.id for question in everything(stream)] == ["two/0", "one/0", "one/1", "one-heldout/0"]
    assert stream.tasks[1].test[0].prompt == "The capital of dd is"


def test_a_pair_names_its_test_file(tmp_path):
    one, test = write(tmp_path / "a" / "one.jsonl", rows("aa")), write(tmp_path / "b" / "checks.csv.jsonl", rows("bb", "cc"))
    (task,) = make_stream(f"{one}:{test}").tasks
    assert (task.name, len(task.train), len(task.test)) == ("one", 1, 2)


def test_a_glob_that_names_heldout_files_too_gives_tasks_once(tmp_path):
    names = ("one.jsonl", "one-heldout.jsonl", "two.jsonl", "zwei-heldout.jsonl")
    files = [write(tmp_path / name, rows(f"w{number}")) for number, name in enumerate(names)]
    assert [task.name for task in from_files(sorted(files)).tasks] == ["one", "two", "zwei-heldout"]


def test_files_of_one_name_in_two_folders_keep_their_tasks_and_ids_apart(tmp_path):
    files = [write(tmp_path / folder / "new.jsonl", rows(folder)) for folder in ("x", "y")]
    stream = from_files(files)
    assert [task.name for task in stream.tasks] == ["new", "new-2"]
    assert len({question.id for question in everything(stream)}) == 2


def test_the_same_question_in_two_files_is_refused_with_both_places(tmp_path):
    one, two = write(tmp_path / "one.jsonl", rows("aa", "bb", ids=False)), write(tmp_path / "two.jsonl", rows("cc", "bb", ids=False))
    with pytest.raises(InputError, match=r"two\.jsonl:2: the question stands in .*one\.jsonl too, at .*one\.jsonl:2"):
        from_files([one, two])
    write(tmp_path / "one-heldout.jsonl", rows("bb", ids=False))
    with pytest.raises(InputError, match=r"one-heldout\.jsonl:1: the question stands in .*one\.jsonl too"):
        from_files([one])


def test_two_ids_of_the_user_make_two_questions_of_one_text(tmp_path):
    one, two = (
        write(tmp_path / "one.jsonl", [{"id": "a", "prompt": "P", "answer": "x"}]),
        write(tmp_path / "two.jsonl", [{"id": "b", "prompt": "P", "answer": "y"}]),
    )
    assert [question.id for question in everything(from_files([one, two]))] == ["one/a", "two/b"]


def test_a_limit_reads_the_first_questions_of_each_file(tmp_path):
    one = write(tmp_path / "one.jsonl", rows("aa", "bb", "cc"))
    write(tmp_path / "one-heldout.jsonl", rows("dd", "ee", "ff"))
    (task,) = make_stream([str(one)], {"limit": 2}).tasks
    assert (len(task.train), len(task.test)) == (2, 2)


def test_errors_of_files_come_with_their_line(tmp_path):
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"prompt": "a", "answer": "b"}\n{"prompt": \n', encoding="utf-8")
    with pytest.raises(InputError, match=r"bad\.jsonl:2"):
        make_stream([str(bad)])
    with pytest.raises(InputError, match="no such file"):
        make_stream([str(tmp_path / "nowhere.jsonl")])
    good = write(tmp_path / "good.jsonl", rows("aa"))
    with pytest.raises(InputError, match="named twice"):
        from_files([good, good])
    with pytest.raises(InputError, match="no question file was named"):
        from_files([])
    with pytest.raises(InputError, match="limit"):
        from_files([good], limit=0)


def test_the_recipe_has_a_learning_rate_of_its_own_where_none_is_given():
    for method, rate in ((("auto",), 1e-3), (("kl", "null-space"), 1e-3), (("replay",), 3e-5)):
        assert language_rate(StreamSettings(stream="world-facts", method=method)) == rate
        assert language_rate(StreamSettings(stream="world-facts", method=method, lr=0.5)) == 0.5


def test_rows_of_probes_name_the_seed_that_they_belong_to():
    empty = {key: [] for key in ("accuracy", "baseline", "seconds", "steps", "state_bytes", "model_bytes", "items")}
    records = [SeedRecord(seed, **empty, probes={"B": {f"question {seed}": [True, False]}, "C": {}}) for seed in (3, 4)]
    assert probe_rows(records) == [{"seed": seed, "probe": "B", "id": f"question {seed}", "right": [True, False]} for seed in (3, 4)]
