"""A ranked choice of methods for a situation, with reasons and the command to run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from forgetless.advice.options import CHOICES, Choice
from forgetless.core import options

OldData = Literal["yes", "no"]
KINDS = ("language", "classifier", "sequential")


@dataclass(frozen=True, slots=True)
class Situation:
    """What somebody has and wants.

    Attributes:
        old_data: examples of what must be kept are at hand, and may be kept.
        headroom: spare memory beside plain training, in bytes.
        tasks: how many tasks in a row.
        task_known: the task is known at use.
        kind: ``language`` (a causal language model), ``sequential`` (a feed-forward `torch.nn.Sequential`) or ``classifier``
            (any other module).
        parameters: of the model.
        loss: share of what it knows that may be lost, from 0 to 1.

    Raises:
        InputError: a value is out of range.
    """

    old_data: bool
    headroom: float
    tasks: int
    task_known: bool
    kind: str
    parameters: float
    loss: float

    def __post_init__(self) -> None:
        options.choice("--kind", self.kind, KINDS)
        options.number("--headroom-gb", self.headroom)
        options.whole("--tasks", self.tasks)
        options.number("--parameters", self.parameters, above=True)
        options.number("--acceptable-loss", self.loss, high=1.0)


def recommend(situation: Situation, model: str = "MODEL") -> dict[str, Any]:
    """The methods that fit, best first, each with its reasons and the command; and the ones that do not, with why.

    Args:
        situation: what somebody has and wants.
        model: to be named in the commands.

    Returns:
        ``{"choices": [{"method", "reasons", "command"}], "ruled_out": [{"method", "why"}]}``. There is always a choice: plain
        fine-tuning at a low rate, whose forgetting is to be measured, stands last.
    """
    fitting: list[Choice] = []
    ruled_out = []
    for choice in CHOICES:
        why = _misfit(choice, situation)
        if why:
            ruled_out.append({"method": choice.name, "why": why})
        else:
            fitting.append(choice)
    fitting.sort(key=lambda choice: -_worth(choice, situation))
    ranked = [
        {"method": choice.name, "reasons": _reasons(choice, situation), "command": command(choice, situation, model)} for choice in fitting
    ]
    plain = "plain fine-tuning at a low learning rate is the rival to beat: sweep the rate, and see what `forgetless eval` says was lost"
    last = Choice(("none",), False, False, KINDS, lambda tasks: 0.0, 1.0, "none", plain)
    ranked.append({"method": "none", "reasons": [plain], "command": command(last, situation, model)})
    return {"choices": ranked, "ruled_out": ruled_out}


def command(choice: Choice, situation: Situation, model: str) -> str:
    """What to type."""
    arguments = "".join(f" --method-arg {argument}" for argument in choice.arguments)
    if situation.kind != "language":
        made = " >> ".join(f'fl.METHODS["{name}"]({_keywords(choice, name)})' for name in choice.methods)
        return f"with fl.attach({made}, model, optimizer, task, loss_fn) as session: ..."
    if situation.tasks > 1:
        return (
            f"forgetless stream --stream first.jsonl,second.jsonl --model {model} --method {choice.name}{arguments} --seeds 1 --out stream"
        )
    retain = " --retain old.jsonl" if situation.old_data else ""
    return f"forgetless train --model {model} --inject new.jsonl{retain} --method {choice.name}{arguments} --out run"


def _keywords(choice: Choice, name: str) -> str:
    own = [argument.partition(".")[2] for argument in choice.arguments if argument.startswith(f"{name}.")]
    return ", ".join(own)


def _misfit(choice: Choice, situation: Situation) -> str | None:
    needed = choice.bytes_per_parameter(situation.tasks) * situation.parameters
    if choice.old_data and not situation.old_data:
        return "it needs old data"
    if choice.stores and situation.tasks > 1 and not situation.old_data:
        return "it keeps examples of each task for those that follow"
    if choice.task_identity and not situation.task_known:
        return "it must be told the task at use"
    if situation.kind not in choice.kinds:
        return f"it works on {', '.join(choice.kinds)} models only"
    if situation.tasks == 1 and not choice.single:
        return "it protects earlier tasks from later ones, and there is one task"
    if needed > situation.headroom:
        return f"it needs about {needed / 1e9:.2g} GB more than plain training"
    return None


def _worth(choice: Choice, situation: Situation) -> float:
    """Larger is better: what it keeps, weighed by how little may be lost, less what it costs."""
    guarantee = choice.later if choice.later and situation.tasks > 1 else choice.guarantee
    keeps = {"exact": 3.0, "wide": 2.4, "strong": 2.0, "some": 1.0, "weak": 0.6, "none": 0.0}[guarantee]
    strict = 1.0 + 1.0 / (1.0 + 100 * situation.loss)
    brakes = (len(choice.methods) > 1) * (0.6 if situation.loss < 0.01 else -0.6)
    return keeps * strict - 0.25 * choice.time(old_data=situation.old_data) + brakes - 0.05 * choice.bytes_per_parameter(situation.tasks)


def _reasons(choice: Choice, situation: Situation) -> list[str]:
    found = [choice.reason]
    needed = choice.bytes_per_parameter(situation.tasks) * situation.parameters
    times = choice.time(old_data=situation.old_data)
    found.append(f"about {times:g} times plain training's time to learn as much, {needed / 1e9:.2g} GB more memory")
    if choice.guarantee == "exact":
        found.append("nothing of the earlier tasks is lost, to the last bit, where the task is known")
    elif situation.loss < 0.01:
        found.append("less than 1% may be lost: check it on held-out items with `forgetless eval`")
    return found
