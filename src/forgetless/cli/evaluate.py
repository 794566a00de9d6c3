"""``forgetless eval``: one model on questions, or two on the same ones."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from forgetless.cli.options import Config, Debug, EvalBatch, Json, Limit, Model, Scorer, Template, answer, check_batch
from forgetless.errors import InputError


def evaluate(
    model: Model,
    out: Annotated[Path, typer.Option("--out", help="JSON file to write.")],
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
    config: Config = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Score one model, or compare two item by item: learned, forgotten, exact McNemar test, KL drift."""
    from forgetless.evaluation.forward import NotNumbersError
    from forgetless.evaluation.suite import Part, Suite, read_suite
    from forgetless.files import check_writable, write_json

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
    try:
        if data is not None:
            report = {"data": data, **_one(model, after, data, scorer, template, limit, eval_batch_size, not as_json)}
            text = _text(report, out)
        else:
            wanted = read_suite(suite, limit=limit) if suite else Suite("lm-eval", ())
            if lm_eval:
                extra = Part("lm-eval", lm_eval=tuple(lm_eval), limit=limit)
                wanted = Suite(wanted.name, (*wanted.parts, extra), wanted.labels)
            report = _suite(model, after, wanted, eval_batch_size, not as_json)
            from forgetless.evaluation.suite_text import suite_text

            text = f"{suite_text(report)}\n{out}"
    except NotNumbersError as error:
        raise InputError(str(error).split(". ")[0], where="eval", mend=str(error).split(". ")[1]) from error
    write_json(out, report)
    answer(_without_items(report), text, as_json=as_json)


def _one(
    model: str, after: str | None, data: str, scorer: str, template: str | None, limit: int | None, batch_size: int, show: bool
) -> dict[str, Any]:
    from forgetless.data.model import load_model
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
    first, second = load_model(model, images=images), load_model(after, images=images) if after else None
    return examine(first, second, questions, scorer=scorer, template=template, batch_size=batch_size, show=show)


def _suite(model: str, after: str | None, suite: Any, batch_size: int, show: bool) -> dict[str, Any]:
    from forgetless.data.model import load_model
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
    first, second = load_model(model, images=suite.images), load_model(after, images=suite.images) if after else None
    return {"model": model, "after": after, **run_suite(suite, first, second, batch_size=batch_size, show=show, harness=harness)}


def _without_items(report: dict[str, Any]) -> dict[str, Any]:
    short = {key: value for key, value in report.items() if key != "items"}
    if "parts" in short:
        short["parts"] = [{key: value for key, value in part.items() if key not in ("items", "facts")} for part in short["parts"]]
    return short


def _text(report: dict[str, Any], out: Path) -> str:
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
    return "\n".join([*lines, str(out)])
