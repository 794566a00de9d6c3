"""The ship gate: may the model after training take the place of the one before? Decided by what was forgotten and learned.

For each part, and for all parts of a role together (``all``):

- forgetting = right before, wrong after / right before; of parts whose role is ``retain``;
- learned = wrong before, right after / wrong before; of parts whose role is ``inject``;
- refusal drop = share that refuses before - after; of parts with the scorer ``refuses``.

With a confidence the exact (Clopper-Pearson) one-sided bound decides in place of the share itself.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from forgetless.errors import InputError
from forgetless.evaluation.criteria import SHOWN, Tally, criteria
from forgetless.evaluation.suite import Part, Suite, role_of
from forgetless.files import check_writable


@dataclass(frozen=True, slots=True)
class Limits:
    """What the gate asks for; None asks for nothing.

    Attributes:
        max_forgetting: the largest share of what was known that may be forgotten.
        min_learned: the smallest share of what was unknown that must be learned.
        max_refusal_drop: how far the share of refused harmful requests may fall.
        confidence: None: the shares themselves decide; else a bound that holds with this probability.

    Raises:
        InputError: a share is not from 0 to 1, or the confidence not between 0 and 1; there is a confidence and nothing to ask for, or
            what is asked for can never be shown.
    """

    max_forgetting: float | None = None
    min_learned: float | None = None
    max_refusal_drop: float | None = None
    confidence: float | None = None

    def __post_init__(self) -> None:
        for name in ("max_forgetting", "min_learned", "max_refusal_drop"):
            value = getattr(self, name)
            if value is not None and not (isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1):
                flag = f"--{name.replace('_', '-')}"
                raise InputError(
                    f"{value!r} is not allowed", where=flag, mend="Give a share from 0 to 1, such as 0.01 for one in a hundred"
                )
        if self.confidence is not None:
            if not 0 < self.confidence < 1:
                mend = "Give a probability between 0 and 1, such as 0.95"
                raise InputError(f"{self.confidence!r} is not allowed", where="--confidence", mend=mend)
            if not self.asked:
                mend = "Give --max-forgetting, --min-learned or --max-refusal-drop with it"
                raise InputError("it says nothing alone", where="--confidence", mend=mend)
            for name, never in (("max_forgetting", 0), ("max_refusal_drop", 0), ("min_learned", 1)):
                if getattr(self, name) == never:
                    what = f"no number of items shows a share of {never} with confidence"
                    raise InputError(what, where=f"--{name.replace('_', '-')}", mend="Leave --confidence out, or give another share")

    @property
    def asked(self) -> bool:
        """Whether there is anything to decide."""
        return any(value is not None for value in (self.max_forgetting, self.min_learned, self.max_refusal_drop))


def check_gate(limits: Limits, suite: Suite | None, *, scorer: str, after: str | None, junit: Path | None, out: Path) -> None:
    """Look for all that would keep the gate from being decided, before any model is loaded.

    Args:
        limits: what is asked for.
        suite: what is scored; None: one question file, which plays both roles.
        scorer: of that file.
        after: the second model.
        junit, out: where the reports go.

    Raises:
        InputError: there is no second model; a limit has no part to be held against; a report has nowhere to go.
    """
    if junit is not None and not limits.asked:
        mend = "Give --max-forgetting, --min-learned or --max-refusal-drop with it"
        raise InputError("it tells what the gate found, and nothing is asked of it", where="--junit", mend=mend)
    if not limits.asked:
        return
    if after is None:
        raise InputError("the gate compares two models", where="--after", mend="Name the model after training")
    if junit is not None:
        if junit.absolute() == out.absolute():
            raise InputError("--junit and --out are the same file", where=str(out), mend="Give each its own")
        try:
            check_writable(junit, folder=False)
        except InputError as error:
            raise InputError(error.what, where=error.where, mend=(error.mend or "").replace("--out", "--junit")) from None
    parts = [Part("data", scorer=scorer)] if suite is None else list(suite.parts)
    where = "--scorer" if suite is None else f"suite {suite.name}"
    roles = {"retain", "inject"} if suite is None else {role_of(part) for part in parts}
    if suite is None and scorer == "perplexity":
        raise InputError("perplexity knows no right and wrong, which the gate counts", where=where, mend="Take another scorer")
    if limits.max_forgetting is not None and "retain" not in roles:
        raise InputError(
            "no part is meant to be retained", where=where, mend="Write role: retain into a part, or leave --max-forgetting out"
        )
    if limits.min_learned is not None and "inject" not in roles:
        raise InputError("no part is meant to be learned", where=where, mend="Write role: inject into a part, or leave --min-learned out")
    if limits.max_refusal_drop is not None and not any(part.scorer == "refuses" and not part.lm_eval for part in parts):
        mend = "Take --suite safety or the scorer refuses, or leave --max-refusal-drop out"
        raise InputError("nothing asks what is to be refused", where=where, mend=mend)


def decide(report: dict[str, Any], suite: Suite | None, limits: Limits) -> dict[str, Any]:
    """The ``gate`` section of ``eval.json``.

    Args:
        report: of two models, as `run_suite` gives it, or `examine` where ``suite`` is None.
        suite: the one that was run.
        limits: what is asked for.

    Returns:
        ``passed``; the limits; ``criteria`` (see `Criterion`), for each kind the parts and then ``all`` of them together, where there are
        several; ``not_gated``: parts that no criterion looks at, and why.
    """
    tallies: list[Tally] = []
    left_out: list[dict[str, str]] = []
    if suite is None:
        _take(Part(str(report.get("data", "data")), scorer=report["scorer"]), "both", report, tallies, left_out)
    else:
        for part, told in zip(suite.parts, report["parts"], strict=True):
            _take(part, role_of(part), told, tallies, left_out)
    found = [
        *criteria("forgetting", [one for one in tallies if one.retain], limits.max_forgetting, limits.confidence),
        *criteria("learned", [one for one in tallies if one.inject], limits.min_learned, limits.confidence),
        *criteria("refusal drop", [one for one in tallies if one.refuses], limits.max_refusal_drop, limits.confidence),
    ]
    failed = any(one.status == "failed" or (one.status == "undecided" and one.decides) for one in found)
    return {"passed": not failed, **asdict(limits), "criteria": [asdict(one) for one in found], "not_gated": left_out}


def _take(part: Part, role: str, told: dict[str, Any], tallies: list[Tally], left_out: list[dict[str, str]]) -> None:
    """Add what is known of one part, or say why it is left out."""
    retain, inject, refuses = role in ("retain", "both"), role in ("inject", "both"), part.scorer == "refuses" and not part.lm_eval
    if role == "neither" and not refuses:
        left_out.append({"part": part.name, "why": f"scored by {part.scorer}" if part.scorer == "perplexity" else "role: neither"})
        return
    seen: set[str] = set()
    for row in told.get("tasks", [told]):
        name = f"{part.name}: {row['task']}, {row['metric']}" if "task" in row else part.name
        if row.get("filter") not in (None, "none"):
            name += f", {row['filter']}"
        if "paired" not in row or row.get("higher_is_better") is False:
            left_out.append({"part": name, "why": "no right and wrong item by item"})
            continue
        paired, lost, missed = row["paired"], [], []
        for item in row.get("items", ()):
            if item["right_before"] and not item["right_after"]:
                lost.append(_line(item))
            if not item["right_before"] and not item["right_after"]:
                missed.append(_line(item))
        first = row.get("task", name) not in seen
        seen.add(row.get("task", name))
        counts = (paired["n"], paired["before"], paired["learned"], paired["forgotten"])
        tallies.append(Tally(name, retain, inject, refuses, *counts, tuple(lost[:SHOWN]), tuple(missed[:SHOWN]), first))


def _line(item: dict[str, Any]) -> str:
    said = f", now {item['said_after']!r:.80}" if item.get("said_after") is not None else ""
    right = f" -> {item['answer']!r:.80}" if item.get("answer") else ""
    return f"{item['id']}: {item['prompt']!r:.160}{right}{said}"


def gate_text(gate: dict[str, Any]) -> str:
    """The verdict, in a line, and what speaks against it."""
    lines = [f"gate: {'passed' if gate['passed'] else 'FAILED'}"]
    for one in gate["criteria"]:
        if one["status"] != "passed" or one["decides"]:
            status = "passed" if one["status"] == "passed" else one["status"].upper()
            lines.append(f"  {status}: {one['kind']}, {one['part']}: {one['why']}")
    lines += [f"  not gated: {one['part']} ({one['why']})" for one in gate["not_gated"]]
    return "\n".join(lines)
