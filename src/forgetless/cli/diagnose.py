"""``forgetless diagnose``: what would be forgotten, before any training."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from forgetless.cli.options import Config, Debug, Json, Limit, Model, Template, answer
from forgetless.errors import InputError

SHOWN, SHOWN_TEXT = 10, 5


def diagnose(
    model: Model,
    inject: Annotated[str, typer.Option("--inject", help="Question file to learn.")],
    retain: Annotated[str, typer.Option("--retain", help="Question file of what must stay known.")],
    out: Annotated[Path, typer.Option("--out", help="Folder to make.")],
    lr: Annotated[float, typer.Option("--lr", help="The learning rate that predictions are told for.")] = 1e-5,
    optimizer: Annotated[str, typer.Option("--optimizer", help="Whose step the ranking is for: sgd or adamw.")] = "sgd",
    rates: Annotated[str, typer.Option("--rates", help="Learning rates of the curve, joined by commas.")] = "1e-7,1e-6,1e-5,1e-4,1e-3,1e-2",
    curve_items: Annotated[int, typer.Option("--curve-items", help="Inject questions that the curve steps on; 0: no curve.")] = 8,
    fast: Annotated[bool, typer.Option("--fast", help="Rank by the last layers alone; checked on a sample.")] = False,
    last_layers: Annotated[int | None, typer.Option("--last-layers", help="Of the fast ranking; left out: a quarter of them.")] = None,
    check: Annotated[int, typer.Option("--check", help="Questions on which --fast is compared with the exact ranking.")] = 24,
    group_by: Annotated[str, typer.Option("--group-by", help="Groups of the retain set: subject or none.")] = "subject",
    batch_size: Annotated[int, typer.Option("--batch-size", help="Retain questions in a batch.")] = 16,
    hold_gb: Annotated[float | None, typer.Option("--hold-gb", help="What references may take; less is slower.")] = None,
    png: Annotated[bool, typer.Option("--png", help="Write the plots as PNG as well (needs matplotlib).")] = False,
    template: Template = None,
    limit: Limit = None,
    config: Config = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Before training: conflict by layer, the inject questions that will do most harm, up to which rate that can be predicted."""
    from forgetless.analysis.diagnose import Plan
    from forgetless.analysis.diagnose import diagnose as run
    from forgetless.analysis.taylor import check_step
    from forgetless.data.model import load_model
    from forgetless.data.reading import check_disjoint, check_text, check_unique, read_questions
    from forgetless.data.templates import check_template
    from forgetless.evaluation.split import check_new
    from forgetless.files import check_writable, new_folder
    from forgetless.report.diagnosis_page import write_diagnosis
    from forgetless.report.export import check_plots
    from forgetless.train.provenance import fingerprint, provenance

    check_template(template)
    hold = None if hold_gb is None else _bytes(hold_gb)
    plan = Plan(
        lr, _rates(rates), curve_items, fast, last_layers, check, group_by, template, batch_size, hold, check_step("--optimizer", optimizer)
    )
    if png:
        check_plots()
    check_new(out)
    check_writable(out, folder=True)
    new, old = read_questions(inject, limit=limit), read_questions(retain, limit=limit)
    for questions, file in ((new, inject), (old, retain)):
        check_unique(questions, file)
        check_text(questions, file)
    check_disjoint(old, new, names=(retain, inject), where="--retain, --inject")
    language = load_model(model)
    found = run(language, old, new, plan, show=not as_json)
    settings = {
        "model": model,
        "optimizer": optimizer,
        "lr": lr,
        "rates": list(plan.rates),
        "template": template,
        "batch_size": batch_size,
        "group_by": group_by,
    }
    files = {name: {"path": file, "sha256": fingerprint(file)} for name, file in (("inject", inject), ("retain", retain))}
    report = {"kind": "diagnosis", "model": model, "files": files, "settings": settings, **found, **provenance()}
    with new_folder(out) as folder:
        written = [out / path.name for path in write_diagnosis(report, folder, png=png)]
    short = {key: value for key, value in report.items() if key not in ("items", "histogram")} | {"items": report["items"][:SHOWN]}
    short["conflict"] = {key: value for key, value in report["conflict"].items() if key != "tensors"}
    answer(short, f"{text(report)}\n{', '.join(str(path) for path in written)}", as_json=as_json)


def text(report: dict[str, Any]) -> str:
    """The diagnosis in lines for people."""
    n, whole, similarity, ranking = report["n"], report["conflict"]["all"], report["similarity"], report["ranking"]
    kinds = ", ".join(f"{row['name']} {row['share']:.1%}" for row in report["conflict"]["by_kind"])
    low, high = report["top"]["carry"]
    fast, check = ranking["mode"] != "exact", ranking["fast_against_exact"]
    what = "predicted change of the mean retain loss" + (", as far as the last layers make it" if fast else "")
    lines = [
        f"{report['model']}: {n['retain']} retain and {n['inject']} inject questions, {n['weights']:,} weights",
        f"similarity S(M,I) = {similarity['inner']:.4g}, cosine {similarity['cosine']:+.4f}",
        f"conflicting weights: {whole['share']:.1%} ({kinds}); of those with a gradient {whole['share_of_nonzero'] or 0:.1%}",
        f"the top {report['top']['share']:.0%} of the weights carry {(low + high) / 2:.0%} of the sum of |s_j|",
        f"{report['against']} of {n['inject']} inject questions pull against the retain set; the most harmful ({what}, "
        f"one step of {ranking['optimizer']} at lr {ranking['lr']:g}):",
        *(f"  {item['predicted_change']:+.3e}  {item['prompt']!r} -> {item['answer']!r}" for item in report["items"][:SHOWN_TEXT]),
    ]
    if check["spearman"] is not None:
        lines.append(
            f"{'ranked' if fast else 'a ranking'} by the last layers ({ranking['fast_weights']:.0%} of the weights): rank correlation "
            f"{check['spearman']:.2f} with the exact one, n = {check['n']}"
        )
    for step, rate in report["trusted"].items():
        fits = [(point["rate"], point["r2"]) for point in report["curve"][step]]
        shown = " ".join(f"{at:g}: {'-' if r2 is None else format(r2, '.2f') if r2 > -10 else 'below -10'}" for at, r2 in fits)
        up_to = "at none of these rates" if rate is None else f"up to lr {rate:g}"
        lines.append(f"{step}: predictions hold (R² at least 0.9) {up_to}; R² by lr: {shown}")
    if report["refresh"]["turned"]:
        turned = ", ".join(f"{row['share']:.0%} after {row['steps']}" for row in report["refresh"]["turned"])
        lines.append(f"reference signs turned at lr {report['refresh']['lr']:g}: {turned} steps")
    advice = report["suggestion"]
    lines.append(f"suggested: --method {advice['method']}" + ("" if advice["lr"] is None else f" --lr {advice['lr']:g}"))
    return "\n".join([*lines, *(f"  - {reason}" for reason in advice["reasons"])])


def _rates(given: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in given.split(",") if part.strip())
    except ValueError as error:
        raise InputError(f"{given!r} is not allowed", where="--rates", mend="Give numbers joined by commas, such as 1e-6,1e-5") from error


def _bytes(gigabytes: float) -> int:
    from forgetless.core import options

    return max(1, int(options.number("--hold-gb", gigabytes, above=True) * 1e9))
