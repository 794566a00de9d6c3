"""``forgetless eval``: one model on questions, or two on the same ones."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from forgetless.cli.options import Config, Debug, EvalBatch, Json, Limit, Scorer, Template, answer, check_batch
from forgetless.cli.placement import Device, Dtype
from forgetless.errors import InputError

if TYPE_CHECKING:
    from forgetless.data.model import Language

Load = Callable[[str, bool], "Language"]
"""Loads a model by its name, with its images or without, to where it is to compute."""
GATE_CLOSED = 3
"""The exit code where the gate does not pass."""
Share = float | None


def evaluate(
    ctx: typer.Context,
    out: Annotated[Path, typer.Option("--out", help="JSON file to write.")],
    model: Annotated[str | None, typer.Option("--model", help="A model folder, a hub id, or smollm2-135m (the embedded default).")] = None,
    before: Annotated[str | None, typer.Option("--before", help="The same as --model, beside --after.")] = None,
    data: Annotated[str | None, typer.Option("--data", help="Question file, or hub data set owner/name:split.")] = None,
    suite: Annotated[
        str | None,
        typer.Option("--suite", help="YAML file with several parts, or cross-prompt, multilingual, multimodal, open-ended, safety."),
    ] = None,
    lm_eval: Annotated[
        list[str] | None, typer.Option("--lm-eval", help="Task of lm-evaluation-harness, or a task's YAML file. Repeatable.")
    ] = None,
    after: Annotated[str | None, typer.Option("--after", help="A second model: what did it learn and forget?")] = None,
    scorer: Scorer = "exact",
    template: Template = None,
    limit: Limit = None,
    eval_batch_size: EvalBatch = 32,
    device: Device = "auto",
    dtype: Dtype = "float32",
    max_forgetting: Annotated[Share, typer.Option("--max-forgetting", help="Gate: the largest share of what was known to be lost.")] = None,
    min_learned: Annotated[Share, typer.Option("--min-learned", help="Gate: the least share of what was unknown to be learned.")] = None,
    max_refusal_drop: Annotated[Share, typer.Option("--max-refusal-drop", help="Gate: how far the share of refusals may fall.")] = None,
    confidence: Annotated[Share, typer.Option("--confidence", help="Gate: decide by a bound that holds with this probability.")] = None,
    junit: Annotated[Path | None, typer.Option("--junit", help="JUnit XML file to write with what the gate found.")] = None,
    config: Config = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Score one model, or compare two item by item: learned, forgotten, exact McNemar test, KL drift.

    With --max-forgetting, --min-learned or --max-refusal-drop it is a gate: exit code 3 where the second model does not pass.
    """
    from forgetless.data.placement import check_placement
    from forgetless.evaluation.forward import NotNumbersError
    from forgetless.evaluation.gate import Limits, check_gate, decide, gate_text
    from forgetless.evaluation.suite import Part, Suite, read_suite
    from forgetless.files import check_writable, write_json, write_text

    first = _first(ctx, model, before)
    given = [name for name, value in (("--data", data), ("--suite", suite), ("--lm-eval", lm_eval)) if value]
    if not given or (data and len(given) > 1):
        what = f"{' and '.join(given)} are given" if given else "there is nothing to score on"
        raise InputError(what, where="eval", mend="Give --data alone, or --suite, or --lm-eval, or both of these")
    if (suite or lm_eval) and (scorer != "exact" or template is not None):
        raise InputError("--scorer and --template stand in the suite, part by part", where="eval", mend="Leave them out here")
    check_batch(eval_batch_size)
    check_writable(out, folder=False)
    if limit is not None and limit < 1:
        raise InputError(f"must be a whole number from 1 on, not {limit}", where="limit", mend="Leave it out to read every row")
    check_placement(device, dtype)
    limits = Limits(max_forgetting, min_learned, max_refusal_drop, confidence)
    wanted = None
    if data is None:
        wanted = read_suite(suite, limit=limit) if suite else Suite("lm-eval", ())
        if lm_eval:
            extra = Part("lm-eval", lm_eval=tuple(lm_eval), limit=limit)
            wanted = Suite(wanted.name, (*wanted.parts, extra), wanted.labels)
    check_gate(limits, wanted, scorer=scorer, after=after, junit=junit, out=out)
    load, began = _loader(device, dtype), time.perf_counter()
    try:
        if wanted is None:
            assert data is not None
            report = {"data": data, **_one(load, first, after, data, scorer, template, limit, eval_batch_size, not as_json)}
            text = _text(report)
        else:
            report = _suite(load, first, after, wanted, eval_batch_size, not as_json)
            from forgetless.evaluation.suite_text import suite_text

            text = suite_text(report)
    except NotNumbersError as error:
        raise InputError(str(error).split(". ")[0], where="eval", mend=str(error).split(". ")[1]) from error
    gate = decide(report, wanted, limits) if limits.asked else None
    if gate is not None:
        report["gate"], text = gate, f"{text}\n{gate_text(gate)}"
    write_json(out, report)
    if junit is not None and gate is not None:
        from forgetless.evaluation.junit import junit_xml

        name = wanted.name if wanted is not None else Path(str(data)).name
        write_text(junit, junit_xml(gate, name=name, models=(first, str(after)), seconds=time.perf_counter() - began))
    answer(_without_items(report), f"{text}\n{out}", as_json=as_json)
    if gate is not None and not gate["passed"]:
        raise typer.Exit(GATE_CLOSED)


def _first(ctx: typer.Context, model: str | None, before: str | None) -> str:
    """The one model, or the first of two, under either of its names; what stands on the command line wins over a configuration."""
    told = {"--model": model, "--before": before}
    given = {name: value for name, value in told.items() if value is not None}
    said = {name: value for name, value in given.items() if getattr(ctx.get_parameter_source(name[2:]), "name", "") == "COMMANDLINE"}
    chosen = said or given
    if len(chosen) != 1:
        what = "--model and --before are two names of the same" if chosen else "no model is named"
        raise InputError(what, where="eval", mend="Give one of --model and --before")
    return next(iter(chosen.values()))


def _loader(device: str, dtype: str) -> Load:
    def load(name: str, images: bool) -> Language:
        from forgetless.data.model import load_model
        from forgetless.data.placement import place

        return place(load_model(name, images=images), device, dtype)

    return load


def _one(
    load: Load, model: str, after: str | None, data: str, scorer: str, template: str | None, limit: int | None, batch_size: int, show: bool
) -> dict[str, Any]:
    from forgetless.data.reading import check_unique, read_questions
    from forgetless.data.templates import check_template
    from forgetless.evaluation.examine import examine
    from forgetless.evaluation.score import WITHOUT_ANSWERS, check_scorer
    from forgetless.evaluation.vision import with_images

    check_scorer(scorer)
    check_template(template)
    questions = read_questions(data, limit=limit, answers=scorer not in WITHOUT_ANSWERS)
    check_unique(questions, data)
    images = any(question.image for question in questions)
    if images:
        questions = with_images(questions, Path(data).expanduser().parent)
    first, second = load(model, images), load(after, images) if after else None
    return examine(first, second, questions, scorer=scorer, template=template, batch_size=batch_size, show=show)


def _suite(load: Load, model: str, after: str | None, suite: Any, batch_size: int, show: bool) -> dict[str, Any]:
    from forgetless.evaluation.run_suite import check_judge, run_suite

    harness = None
    if any(part.lm_eval for part in suite.parts):
        from forgetless.integrations.lm_eval import check_tasks, run_harness

        if suite.images:
            what = "its parts have images, and tasks of lm-evaluation-harness are run on models of text alone"
            raise InputError(what, where=f"suite {suite.name}", mend="Put them into two suites")
        check_tasks(suite.parts)
        harness = run_harness
    check_judge(suite)
    first, second = load(model, suite.images), load(after, suite.images) if after else None
    return {"model": model, "after": after, **run_suite(suite, first, second, batch_size=batch_size, show=show, harness=harness)}


def _without_items(report: dict[str, Any]) -> dict[str, Any]:
    short = {key: value for key, value in report.items() if key != "items"}
    if "parts" in short:
        short["parts"] = [{key: value for key, value in part.items() if key not in ("items", "facts")} for part in short["parts"]]
    return short


def _text(report: dict[str, Any]) -> str:
    lines = []
    for level in report["models"]:
        if "accuracy" in level:
            lines.append(
                f"{level['model']}: {level['right']} of {report['n']} right, 95% interval {level['low']:.1%} to {level['high']:.1%}"
            )
        else:
            lines.append(f"{level['model']}: perplexity {level['perplexity']:.3f}, 95% interval {level['low']:.3f} to {level['high']:.3f}")
    if paired := report.get("paired"):
        lines.append(f"learned {paired['learned']}, forgotten {paired['forgotten']}, exact McNemar p = {paired['p_value']:.3g}")
        lines.append(f"difference {paired['difference']:+.1%}, 95% interval {paired['low']:+.1%} to {paired['high']:+.1%}")
    if kl := report.get("kl"):
        lines.append(f"KL(before || after) {kl['mean']:.4g} nats a token, 95% interval {kl['low']:.4g} to {kl['high']:.4g}")
    return "\n".join(lines)
