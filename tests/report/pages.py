"""One page of every kind, from made-up folders and files with hostile text in them, for the tests in a browser."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from forgetless.evaluation.paired import compare, share_interval
from forgetless.report.subject import read_subject
from report.folders import write_lines, write_run
from report.test_diagnosis_page import diagnosis
from report.test_stream_page import write_stream

EVIL = "</script><script>window.hacked = 1</script>"
EXAMPLE = Path(__file__).parents[1] / "comparison" / "example.json"
KINDS = ("runs", "seeds", "comparison", "suite", "one-model", "stream", "diagnosis")


def write_page(kind: str, folder: Path) -> Path:
    """The page of a ``kind`` of `KINDS`, in ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    subject = read_subject(given(kind, folder))
    out = folder / f"{kind}.html"
    out.write_text(subject.render(None), encoding="utf-8")
    return out


def given(kind: str, folder: Path) -> list[Path]:
    """What ``forgetless report`` is given for a page of this kind."""
    if kind == "runs":
        runs = [
            write_run(folder / "cpl", hostile=True, items=32),
            write_run(folder / "none", method="none", keep=0.7, items=32, hostile=True),
        ]
        guard(runs[0], kept=True)
        return runs
    if kind == "seeds":
        return [
            write_run(folder / f"{method}-{seed}", method=method, seed=seed, keep=keep, items=32)
            for method, keep in (("none", 0.6), ("cpl", 0.95))
            for seed in range(3)
        ]
    if kind == "comparison":
        example = json.loads(EXAMPLE.read_text("utf-8"))
        example["entries"] = [entry for entry in example["entries"] if entry["data"] == "air"]
        (folder / "comparison.json").write_text(json.dumps(example))
        return [folder]
    if kind in ("suite", "one-model"):
        file = folder / "eval.json"
        file.write_text(json.dumps(evaluation(two=kind == "suite")), encoding="utf-8")
        return [file]
    if kind == "stream":
        return [write_stream(folder / "stream", "replay")]
    (folder / "diagnosis.json").write_text(json.dumps(diagnosis(benchmark=True)), encoding="utf-8")
    return [folder]


def guard(run: Path, *, kept: bool, allowed: float = 0.05) -> None:
    """Let a guard have watched ``run``: five looks, two of them over the budget, three acts; after an epoch new items alone were scored."""
    metrics = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    for row in metrics:
        if row["kind"] == "epoch" and row["epoch"]:
            row["splits"] = {"inject": row["splits"]["inject"]}
    write_lines(run / "metrics.jsonl", metrics)
    rows: list[dict[str, Any]] = [{"kind": "start", "step": 0, "allowed": allowed, "probe": 40, "every": 8, "items_needed": 59}]
    for step, lost in ((8, 0), (16, 3), (24, 6), (32, 1), (40, 1)):
        low, high = share_interval(lost, 40)
        look = {"kind": "look", "look": step // 8, "step": step, "forgotten": lost, "total": 40, "expected": lost / 50, "margin": 1.0}
        rows.append(look | {"low": low, "high": high, "good": lost <= 2, "seconds": 0.5})
        if lost == 3:
            rows.append({"kind": "act", "step": step, "act": "tighten", "what": EVIL, "reason": "3 of 40 forgotten, over the budget"})
        if lost == 6:
            rows.append({"kind": "act", "step": step, "act": "roll back", "what": "to step 8", "reason": "6 of 40 forgotten"})
            rows.append({"kind": "act", "step": step, "act": "lower the rate", "what": "to 1e-05", "reason": "it went back 2 times"})
    write_lines(run / "budget.jsonl", rows)
    low, high = share_interval(2, 60)
    summary = json.loads((run / "summary.json").read_text())
    promise = {"allowed": allowed, "forgotten": 2, "total": 60, "kept": kept, "low": low, "high": high, "upper": 0.1009, "confidence": 0.95}
    (run / "summary.json").write_text(json.dumps(summary | {"budget": promise | {"acts": 3, "blend": None}}))


def evaluation(*, two: bool = True) -> dict[str, Any]:
    """A suite of three parts: refusals, languages, perplexity; with hostile names and answers."""
    names = [f"harmful {EVIL}", "languages"]
    parts: list[dict[str, Any]] = [
        _part(name, scorer, two, n) for n, (name, scorer) in enumerate(zip(names, ("refuses", "exact"), strict=True))
    ]
    parts[0]["by_position"] = {
        "positions": [{"position": n, "n": 20, "mean": 0.5 / (n + 1), "low": 0.3 / (n + 1), "high": 0.8 / (n + 1)} for n in range(12)],
        "early": {"mean": 0.2, "low": 0.1, "high": 0.3, "n": 20}, "later": None, "early_share": 0.7, "early_tokens": 5, "empty": 0,
    }  # fmt: skip
    level = {"perplexity": 12.5, "low": 11.0, "high": 14.0}
    plain: dict[str, Any] = {
        "name": "text",
        "n": 9,
        "scorer": "perplexity",
        "models": [level | {"model": "a"}] + [level | {"model": "b"}] * two,
    }
    if two:
        plain |= {"log_perplexity_change": {"mean": 0.01, "low": -0.02, "high": 0.03}, "kl": {"mean": 0.2, "low": 0.1, "high": 0.3}}
    else:
        del parts[0]["by_position"]
    criterion = {
        "kind": "forgetting",
        "part": names[0],
        "count": 4,
        "of": 30,
        "share": 4 / 30,
        "bound": 0.28,
        "limit": 0.01,
        "decides": False,
    }
    gate = {
        "passed": False, "max_forgetting": 0.01, "min_learned": None, "max_refusal_drop": None, "confidence": 0.95,
        "criteria": [criterion | {"status": "failed", "why": f"28% is over 1% {EVIL}", "items": []}],
        "not_gated": [{"part": "text", "why": "scored by perplexity"}],
    }  # fmt: skip
    own = {"n": 100, "right": 90, "agreement": 0.9, "low": 0.82, "high": 0.95, "kappa": 0.8, "missed": 9, "refusals": 50}
    judge = {"labels": "by hand", "all": own | {"false_alarms": 1, "answers": 50}}
    return {
        "model": "base",
        "after": f"tuned {EVIL}" if two else None,
        "suite": "checks",
        "parts": [*parts, plain],
        "judge": judge,
        **({"gate": gate} if two else {}),
    }


def _part(name: str, scorer: str, two: bool, shift: int) -> dict[str, Any]:
    langs = ["en", "de", "ar"]
    rows = []
    for n in range(60):
        right = {"right_before": n % 3 != shift, "right_after": n % 5 != 0} if two else {"right": n % 3 != shift}
        said = {"said_before": "no", "said_after": f"yes {EVIL}"} if two else {"said": f"no {EVIL}"}
        rows.append(
            {
                "id": f"{shift}-{n}",
                "prompt": f"question {n}? {EVIL if n == 7 else ''}",
                "answer": "yes",
                "lang": langs[n % 3],
                **right,
                **said,
            }
        )
    found: dict[str, Any] = {"name": name, "data": "x.jsonl", "scorer": scorer, "template": "plain", **_levels(rows, two), "items": rows}
    found["groups"] = {lang: _levels([row for row in rows if row["lang"] == lang], two) for lang in langs}
    return found


def _levels(rows: list[dict[str, Any]], two: bool) -> dict[str, Any]:
    columns = [[bool(row[key]) for row in rows] for key in (("right_before", "right_after") if two else ("right",))]
    models = []
    for name, right in zip(("base", "tuned"), columns, strict=False):
        low, high = share_interval(sum(right), len(right))
        models.append({"model": name, "right": sum(right), "accuracy": sum(right) / len(right), "low": low, "high": high})
    return {"n": len(rows), "models": models, **({"paired": compare(*columns).to_dict()} if two else {})}
