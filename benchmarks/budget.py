"""Does a budget keep its promise, and does the model still learn? SmolLM2-135M learns airport codes under ``--budget 0.02``.

    python benchmarks/budget.py --work FOLDER            # trains (goes on where it was stopped), writes docs/results/budget.json and .md
    python benchmarks/budget.py --page                   # writes the page anew from the committed figures

For each seed the facts that the model knows are dealt anew into a retain set (of which the guard takes its probe) and the promise's 120
items, other airports are learned, and the batches come in another order. Plain fine-tuning without a budget at the same rate is the
yardstick. Every run is one ``forgetless train``, in this process; each leaves a run folder.
"""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path
from typing import Any

import raw
from forgetless.data.demo_airports import airport_questions
from forgetless.data.demo_facts import other_facts, world_facts
from forgetless.data.model import EMBEDDED, load_model
from forgetless.data.question import Question
from forgetless.data.reading import to_row
from forgetless.files import write_json, write_jsonl
from forgetless.guard.evidence import upper
from forgetless.guard.look import standing
from forgetless.methods import METHODS
from forgetless.train.keeping import deal
from forgetless.train.loop import train
from forgetless.train.settings import Settings, build_method
from forgetless.train.splits import read_splits

RESULTS = Path(__file__).resolve().parents[1] / "docs/results"
BUDGET, LR, EPOCHS, UNTIL, PROMISE, EVERY = 0.02, 1e-4, 10, 0.9, 120, 9
METHOD_ARGS: dict[str, dict[str, Any]] = {"cpl": {"refresh": 4, "retain_batches": 1}}
RATES = {"lora": 1e-3}
"""Rates of methods for which `LR` is not the customary one."""
GUARDED = ("cpl", "none", "replay", "kl", "lora")
ENOUGH = 0.8
TITLES = {"none": "plain", "replay": "replay", "cpl": "cpl", "kl": "kl", "lora": "lora"}
LEAD = 1.0
"""Nats by which an answer must lead for its item to count as known: of those that lead by less rounding alone turns some."""
Margins = dict[str, float]


def ask(work: Path, airports: int, seed: int) -> tuple[list[Question], list[Question], Margins]:
    """All facts, the questions to learn for this seed, and by id the untouched model's margin; asked once and kept."""
    facts = [*world_facts(), *other_facts()]
    inject, _ = airport_questions(airports, seed=seed)
    file = work / "asked.json"
    margins: Margins = json.loads(file.read_text("utf-8")) if file.is_file() else {}
    new = [question for question in [*facts, *inject] if question.id not in margins]
    if new:
        found = standing(load_model(EMBEDDED), new, "exact", None, 64).margins or []
        margins |= {question.id: margin for question, margin in zip(new, found, strict=True)}
        write_json(file, margins)
    return facts, inject, margins


def questions(work: Path, airports: int, seed: int) -> tuple[dict[str, str], Margins]:
    """The question files of a seed, and the untouched model's margins."""
    facts, inject, margins = ask(work, airports, seed)
    known = [question for question in facts if margins[question.id] >= LEAD]
    random.Random(seed).shuffle(known)
    folder = work / f"questions-{seed}"
    parts = {
        "inject": [question for question in inject if margins[question.id] <= 0],
        "retain": known[PROMISE:],
        "retain-heldout": known[:PROMISE],
    }
    for name, items in parts.items():
        write_jsonl(folder / f"{name}.jsonl", [to_row(question) for question in items])
    return {name: str(folder / f"{name}.jsonl") for name in parts}, margins


def run(work: Path, seed: int, method: str, budget: float | None, options: argparse.Namespace) -> dict[str, Any]:
    """Train one run, or go on with it, or only read it where it is finished."""
    files, margins = questions(work, options.airports, seed)
    if budget is None:
        del files["retain"]  # which plain fine-tuning does not look at
    rate = options.lr if budget is None else RATES.get(method, options.lr)
    settings = Settings(
        model=EMBEDDED, files=files, method=(method,), method_args={method: METHOD_ARGS[method]} if method in METHOD_ARGS else {},
        lr=rate, epochs=options.epochs, until_learned=UNTIL, retain_batch_size=16, eval_batch_size=64, seed=seed,
        budget=budget, budget_every=None if budget is None else EVERY,
    )  # fmt: skip
    built = build_method(settings.method, settings.method_args, METHODS)
    before = {name: [(margins[q.id] > 0, None) for q in items] for name, items in deal(read_splits(settings, built), settings).items()}
    out = work / f"{seed}-{method}{'' if budget is None else '-budget'}"
    summary = train(settings, built, out, resume=True, show=options.show, keep_checkpoint=False, before=before)
    lines = [json.loads(line) for line in (out / "budget.jsonl").read_text("utf-8").splitlines()] if budget is not None else []
    keys = ("learned", "inject_total", "forgotten_heldout", "retain_heldout_total", "forgotten", "retain_total", "steps", "epochs_run")
    return {
        "seed": seed, "method": method, "allowed": budget, "lr": rate,
        **{key: summary[key] for key in (*keys, "stopped_because", "seconds", "budget")},
        "looks": [[line[key] for key in ("step", "forgotten", "expected")] for line in lines if line["kind"] == "look"],
        "acts": [[line[key] for key in ("step", "act", "what", "reason")] for line in lines if line["kind"] == "act"],
    }  # fmt: skip


def page(found: dict[str, Any]) -> str:
    """The page, made from the figures alone."""
    plain = {one["seed"]: one for one in found["runs"] if one["allowed"] is None}
    guarded = {
        name: sorted((one for one in found["runs"] if one["method"] == name and one["allowed"] is not None), key=lambda one: one["seed"])
        for name in GUARDED
    }
    whole = {name: own for name, own in guarded.items() if [one["seed"] for one in own] == sorted(plain)}
    every = [name for name, own in whole.items() if all(one["budget"]["kept"] and _share(one, plain) >= ENOUGH for one in own)]
    lost = {name: sum(one["budget"]["forgotten"] for one in own) for name, own in whole.items()}
    total = {name: sum(one["budget"]["total"] for one in own) for name, own in whole.items()}
    mean = {name: sum(_share(one, plain) for one in own) / len(own) for name, own in whole.items()}
    together = [name for name in whole if lost[name] <= found["budget"] * total[name] and mean[name] >= ENOUGH]
    missing = [TITLES[name] for name in GUARDED if name not in whole]
    first = plain[min(plain)]
    lines = [
        f"# A budget of {found['budget']:.0%}: kept or broken, and what was learned",
        "",
        f"SmolLM2-135M learns {found['airports']} airport codes in three phrasings ({first['inject_total']} questions): AdamW at "
        f"{found['lr']:g} ({_other_rates()}), batch 8, until {found['until_learned']:.0%} is learned or {found['epochs']} epochs are over, "
        f"seeds {', '.join(map(str, sorted(plain)))}. Known is a fact whose answer leads by at least {found['lead']:g} nat in the "
        "untouched model (of those that lead by less, some turn by rounding alone). For every seed the known facts are dealt anew: "
        f"{found['promise']} are the promise's, asked once at the end; of the others the method sees 60%, and the guard's probe is 40%. "
        "Other airports are learned, in another order. Plain fine-tuning without a budget, at the same rate, is the yardstick.",
        "",
        f"Kept at every seed, and at every seed at least {ENOUGH:.0%} of what plain learned: **{_names(every)}** ({len(every)} of "
        f"{len(whole)}). Over the seeds together (lost items of all promises, mean of the shares learned): **{_names(together)}** "
        f"({len(together)} of {len(whole)}).",
        *(["", f"Not run at all seeds: {', '.join(missing)}."] if missing else []),
        "",
        "| | seed | learned | of plain's | lost held out | 95% upper bound | kept | acts | back | blend | steps | cost, of plain's |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
        *(_plain_row(plain[seed]) for seed in sorted(plain)),
        *(_row(one, plain) for own in guarded.values() for one in own),
        "",
        "| | learned, of plain's, mean | lost held out, all seeds |",
        "|---|---|---|",
        *(f"| {TITLES[name]} | {mean[name]:.0%} | {lost[name]} of {total[name]} ({lost[name] / total[name]:.1%}) |" for name in whole),
        "",
        "Lost: right before and wrong after, of the promise's items. The bound is exact (Clopper-Pearson, one-sided) for the run; over "
        "seeds none is given, since the same fact may stand in several. Kept: the share lost is within the budget. Back: how often the "
        "guard rolled back. Blend: the share of the way from the start at which it ended, where it took that last resort. Cost: seconds "
        "of training and guard on a machine that others used too, so rough. The guard's policy was developed on tiny models and on other "
        "seeds (100, 0 to 2, 5 to 18) and was fixed before these were looked at, but for kl, of which it doubles the strength only "
        "below 1 since then.",
        "",
        *_development(found),
        "Made by `python benchmarks/budget.py --page` from [budget.json](budget.json), which holds every look and act, with its reason.",
        "",
    ]
    return "\n".join(lines)


def _development(found: dict[str, Any]) -> list[str]:
    """What became of runs on which the policy was developed."""
    told = [
        f"{TITLES[one['method']]} at seed {one['seed']} learned {one['learned']} of {one['inject_total']}, lost "
        f"{one['budget']['forgotten']} of {one['budget']['total']}, {'kept' if one['budget']['kept'] else 'broken'}"
        for one in found.get("development", [])
    ]
    return [f"On the way, most with earlier policies: {'; '.join(told)}.", ""] if told else []


def _other_rates() -> str:
    return ", ".join(f"{TITLES[name]} at {rate:g}" for name, rate in RATES.items())


def _share(one: dict[str, Any], plain: dict[int, dict[str, Any]]) -> float:
    """What a run learned, of what plain fine-tuning learned at its seed."""
    return float(one["learned"] / max(1, plain[one["seed"]]["learned"]))


def _names(names: list[str]) -> str:
    return ", ".join(TITLES[name] for name in names) or "no method"


def _plain_row(one: dict[str, Any]) -> str:
    lost, total = one["forgotten_heldout"], one["retain_heldout_total"]
    return (
        f"| plain, no budget | {one['seed']} | {one['learned']} of {one['inject_total']} | 100% | {lost} of {total} ({lost / total:.1%}) | "
        f"{upper(lost, total):.1%} | | | | | {one['steps']} | 1 |"
    )


def _row(one: dict[str, Any], plain: dict[int, dict[str, Any]]) -> str:
    told = one["budget"]
    blend = "" if told["blend"] is None else f"{told['blend']:.2f}"
    cost = (one["seconds"] + told["seconds"]) / plain[one["seed"]]["seconds"]
    return (
        f"| {TITLES[one['method']]} | {one['seed']} | {one['learned']} of {one['inject_total']} | {_share(one, plain):.0%} | "
        f"{told['forgotten']} of {told['total']} ({told['forgotten'] / told['total']:.1%}) | {told['upper']:.1%} | "
        f"{'yes' if told['kept'] else '**no**'} | {told['acts']} | {told['rollbacks']} | {blend} | {one['steps']} | {cost:.1f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, help="where the run folders go")
    parser.add_argument("--page", action="store_true", help="only write the page anew")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--seeds", type=int, nargs="+", default=[19, 20, 21])
    parser.add_argument("--methods", nargs="+", default=list(GUARDED), choices=GUARDED)
    parser.add_argument("--airports", type=int, default=24)
    parser.add_argument("--lr", type=float, default=LR)
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--show", action="store_true", help="progress bars and acts")
    options = parser.parse_args()
    if not options.page:
        if options.work is None:
            parser.error("--work is needed to train")

        found = {"budget": BUDGET, "lr": options.lr, "epochs": options.epochs, "until_learned": UNTIL, "promise": PROMISE}
        found |= {"airports": options.airports, "lead": LEAD, "runs": []}
        file = options.results / "budget.json"
        kept = json.loads(file.read_text("utf-8")) if file.is_file() else {}
        found["development"] = kept.get("development", [])
        for method, budget in [("none", None), *((name, BUDGET) for name in options.methods)]:
            for seed in options.seeds:
                found["runs"].append(run(options.work, seed, method, budget, options))
                found = raw.named(file, found, options.seeds)
                write_json(file, found)
                one = found["runs"][-1]
                print(json.dumps({key: value for key, value in one.items() if key not in ("looks", "budget")}), flush=True)
    found = json.loads((options.results / "budget.json").read_text("utf-8"))
    (options.results / "budget.md").write_text(page(found), "utf-8")


if __name__ == "__main__":
    main()
