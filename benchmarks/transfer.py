"""Does a mask of CPL that was made for one injection task serve a second one?

    python benchmarks/transfer.py measure --questions FOLDER/edits-24-{seed} --out docs/results/transfer.json    # goes on where it stopped
    python benchmarks/transfer.py table docs/results/transfer.json

FOLDER is what ``benchmarks/study.py data`` makes. At every seed the facts of a setting are dealt into two tasks. SmolLM2-135M learns the
first under CPL with one fixed mask, made of the retain set (A) and the first task. Then, from there, it learns the second: under the
mask that it has, under one made anew, under a random one that freezes as many weights of each tensor, and plainly. All by AdamW at one
rate, batches of 8, the same number of passes.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from pathlib import Path
from typing import Any

import raw

PASSES, RATE, BATCH = 8, 1e-4, 8
SECOND = ("plain", "the mask of the first task", "a mask of its own", "a random mask")


def run(seed: int, questions: Path) -> list[dict[str, Any]]:
    """Both tasks at one seed: a row for each way of learning the second."""
    import torch

    from forgetless.data.model import EMBEDDED, load_model
    from forgetless.data.reading import read_questions
    from forgetless.train.batches import Batches

    torch.set_num_threads(1)
    torch.manual_seed(seed)
    read = {name: read_questions(questions / f"{name}.jsonl") for name in ("inject", "retain", "retain-heldout")}
    facts = sorted({question.id.rpartition("/")[0] for question in read["inject"]})
    first = set(random.Random(seed).sample(facts, len(facts) // 2))
    parts = {"A": read["retain"], "B": read["retain-heldout"]}
    parts["first"] = [question for question in read["inject"] if question.id.rpartition("/")[0] in first]
    parts["second"] = [question for question in read["inject"] if question.id.rpartition("/")[0] not in first]
    language = load_model(EMBEDDED)
    retain = Batches(parts["A"], language, None, 2 * BATCH)
    tasks = {name: Batches(parts[name], language, None, BATCH, seed) for name in ("first", "second")}
    base = right(language, parts)
    mask = train(language.model, tasks["first"], retain, "a mask of its own")
    start = {name: tensor.clone() for name, tensor in language.model.state_dict().items()}
    between, rows = right(language, parts), []
    for way in SECOND:
        language.model.load_state_dict(start)
        own = train(language.model, tasks["second"], retain, way, mask, seed)
        after = right(language, parts)
        row = {"seed": seed, "way": way, "items": {name: len(asked) for name, asked in parts.items()}}
        row["learned_first"] = sum(between["first"]) - sum(base["first"])
        row["learned"] = sum(now and not was for was, now in zip(base["second"], after["second"], strict=True))
        for name, was in (("A", base["A"]), ("B", base["B"]), ("first", between["first"])):
            row[f"known_{name}"], row[f"lost_{name}"] = sum(was), sum(b and not a for b, a in zip(was, after[name], strict=True))
        row["lost_before"] = {name: sum(b and not a for b, a in zip(base[name], between[name], strict=True)) for name in "AB"}
        rows.append(row | compared(language.model, mask, own))
    return rows


def right(language: Any, parts: dict[str, Any]) -> dict[str, list[bool]]:
    """By part which questions the model answers right."""
    from forgetless.evaluation.score import score

    return {name: [bool(verdict.right) for verdict in score(language, asked, batch_size=64)] for name, asked in parts.items()}


def train(model: Any, batches: Any, retain: Any, way: str, mask: dict[str, Any] | None = None, seed: int = 0) -> dict[str, Any]:
    """Learn a task; gives the mask under which that was done, by tensor as packed codes (none: no mask)."""
    import torch

    from forgetless.core.session import attach
    from forgetless.core.task import Task
    from forgetless.methods import CPL, Plain
    from forgetless.train.batches import answer_loss

    class Handed(CPL):
        """CPL under a mask that is given to it."""

        def begin_task(self, ctx: Any) -> None:
            self.reference = dict(mask or {}) if way == SECOND[1] else shuffled(ctx.parameters, mask or {}, seed)

    method = Plain() if way == "plain" else CPL(mask="fixed") if way == SECOND[2] else Handed(mask="fixed")
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE)
    with attach(method, model, optimizer, Task("task", batches, retain), answer_loss) as session:
        for epoch in range(PASSES):
            batches.epoch = epoch
            session.begin_epoch(epoch)
            model.train()
            for batch in batches:
                session.total(model(**batch).loss, batch).backward()
                optimizer.step()
                optimizer.zero_grad()
        assert way == "plain" or session.constraint_violation == 0
    return method.reference if isinstance(method, CPL) else {}


def shuffled(parameters: Any, mask: dict[str, Any], seed: int) -> dict[str, Any]:
    """A mask that freezes as many weights of each tensor, at places drawn anew."""
    import torch

    from forgetless.ops.packing import pack_codes, unpack

    draw, found = torch.Generator().manual_seed(seed), {}
    for name, packed in mask.items():
        codes = unpack(packed, 0, parameters[name].numel())
        found[name] = pack_codes(codes[torch.randperm(len(codes), generator=draw)])
    return found


def compared(model: Any, mask: dict[str, Any], own: dict[str, Any]) -> dict[str, float | None]:
    """The share of the weights that either mask freezes, and of what ``own`` freezes the share that ``mask`` freezes too."""
    from forgetless.ops.packing import FROZEN, unpack

    total = first = second = both = 0
    for name, parameter in model.named_parameters():
        total += parameter.numel()
        if name in own:
            one, two = (unpack(codes[name], 0, parameter.numel()) == FROZEN for codes in (mask, own))
            first, second, both = first + int(one.sum()), second + int(two.sum()), both + int((one & two).sum())
    return {"frozen": second / total, "frozen_first": first / total, "shared": both / second if second else None}


def table(found: list[dict[str, Any]]) -> list[str]:
    """The results as lines of Markdown: sums over seeds, and each seed's."""
    lines = [
        "| the second task under | seeds | learned | forgotten of A | of B | of the first task | frozen | of that by the first mask too |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for way in SECOND:
        rows = sorted((row for row in found if row["way"] == way), key=lambda row: row["seed"])
        if not rows:
            continue
        pairs = [("learned", sum(row["items"]["second"] for row in rows))]
        pairs += [(f"lost_{name}", sum(row[f"known_{name}"] for row in rows)) for name in ("A", "B", "first")]
        cells = [f"{sum(row[key] for row in rows)} of {of} ({', '.join(str(row[key]) for row in rows)})" for key, of in pairs]
        shares = [f"{sum(row[key] for row in rows) / len(rows):.1%}" if rows[0][key] is not None else "" for key in ("frozen", "shared")]
        lines.append(f"| {way} | {len(rows)} | {' | '.join(cells)} | {' | '.join(shares)} |")
    return lines


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = parser.add_subparsers(dest="part", required=True)
    one = parts.add_parser("measure")
    one.add_argument("--questions", required=True, help="folder of a setting at a seed; {seed} stands for it")
    one.add_argument("--out", type=Path, required=True)
    one.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parts.add_parser("table").add_argument("file", type=Path)
    given = parser.parse_args()
    found = raw.read(given.file if given.part == "table" else given.out)
    for seed in given.seeds if given.part == "measure" else ():
        if not any(row["seed"] == seed for row in found):
            found += run(seed, Path(given.questions.replace("{seed}", str(seed))))
            raw.keep(given.out, found)
            print(json.dumps(found[-len(SECOND) :]), flush=True)
    print("\n".join(table(found)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
