"""``forgetless train``: protected fine-tuning of one model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from forgetless.cli.options import Config, Debug, EvalBatch, Json, Limit, Model, Scorer, Seed, Template, answer, named_files
from forgetless.cli.placement import Device, Dtype

BUDGET_BROKEN = 3
"""The exit code of a run that did not keep its budget; its folder is whole."""


def train(
    model: Model,
    inject: Annotated[str, typer.Option("--inject", help="Question file to learn.")],
    out: Annotated[Path, typer.Option("--out", help="Run folder to make.")],
    retain: Annotated[str | None, typer.Option("--retain", help="Question file of what must stay known.")] = None,
    inject_heldout: Annotated[str | None, typer.Option("--inject-heldout", help="Scored, never trained on.")] = None,
    retain_heldout: Annotated[str | None, typer.Option("--retain-heldout", help="Known questions that no method sees.")] = None,
    probe: Annotated[list[str] | None, typer.Option("--probe", help="NAME=FILE: further questions to score. Repeatable.")] = None,
    hide_retain: Annotated[bool, typer.Option("--hide-retain", help="Score --retain, but keep it from the method.")] = False,
    method: Annotated[str, typer.Option("--method", help="One method, or several joined by commas, applied left to right.")] = "auto",
    method_arg: Annotated[list[str] | None, typer.Option("--method-arg", help="METHOD.OPTION=VALUE. Repeatable.")] = None,
    optimizer: Annotated[str, typer.Option("--optimizer", help="adamw, adam, sgd or momentum.")] = "adamw",
    lr: Annotated[float | None, typer.Option("--lr", help="Learning rate; left out: 1e-3 for auto and null-space, else 1e-5.")] = None,
    weight_decay: Annotated[float | None, typer.Option("--weight-decay", help="Left out: the optimizer's own default.")] = None,
    epochs: Annotated[int, typer.Option("--epochs", help="The most passes over the inject set.")] = 10,
    max_steps: Annotated[int | None, typer.Option("--max-steps", help="End after so many optimizer steps, in an epoch too.")] = None,
    max_seconds: Annotated[float | None, typer.Option("--max-seconds", help="End after so many seconds of training.")] = None,
    batch_size: Annotated[int, typer.Option("--batch-size", help="Questions in a training batch.")] = 8,
    retain_batch_size: Annotated[int, typer.Option("--retain-batch-size", help="Questions in a batch of the reference.")] = 16,
    eval_batch_size: EvalBatch = 32,
    until_learned: Annotated[float | None, typer.Option("--until-learned", help="Stop at this share of the inject set learned.")] = None,
    budget: Annotated[float | None, typer.Option("--budget", help="Lose at most this share of what it knew.")] = None,
    budget_every: Annotated[int | None, typer.Option("--budget-every", help="Steps between the guard's looks; left out: a few.")] = None,
    blend: Annotated[bool | None, typer.Option("--blend/--no-blend", help="Last resort: go back towards the start.")] = None,
    scorer: Scorer = "exact",
    template: Template = None,
    limit: Limit = None,
    device: Device = "auto",
    dtype: Dtype = "float32",
    seed: Seed = 0,
    checkpoint_every: Annotated[int | None, typer.Option("--checkpoint-every", help="Steps; left out: every epoch.")] = None,
    watch: Annotated[bool, typer.Option("--watch", help="After every epoch: KL to the start, movement by layer, circuits.")] = False,
    watch_steps: Annotated[bool, typer.Option("--watch-steps", help="Also predicted and real change of the retain loss. Slow.")] = False,
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="Write the metrics for TensorBoard as well.")] = False,
    keep_checkpoint: Annotated[bool, typer.Option(help="Leave the last checkpoint in the folder of a finished run.")] = True,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out.")] = False,
    config: Config = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Fine-tune on --inject while keeping --retain; write a run folder."""
    from forgetless.methods import METHODS
    from forgetless.train.settings import Settings, build_method, check_methods, default_rate, parse_method_args

    files = {"inject": inject, "retain": retain, "inject-heldout": inject_heldout, "retain-heldout": retain_heldout}
    named = {name: file for name, file in files.items() if file is not None}
    named |= named_files(probe or [], files)
    names = tuple(part.strip() for part in method.split(",") if part.strip())
    check_methods(names, METHODS)
    options = parse_method_args(method_arg or [], names)
    settings = Settings(
        model=model,
        files=named,
        method=names,
        method_args=options,
        optimizer=optimizer,
        lr=default_rate(names) if lr is None else lr,
        weight_decay=weight_decay,
        epochs=epochs,
        max_steps=max_steps,
        max_seconds=max_seconds,
        batch_size=batch_size,
        eval_batch_size=eval_batch_size,
        retain_batch_size=retain_batch_size,
        hide_retain=hide_retain,
        until_learned=until_learned,
        budget=budget,
        budget_every=budget_every,
        blend=blend,
        seed=seed,
        scorer=scorer,
        template=template,
        checkpoint_every=checkpoint_every,
        limit=limit,
        device=device,
        dtype=dtype,
        watch=watch,
        watch_steps=watch_steps,
        tensorboard=tensorboard,
    )
    built = build_method(names, options, METHODS)
    from forgetless.train.loop import train as run_training
    from forgetless.train.processes import started

    summary = run_training(settings, built, out, resume=resume, show=not as_json, keep_checkpoint=keep_checkpoint)
    if started()[0] == 0:  # of several processes the first one speaks
        answer(summary, f"{summary['verdict']}\n{out}/summary.json, {out}/model", as_json=as_json)
    if summary["budget"] is not None and not summary["budget"]["kept"]:
        raise typer.Exit(BUDGET_BROKEN)
