"""Running a suite: every part on one model, or on two with what changed between them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from forgetless.data.model import Language
from forgetless.data.question import Question
from forgetless.evaluation.by_position import kl_by_position
from forgetless.evaluation.drift import same_tokens
from forgetless.evaluation.examine import examine
from forgetless.evaluation.languages import crossing, fact_table
from forgetless.evaluation.packaged_safety import labelled
from forgetless.evaluation.paired import compare, share_interval
from forgetless.evaluation.refusal import agreement, is_refusal, read_labels
from forgetless.evaluation.suite import Part, Suite
from forgetless.progress import bar, note

Harness = Callable[[Part, Language, Language | None, int, bool], dict[str, Any]]
"""Runs the tasks of a part with ``lm_eval``: part, before, after, batch size, whether to show progress."""
REFUSAL_SCORERS = ("refuses", "complies")


def run_suite(
    suite: Suite, before: Language, after: Language | None, *, batch_size: int = 32, show: bool = False, harness: Harness | None = None
) -> dict[str, Any]:
    """The content of ``eval.json`` for a suite.

    Args:
        suite: from `read_suite`.
        before: the model, or the one before training.
        after: the one after training.
        batch_size: sequences in a pass.
        show: show progress.
        harness: what runs the parts with ``lm_eval``.

    Returns:
        ``suite``; ``parts``, each what `examine` gives with ``name``, and where asked for ``groups``, ``facts``, ``crossing`` and
        ``by_position``; ``families``; ``judge``, where refusals are judged.
    """
    parts = [_run(part, before, after, batch_size, show, harness) for part in suite.parts]
    report: dict[str, Any] = {"suite": suite.name, "parts": parts}
    families = dict.fromkeys(part.family for part in suite.parts if part.family)
    if families:
        report["families"] = {family: _family(family, suite.parts, parts) for family in families if family}
    if judged(suite):
        report["judge"] = judge_error(suite.labels)
    return report


def judged(suite: Suite) -> bool:
    """Whether any part judges refusals."""
    return any(part.scorer in REFUSAL_SCORERS for part in suite.parts if not part.lm_eval)


def check_judge(suite: Suite) -> None:
    """Raise `InputError` where refusals are judged and the labels that give the judge's error are missing or malformed."""
    if judged(suite):
        judge_error(suite.labels)


def _run(part: Part, before: Language, after: Language | None, batch_size: int, show: bool, harness: Harness | None) -> dict[str, Any]:
    if part.lm_eval:
        if harness is None:
            raise ValueError("a part with lm_eval needs a harness")
        return {"name": part.name, **harness(part, before, after, batch_size, show)}
    found = examine(
        before,
        after,
        part.questions,
        scorer=part.scorer,
        template=part.template,
        batch_size=batch_size,
        show=show,
        title=part.name,
        kl=part.kl,
    )
    told = {key: getattr(part, key) for key in ("wording", "shuffle", "family") if getattr(part, key) is not None}
    made: dict[str, Any] = {"name": part.name, "data": part.data, **told, **found}
    old, new = _verdicts(found["items"], after is not None)
    if part.by is not None and old is not None:
        made["groups"] = _groups(part.questions, part.by, old, new)
    if part.trained_on is not None and old is not None:
        table = fact_table(part.questions, old, new)
        made["facts"] = table
        if new is not None:
            made["trained_on"], made["crossing"] = part.trained_on, crossing(table, part.trained_on)
    if part.positions is not None and after is not None and same_tokens(before, after):
        said = [str(item["said_before"]) for item in found["items"]]
        if not any(text.strip() for text in said):
            note(f"{part.name}: the first model says nothing, so there is no KL by position", show=show)
            return made
        with bar(f"{part.name}: KL by position", len(said), show=show) as advance:
            made["by_position"] = kl_by_position(
                before, after, part.questions, said, found["template"], positions=part.positions, batch_size=batch_size, advance=advance
            )
    return made


def _verdicts(items: Sequence[dict[str, Any]], two: bool) -> tuple[list[bool] | None, list[bool] | None]:
    first = [item["right_before" if two else "right"] for item in items]
    if any(right is None for right in first):
        return None, None
    return first, [item["right_after"] for item in items] if two else None


def level(right: Sequence[bool]) -> dict[str, float]:
    """How many are right, their share, and its 95% exact interval."""
    low, high = share_interval(sum(right), len(right))
    return {"right": sum(right), "accuracy": sum(right) / len(right), "low": low, "high": high}


def _groups(questions: Sequence[Question], by: str, old: list[bool], new: list[bool] | None) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for value in dict.fromkeys(getattr(question, by) for question in questions):
        own = [place for place, question in enumerate(questions) if getattr(question, by) == value]
        was = [old[place] for place in own]
        group: dict[str, Any] = {"n": len(own), "models": [level(was)]}
        if new is not None:
            now = [new[place] for place in own]
            group["models"].append(level(now))
            group["paired"] = compare(was, now).to_dict()
        found[value] = group
    return found


def _family(family: str, parts: Sequence[Part], reports: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Of the questions that every part of a family asks: how many are right in each way of asking, in all, and in any."""
    own = [report for part, report in zip(parts, reports, strict=True) if part.family == family]
    by_id = [{item["id"]: item for item in report["items"]} for report in own]
    common = [key for key in by_id[0] if all(key in one for one in by_id)]
    made: dict[str, Any] = {"parts": [report["name"] for report in own], "n": len(common)}
    for key in ("right", "right_before", "right_after"):
        if common and all(isinstance(one[common[0]].get(key), bool) for one in by_id):
            made[key] = {
                "in_all": level([all(one[name][key] for one in by_id) for name in common]),
                "in_any": level([any(one[name][key] for one in by_id) for name in common]),
            }
    return made


def judge_error(labels: str | None) -> dict[str, Any]:
    """How the judge of refusals agrees with people: on a file of rows with ``answer`` and ``refused``, else on pyrit's 169.

    Of pyrit's, an answer to another, harmless question counts as a refusal too, which words cannot show: the agreement is given on
    all, and without those.
    """
    if labels is not None:
        rows = read_labels(labels)
        return {"labels": labels, "all": agreement([is_refusal(text) for text, _ in rows], [label for _, label in rows]).to_dict()}
    known = labelled()
    judged = [is_refusal(row.answer) for row in known]
    kept = [place for place, row in enumerate(known) if not (row.shuffled and row.refused)]
    return {
        "labels": "pyrit 1.1.0, refusal.csv and refusal_extra.csv",
        "all": agreement(judged, [row.refused for row in known]).to_dict(),
        "without_answers_to_another_question": agreement([judged[n] for n in kept], [known[n].refused for n in kept]).to_dict(),
    }
