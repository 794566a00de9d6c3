"""``forgetless stream``: a method through a sequence of tasks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from forgetless.cli.options import Config, Debug, Json, answer, named_files
from forgetless.cli.placement import Device, Dtype


def stream(
    name: Annotated[str, typer.Option("--stream", help="A built-in stream, or question files joined by commas, one a task.")],
    out: Annotated[Path, typer.Option("--out", help="Folder to make.")],
    setting: Annotated[str, typer.Option("--setting", help="task, class or domain: what is known at use.")] = "task",
    method: Annotated[str, typer.Option("--method", help="One method, or several joined by commas, applied left to right.")] = "none",
    method_arg: Annotated[list[str] | None, typer.Option("--method-arg", help="METHOD.OPTION=VALUE. Repeatable.")] = None,
    stream_arg: Annotated[list[str] | None, typer.Option("--stream-arg", help="OPTION=VALUE of the stream. Repeatable.")] = None,
    seeds: Annotated[int, typer.Option("--seeds", help="How many runs, with seeds from 0 on.")] = 5,
    optimizer: Annotated[str | None, typer.Option("--optimizer", help="Left out: adam for classifiers, adamw for language models.")] = None,
    lr: Annotated[float | None, typer.Option("--lr", help="Left out: 1e-3; for language models 3e-5, but by auto 1e-3.")] = None,
    steps: Annotated[int, typer.Option("--steps", help="Optimizer steps a task (classifiers).")] = 500,
    epochs: Annotated[int, typer.Option("--epochs", help="The most passes over a task (language models).")] = 10,
    until_learned: Annotated[float, typer.Option("--until-learned", help="Next task at this share learned (language models).")] = 0.9,
    batch_size: Annotated[int | None, typer.Option("--batch-size", help="Left out: 128 for classifiers, 8 for language models.")] = None,
    memory: Annotated[int, typer.Option("--memory", help="Old examples for methods that need a retain set.")] = 2000,
    probe: Annotated[
        list[str] | None, typer.Option("--probe", help="NAME=FILE: known questions, asked after each task. Repeatable.")
    ] = None,
    model: Annotated[str, typer.Option("--model", help="The language model.")] = "smollm2-135m",
    device: Device = "auto",
    dtype: Dtype = "float32",
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out; finished seeds stay.")] = False,
    config: Config = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Learn one task after another; the accuracy matrix, ACC, BWT, FWT, forgetting, item by item."""
    from forgetless.methods import METHODS
    from forgetless.streams.run import run_stream
    from forgetless.streams.settings import StreamSettings
    from forgetless.train.settings import build_method, check_methods, parse_method_args

    names = tuple(part.strip() for part in method.split(",") if part.strip())
    check_methods(names, METHODS)
    options = parse_method_args(method_arg or [], names)
    build_method(names, options, METHODS)
    settings = StreamSettings(
        stream=name,
        stream_args=_stream_args(stream_arg or []),
        setting=setting,
        method=names,
        method_args=options,
        seeds=seeds,
        optimizer=optimizer,
        lr=lr,
        steps=steps,
        epochs=epochs,
        until_learned=until_learned,
        batch_size=batch_size,
        memory=memory,
        probes=named_files(probe or []),
        model=model,
        device=device,
        dtype=dtype,
    )
    found = run_stream(settings, lambda: build_method(names, options, METHODS), out, resume=resume, show=not as_json)
    answer(found, f"{_table(found)}\n{out}/matrix.json, {out}/report.html", as_json=as_json)


def _stream_args(pairs: list[str]) -> dict[str, Any]:
    from forgetless.train.settings import parse_method_args

    found = parse_method_args([f"stream.{pair}" for pair in pairs], ["stream"])
    return found.get("stream", {})


def _table(found: dict[str, Any]) -> str:
    """The matrix in text: a row for each task trained, a column for each task tested."""

    def cell(value: float | None) -> str:
        return "    -" if value is None else f"{100 * value:5.1f}"

    lines = [f"accuracy in %, mean of {found['n_seeds']} seeds; row: after training, column: tested on task"]
    width = max(len(task) for task in found["tasks"])
    lines.append(" " * (width + 2) + " ".join(f"{index + 1:>5}" for index in range(len(found["tasks"]))))
    lines += [f"{task:<{width}}  {' '.join(cell(v) for v in row)}" for task, row in zip(found["tasks"], found["mean"], strict=True)]
    for name, value in found["figures"].items():
        if value["mean"] is not None:
            error = "" if value["se"] is None else f" (standard error {100 * value['se']:.1f})"
            lines.append(f"{name.upper() if name != 'forgetting' else name}: {100 * value['mean']:.1f}{error}")
    for name, probe in found["probes"].items():
        lost = " ".join(cell(value) for value in probe["forgotten"])
        lines.append(f"forgotten of {name} ({min(probe['known'])} known before) after each task: {lost}")
    lines.append(f"training seconds: {found['seconds']['mean']:.1f}; kept by the method: {found['state_bytes'] / 1e6:.1f} MB")
    return "\n".join(lines)
