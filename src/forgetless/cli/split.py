"""``forgetless split``: what a model knows and what it does not."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from forgetless.cli.options import Config, Debug, EvalBatch, Json, Limit, Model, Scorer, Seed, Template, answer, check_batch
from forgetless.cli.placement import Device, Dtype
from forgetless.errors import InputError


def split(
    model: Model,
    data: Annotated[str, typer.Option("--data", help="Question file, or hub data set owner/name:split.")],
    out: Annotated[Path, typer.Option("--out", help="Folder to make.")],
    scorer: Scorer = "exact",
    template: Template = None,
    heldout: Annotated[str, typer.Option("--heldout", help="Put a half apart of: both, retain or none.")] = "both",
    limit: Limit = None,
    device: Device = "auto",
    dtype: Dtype = "float32",
    seed: Seed = 0,
    eval_batch_size: EvalBatch = 32,
    config: Config = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Score a model on questions; write what it knows and what it does not, each in two halves or whole."""
    from forgetless.data.model import load_model
    from forgetless.data.placement import check_placement, place
    from forgetless.data.reading import check_text, check_unique, read_questions
    from forgetless.data.templates import check_template
    from forgetless.evaluation.score import check_scorer, score
    from forgetless.evaluation.split import check_heldout, check_new, counts, write_split
    from forgetless.evaluation.split import split as split_questions
    from forgetless.files import check_writable
    from forgetless.progress import bar

    check_scorer(scorer)
    if scorer == "perplexity":
        raise InputError("perplexity tells no right from wrong", where="--scorer", mend="Use exact, letter, likelihood or generate")
    check_template(template)
    check_heldout(heldout)
    check_placement(device, dtype)
    check_batch(eval_batch_size)
    check_new(out)
    check_writable(out, folder=True)
    questions = read_questions(data, limit=limit)
    check_unique(questions, data)
    check_text(questions, data)
    language = place(load_model(model), device, dtype)
    with bar("scoring", len(questions), show=not as_json) as advance:
        verdicts = score(language, questions, scorer=scorer, template=template, batch_size=eval_batch_size, advance=advance)
    parts = split_questions(questions, verdicts, seed, heldout)
    about = {
        "model": model,
        "data": data,
        "scorer": scorer,
        "template": template,
        "seed": seed,
        "heldout": heldout,
        **counts(questions, verdicts),
    }
    write_split(out, parts, about)
    text = f"{model} knows {about['known']} of {about['total']} (95% interval {about['low']:.0%} to {about['high']:.0%})\n"
    text += "\n".join(f"{out}/{name}.jsonl  {len(part)}" for name, part in parts.items())
    answer(about | {name: len(part) for name, part in parts.items()}, text, as_json=as_json)
