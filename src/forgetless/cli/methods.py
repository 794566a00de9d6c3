"""``forgetless methods``: what there is, what it costs, when to use it."""

from __future__ import annotations

import inspect
import sys
from typing import Annotated, Any

import typer

from forgetless.cli.options import Config, Debug, Json, answer
from forgetless.errors import InputError

YesNo = str | None


def methods(
    recommend: Annotated[bool, typer.Option("--recommend", help="Ask about the situation, and rank what fits.")] = False,
    old_data: Annotated[YesNo, typer.Option("--old-data", help="yes or no: may examples of what must stay be kept?")] = None,
    headroom_gb: Annotated[float | None, typer.Option("--headroom-gb", help="Spare memory beside plain training, in GB.")] = None,
    tasks: Annotated[int | None, typer.Option("--tasks", help="How many tasks in a row.")] = None,
    task_known: Annotated[YesNo, typer.Option("--task-known", help="yes or no: is the task known when the model is used?")] = None,
    kind: Annotated[str | None, typer.Option("--kind", help="language, sequential (a feed-forward Sequential) or classifier.")] = None,
    parameters: Annotated[float | None, typer.Option("--parameters", help="Of the model, such as 135e6.")] = None,
    acceptable_loss: Annotated[float | None, typer.Option("--acceptable-loss", help="Share of what it knows, such as 0.01.")] = None,
    model: Annotated[str, typer.Option("--model", help="To be named in the commands.")] = "smollm2-135m",
    config: Config = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """List every method with its cost, its need for old data, and its options; or recommend some."""
    if recommend:
        given = {
            "old-data": old_data,
            "headroom-gb": headroom_gb,
            "tasks": tasks,
            "task-known": task_known,
            "kind": kind,
            "parameters": parameters,
            "acceptable-loss": acceptable_loss,
        }
        _recommend(given, model, as_json)
        return
    from forgetless.methods import METHODS

    rows: list[dict[str, Any]] = []
    for name, method in METHODS.items():
        options = {
            parameter.name: parameter.default
            for parameter in inspect.signature(method).parameters.values()
            if parameter.kind is parameter.KEYWORD_ONLY
        }
        rows.append(
            {
                "name": name,
                "summary": method.summary,
                "source": method.source,
                "needs_old_data": method.needs_retain or (method.keeps_examples and name != "auto"),  # which does without
                "needs_task_identity": method.needs_task_id,
                "extra_memory": method.extra_memory,
                "extra_compute": method.extra_compute,
                "scope": method.scope,
                "options": options,
            }
        )
    text = "\n\n".join(
        f"{row['name']}\n  {row['summary']}\n  source: {row['source']}\n  old data: {'yes' if row['needs_old_data'] else 'no'}; "
        f"task identity at use: {'yes' if row['needs_task_identity'] else 'no'}\n  extra memory: {row['extra_memory']}; "
        f"extra compute: {row['extra_compute']}; scope: {row['scope']}"
        + (f"\n  options: {', '.join(f'{key}={value}' for key, value in row['options'].items())}" if row["options"] else "")
        for row in rows
    )
    answer(rows, text, as_json=as_json)


QUESTIONS = {
    "old-data": "May examples of what the model must keep be stored and used? (yes/no)",
    "headroom-gb": "How much memory is spare beside plain training, in GB?",
    "tasks": "How many tasks come one after another?",
    "task-known": "Is the task known when the model is used? (yes/no)",
    "kind": "What is the model? (language, sequential, classifier)",
    "parameters": "How many parameters has it? (such as 135e6)",
    "acceptable-loss": "Which share of what it knows may be lost? (such as 0.01)",
}


def _recommend(given: dict[str, Any], model: str, as_json: bool) -> None:
    from forgetless.advice.recommend import Situation, recommend

    missing = [name for name, value in given.items() if value is None]
    if missing and not sys.stdin.isatty():
        flags = ", ".join(f"--{name}" for name in missing)
        raise InputError("the situation is not told, and nobody is there to ask", where="--recommend", mend=f"Give {flags}")
    for name in missing:
        given[name] = typer.prompt(QUESTIONS[name], err=True)
    situation = Situation(
        old_data=_yes(given["old-data"], "old-data"),
        headroom=_number(given["headroom-gb"], "headroom-gb") * 1e9,
        tasks=int(_number(given["tasks"], "tasks")),
        task_known=_yes(given["task-known"], "task-known"),
        kind=str(given["kind"]),
        parameters=_number(given["parameters"], "parameters"),
        loss=_number(given["acceptable-loss"], "acceptable-loss"),
    )
    found = recommend(situation, model)
    lines = []
    for rank, choice in enumerate(found["choices"], 1):
        lines += [f"{rank}. {choice['method']}", *(f"   - {reason}" for reason in choice["reasons"]), f"   {choice['command']}", ""]
    if found["ruled_out"]:
        lines += ["Ruled out:", *(f"  {one['method']}: {one['why']}" for one in found["ruled_out"])]
    answer(found, "\n".join(lines).rstrip(), as_json=as_json)


def _yes(value: Any, option: str) -> bool:
    text = str(value).strip().lower()
    if text in ("yes", "y", "true"):
        return True
    if text in ("no", "n", "false"):
        return False
    raise InputError(f"{value!r} is not allowed", where=f"--{option}", mend="Give yes or no")


def _number(value: Any, option: str) -> float:
    try:
        return float(value)
    except ValueError as error:
        raise InputError(f"{value!r} is not allowed", where=f"--{option}", mend="Give a number") from error
