"""A suite: several named parts, each with its questions, scorer, template, languages and images, read from a YAML file.

    name: my-suite
    parts:
      - {name: held-out, data: heldout.jsonl, scorer: exact}
      - {name: shuffled, data: choice.jsonl, scorer: letter, shuffle: 1, family: choice}

Every key of a part is a field of `Part`. Everything is read and checked before a model is loaded.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from forgetless.data.options import show
from forgetless.data.question import Question
from forgetless.data.reading import is_path, read_questions
from forgetless.data.templates import check_template
from forgetless.errors import InputError
from forgetless.evaluation.by_position import check_positions
from forgetless.evaluation.instructions import read_checks
from forgetless.evaluation.languages import check_language, fact_table, in_languages
from forgetless.evaluation.packaged import PREFIX, packaged
from forgetless.evaluation.reorder import reworded, shuffled
from forgetless.evaluation.score import WITHOUT_ANSWERS, asked_with, check_scorer
from forgetless.evaluation.vision import with_images

FOLDER = Path(__file__).parent / "suites"
BUILT_IN = tuple(sorted(path.stem for path in FOLDER.glob("*.yaml")))
GROUPS = ("lang", "subject")
SPOKEN = ("generate", "free-text", "instructions", "refuses", "complies")
ROLES = ("retain", "inject", "neither")
_MEND = "Write parts: a list of objects with name and data (see docs/evaluate.md)"


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a suite.

    Attributes:
        name: unique in the suite.
        data: a question file, relative to the suite; ``packaged:NAME``; or a hub data set. Empty for ``lm_eval``.
        scorer: a name of `SCORERS`.
        template: a name of `TEMPLATES`.
        wording: text with ``{prompt}`` in it, into which every prompt is set.
        shuffle: a seed: options in another order.
        images: the folder of the images, relative to the suite; left out: the folder of ``data``.
        lang: the languages to keep; left out: all.
        by: ``lang`` or ``subject``: figures for each as well.
        trained_on: a language: does what changed in it cross into the others? Rows need ``lang`` and ``fact``.
        family: parts of one family ask the same questions in different ways, and are compared question by question.
        positions: KL to the base model over so many tokens of the base model's own answers.
        kl: whether to compare two models by KL where they answer, which takes as long as scoring.
        subject: keep only the questions with this subject.
        limit: so many questions.
        lm_eval: tasks of lm-evaluation-harness instead of ``data``.
        include: a folder with further task files, relative to the suite.
        role: what the gate holds the part to (`ROLES`); left out: as `role_of` says.
    """

    name: str
    data: str = ""
    scorer: str = "exact"
    template: str | None = None
    wording: str | None = None
    shuffle: int | None = None
    images: str | None = None
    lang: tuple[str, ...] = ()
    by: str | None = None
    trained_on: str | None = None
    family: str | None = None
    positions: int | None = None
    kl: bool = True
    subject: str | None = None
    limit: int | None = None
    lm_eval: tuple[str, ...] = ()
    include: str | None = None
    role: str | None = None
    questions: tuple[Question, ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class Suite:
    """Parts in order; ``name`` is for reading, ``labels`` a file of answers that people labelled as refusals or not."""

    name: str
    parts: tuple[Part, ...]
    labels: str | None = None

    @property
    def images(self) -> bool:
        """Whether any question has an image."""
        return any(question.image for part in self.parts for question in part.questions)


def read_suite(source: str, *, limit: int | None = None) -> Suite:
    """The suite of a YAML file, or a built-in one by its name, with all its questions.

    Args:
        source: a path, or a name of `BUILT_IN`.
        limit: at most so many questions in each part.

    Raises:
        InputError: the file is missing or malformed, or whatever it names is.
    """
    import yaml

    path = FOLDER / f"{source}.yaml" if source in BUILT_IN else Path(source)
    mend = f"Name a YAML file, or one of {', '.join(BUILT_IN)}"
    if not path.is_file():
        raise InputError("there is no such suite", where=source, mend=mend)
    try:
        given = yaml.safe_load(path.read_text("utf-8"))
    except yaml.MarkedYAMLError as error:
        where = f"{path}:{error.problem_mark.line + 1}" if error.problem_mark else str(path)
        raise InputError(f"it is not YAML ({error.problem})", where=where, mend=_MEND) from error
    except (UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        raise InputError("it is not YAML in UTF-8", where=str(path), mend=_MEND) from error
    if not isinstance(given, dict) or not isinstance(given.get("parts"), list) or not given["parts"]:
        raise InputError("it holds no parts", where=str(path), mend=_MEND)
    if unknown := [str(key) for key in given if key not in ("name", "parts", "labels")]:
        raise InputError(f"unknown key {unknown[0]!r}", where=str(path), mend="The keys are name, parts and labels")
    parts = [_part(row, number, path) for number, row in enumerate(given["parts"], 1)]
    names = [part.name for part in parts]
    if twice := [name for name in names if names.count(name) > 1]:
        raise InputError(f"two parts have the name {twice[0]!r}", where=str(path), mend="Give every part its own name")
    labels = given.get("labels")
    filled = [_filled(part, path, limit) for part in parts]
    return Suite(str(given.get("name") or path.stem), tuple(filled), None if labels is None else str(_beside(path, str(labels))))


def role_of(part: Part) -> str:
    """What the gate holds a part to: its ``role``; else perplexity to nothing, a part named inject or inject-... to learning, any other
    to being retained."""
    if part.role is not None:
        return part.role
    if part.scorer == "perplexity" and not part.lm_eval:
        return "neither"
    return "inject" if part.name == "inject" or part.name.startswith("inject-") else "retain"


def _part(row: object, number: int, path: Path) -> Part:
    where = f"{path}, part {number}"
    if not isinstance(row, dict) or not isinstance(row.get("name"), str) or not row["name"].strip():
        raise InputError(f"it is {show(row)}", where=where, mend=_MEND)
    where = f"{path}, part {row['name']}"
    kinds = {one.name.replace("_", "-"): str(one.type) for one in fields(Part) if one.name != "questions"}
    made: dict[str, Any] = {}
    for key, value in row.items():
        if key not in kinds:
            raise InputError(f"unknown key {key!r}", where=where, mend=f"The keys are {', '.join(kinds)}")
        if value is not None:
            made[key.replace("-", "_")] = _typed(value, kinds[key], f"{where}, {key}")
    part = Part(**made)
    if bool(part.data) == bool(part.lm_eval):
        raise InputError("it names not exactly one of data and lm-eval", where=where, mend=_MEND)
    if part.lm_eval and (
        given := set(made) - {"name", "lm_eval", "include", "limit", "template", "role"} or part.template not in (None, "chat")
    ):
        what = f"it has {', '.join(sorted(given))} beside lm-eval" if isinstance(given, set) else f"its template is {part.template!r}"
        raise InputError(what, where=where, mend="Beside lm-eval there may be include, limit, role and template: chat")
    if part.role is not None and part.role not in ROLES:
        raise InputError(f"{part.role!r} is not allowed", where=f"{where}, role", mend=f"Give {', '.join(ROLES)}")
    if part.role in ("retain", "inject") and part.scorer == "perplexity":
        raise InputError("perplexity knows no right and wrong", where=f"{where}, role", mend="Give role: neither, or another scorer")
    if part.by is not None and part.by not in GROUPS:
        raise InputError(f"{part.by!r} is not allowed", where=f"{where}, by", mend=f"Give {' or '.join(GROUPS)}")
    if part.positions is not None:
        check_positions(part.positions)
        if part.scorer not in SPOKEN:
            mend = f"Take one of {', '.join(SPOKEN)}, or leave positions out"
            raise InputError(f"the scorer {part.scorer} lets the model give no answer, which positions needs", where=where, mend=mend)
    try:
        check_scorer(part.scorer)
        check_template(part.template)
        asked_with(part.scorer, part.template)
    except InputError as error:
        raise InputError(f"{error.where}: {error.what}", where=where, mend=error.mend) from None
    for tag in (*part.lang, *((part.trained_on,) if part.trained_on else ())):
        check_language(tag, where)
    return part


def _typed(value: Any, kind: str, where: str) -> Any:
    if kind.startswith("tuple"):
        items = value if isinstance(value, list) else [value]
        if not items or not all(isinstance(item, str) and item for item in items):
            raise InputError(f"{show(value)} is not allowed", where=where, mend="Give a text, or a list of texts")
        return tuple(items)
    if kind.startswith("int"):
        least = 0 if where.endswith("shuffle") else 1
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise InputError(f"{show(value)} is not allowed", where=where, mend=f"Give a whole number of at least {least}")
        return value
    if kind == "bool":
        if not isinstance(value, bool):
            raise InputError(f"{show(value)} is not allowed", where=where, mend="Give true or false")
        return value
    if not isinstance(value, str) or not value.strip():
        raise InputError(f"{show(value)} is not allowed", where=where, mend="Give a text (in quotes, if it looks like something else)")
    return value


def _filled(part: Part, path: Path, limit: int | None) -> Part:
    """The part with its questions, as they will be asked."""
    where = f"{path}, part {part.name}"
    most = min((count for count in (part.limit, limit) if count is not None), default=None)
    if part.lm_eval:
        files = tuple(str(_beside(path, task)) if task.endswith((".yaml", ".yml", ".json")) else task for task in part.lm_eval)
        return replace(part, limit=most, lm_eval=files, include=str(_beside(path, part.include)) if part.include else None)
    chosen = (part.subject is not None or bool(part.lang)) and not part.data.startswith(PREFIX)  # then as many are left, not looked at
    questions, folder = _read(part, path, None if chosen else most)
    if part.subject is not None:
        questions = [question for question in questions if question.subject == part.subject]
    if not questions:
        raise InputError(f"no question has the subject {part.subject!r}", where=where, mend="Check the subject, or leave it out")
    if part.lang:
        questions = in_languages(questions, part.lang, where)
    questions = questions[:most] if chosen else questions
    for question in questions:
        if question.lang is not None and (part.by == "lang" or part.trained_on):
            check_language(question.lang, question.where or question.id)
        if part.by is not None and getattr(question, part.by) is None:
            raise InputError(
                f"the row has no {part.by}", where=question.where or question.id, mend=f"Fill it in, or leave by: {part.by} out"
            )
        if part.scorer == "instructions":
            read_checks(question)
    if part.trained_on:
        fact_table(questions, [False] * len(questions), None)
        if part.trained_on not in {question.lang for question in questions}:
            raise InputError(f"no question has lang {part.trained_on!r}", where=where, mend="Name a language of the file as trained-on")
    questions = with_images(questions, _beside(path, part.images) if part.images else folder)
    if part.wording is not None:
        questions = reworded(questions, part.wording)
    if part.shuffle is not None:
        questions = shuffled(questions, part.shuffle)
    return replace(part, questions=tuple(questions), limit=most)


def _read(part: Part, path: Path, limit: int | None) -> tuple[list[Question], Path]:
    if part.data.startswith(PREFIX):
        return packaged(part.data.removeprefix(PREFIX), limit, subject=part.subject)
    hub = not is_path(part.data) and not _beside(path, part.data).exists()
    source = part.data if hub else _beside(path, part.data)
    questions = read_questions(source, limit=limit, answers=part.scorer not in WITHOUT_ANSWERS)
    return questions, Path() if hub else Path(source).parent


def _beside(path: Path, name: str) -> Path:
    """``name`` relative to the folder of the suite; an absolute one as it is."""
    return path.parent / Path(name).expanduser()
