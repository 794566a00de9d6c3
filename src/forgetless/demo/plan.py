"""What the demo asks, and with which settings it trains."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from forgetless.data.demo_airports import airport_questions
from forgetless.data.demo_facts import other_facts, world_facts
from forgetless.data.model import EMBEDDED, load_model
from forgetless.data.question import Question
from forgetless.data.reading import read_questions, to_row
from forgetless.errors import InputError
from forgetless.evaluation.score import score
from forgetless.evaluation.split import halve
from forgetless.files import write_json, write_jsonl
from forgetless.progress import bar

OTHER = "other-kinds"
TITLES = {"none": "Plain fine-tuning", "replay": "Replay", "cpl": "CPL"}
SPLITS = ("inject", "inject-heldout", "retain", "retain-heldout", OTHER)


@dataclass(frozen=True, slots=True)
class Training:
    """One run: a method with its options on the command line, and a learning rate."""

    method: str
    lr: float
    options: dict[str, int | str] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """How the closing lines call it."""
        return f"{TITLES[self.method]} at lr {self.lr:g}"


@dataclass(frozen=True, slots=True)
class Plan:
    """The size of a demo.

    Attributes:
        airports: how many airports to learn, three phrasings each.
        world, other: how many candidate facts to ask, of the reference's kinds and of other kinds.
        batch_size, epochs, until_learned: of every run.
        runs: by the name of its folder.
    """

    airports: int
    world: int
    other: int
    batch_size: int
    epochs: int
    until_learned: float
    runs: dict[str, Training]


CPL_OPTIONS: dict[str, int | str] = {"cpl.refresh": 4, "cpl.retain_batches": 1}
PLAIN, LOWER = Training("none", 1e-4), Training("none", 3e-5)
REPLAYED, PROTECTED = Training("replay", 1e-4), Training("cpl", 1e-4, CPL_OPTIONS)
FULL = Plan(64, 210, 80, 8, 8, 0.9, {"none": PLAIN, "none-lower-rate": LOWER, "replay": REPLAYED, "cpl": PROTECTED})
FAST = Plan(12, 70, 28, 6, 6, 0.9, {"none": PLAIN, "cpl": PROTECTED})


def make_questions(plan: Plan, folder: Path, *, show: bool) -> dict[str, list[Question]]:
    """The five question files of the demo, made once: the facts that the model answers right, and codes that it does not.

    The known facts of the reference's kinds are halved into ``retain`` (A) and ``retain-heldout`` (B); those of other kinds
    are C; the codes in three phrasings are ``inject``, in a fourth ``inject-heldout``.

    Raises:
        InputError: a package of the ``demo`` extra is missing, or the model knows too little.
    """
    files = {name: folder / f"{name}.jsonl" for name in SPLITS}
    if (folder / "questions.json").is_file():
        return {name: read_questions(file) for name, file in files.items()}
    world, other = world_facts(plan.world), other_facts(plan.other)
    inject, heldout = airport_questions(plan.airports)
    language = load_model(EMBEDDED)
    asked = [*world, *other, *inject, *heldout]
    with bar("what does it know?", len(asked), show=show) as advance:
        verdicts = score(language, asked, batch_size=64, advance=advance)
    known = {question.id for question, verdict in zip(asked, verdicts, strict=True) if verdict.right}
    halves = halve([question for question in world if question.id in known], seed=0)
    parts = {
        "inject": [question for question in inject if question.id not in known],
        "inject-heldout": [question for question in heldout if question.id not in known],
        "retain": halves[0],
        "retain-heldout": halves[1],
        OTHER: [question for question in other if question.id in known],
    }
    empty = [name for name, questions in parts.items() if not questions]
    if empty:
        raise InputError(f"the model gives no questions for {', '.join(empty)}", where="demo", mend="Use the embedded default model")
    for name, questions in parts.items():
        write_jsonl(files[name], [to_row(question) for question in questions])
    write_json(folder / "questions.json", {"asked": len(asked), **{name: len(questions) for name, questions in parts.items()}})
    return parts


def command(plan: Plan, run: Training, questions: Path, out: Path) -> list[str]:
    """The arguments of ``forgetless`` that train one run of the demo."""
    arguments = ["train", "--model", EMBEDDED, "--method", run.method]
    for key, value in run.options.items():
        arguments += ["--method-arg", f"{key}={value}"]
    for name in SPLITS:
        flag = ["--probe", f"{name}={questions / f'{name}.jsonl'}"] if name == OTHER else [f"--{name}", str(questions / f"{name}.jsonl")]
        arguments += flag
    arguments += ["--optimizer", "adamw", "--lr", f"{run.lr:g}", "--batch-size", str(plan.batch_size), "--retain-batch-size", "32"]
    arguments += ["--eval-batch-size", "64", "--epochs", str(plan.epochs), "--until-learned", f"{plan.until_learned:g}"]
    return [*arguments, "--no-keep-checkpoint", "--resume", "--out", str(out)]
