"""One model on questions, or two on the same ones."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from forgetless.data.model import Language
from forgetless.data.question import Question
from forgetless.errors import InputError
from forgetless.evaluation.drift import kl_drift, same_tokens
from forgetless.evaluation.paired import compare, mean_interval, share_interval
from forgetless.evaluation.score import Verdict, asked_with, check_scorer, score
from forgetless.progress import bar


def examine(
    before: Language,
    after: Language | None,
    questions: Sequence[Question],
    *,
    scorer: str,
    template: str | None,
    batch_size: int,
    show: bool,
    title: str = "",
    kl: bool = True,
) -> dict[str, Any]:
    """The content of ``eval.json``: accuracy (or perplexity) of each model, what changed between two, and every item.

    Under ``free-text`` also the mean token F1 (``f1``), under ``instructions`` the mean share of checks passed (``checks``). ``kl`` is
    left out where the two models have different vocabularies, where questions have no answer, and where ``kl`` is False, which
    saves half of the time. ``title`` stands in the progress.

    Raises:
        InputError: there is no question, or the scorer or the template is wrong or does not fit one.
    """
    if not questions:
        raise InputError("there is no question to score", mend="Give at least one")
    check_scorer(scorer)
    asked = asked_with(scorer, template)
    models = [before] if after is None else [before, after]
    found: list[list[Verdict]] = []
    for language in models:
        with bar(f"{title}: scoring {language.name}" if title else f"scoring {language.name}", len(questions), show=show) as advance:
            found.append(score(language, questions, scorer=scorer, template=template, batch_size=batch_size, advance=advance))
    report: dict[str, Any] = {"n": len(questions), "scorer": scorer, "template": asked}
    report["models"] = [{"model": language.name, **_level(verdicts, scorer)} for language, verdicts in zip(models, found, strict=True)]
    if after is not None:
        report |= _change(found[0], found[1], scorer)
        if kl and same_tokens(before, after) and all(question.answers or question.kind == "text" for question in questions):
            with bar(f"{title}: drift" if title else "drift", len(questions), show=show) as advance:
                drift = kl_drift(before, after, questions, asked, batch_size=batch_size, advance=advance)
            mean, low, high = mean_interval(drift)
            report["kl"] = {"mean": mean, "low": low, "high": high, "unit": "nats per answer token, KL(before || after)"}
    report["items"] = [
        {
            "id": question.id,
            "prompt": question.prompt,
            "answer": question.answers[0] if question.answers else "",
            **{key: getattr(question, key) for key in ("subject", "lang", "image") if getattr(question, key) is not None},
            **_told("before" if after else "", found[0][index]),
            **(_told("after", found[1][index]) if after else {}),
        }
        for index, question in enumerate(questions)
    ]
    return report


MEANS = {"free-text": "f1", "instructions": "checks"}
"""Scorers whose values have a mean of their own beside right and wrong, and its name."""


def _level(verdicts: Sequence[Verdict], scorer: str) -> dict[str, Any]:
    if verdicts[0].right is None:
        logs = [math.log(verdict.value) for verdict in verdicts]
        mean, low, high = mean_interval(logs)
        return {"perplexity": math.exp(mean), "low": math.exp(low), "high": math.exp(high)}
    right = sum(bool(verdict.right) for verdict in verdicts)
    low, high = share_interval(right, len(verdicts))
    level: dict[str, Any] = {"right": right, "accuracy": right / len(verdicts), "low": low, "high": high}
    if scorer in MEANS:
        level[MEANS[scorer]] = _mean([verdict.value for verdict in verdicts])
    return level


def _change(before: Sequence[Verdict], after: Sequence[Verdict], scorer: str) -> dict[str, Any]:
    if before[0].right is None:
        return {"log_perplexity_change": _mean([math.log(new.value) - math.log(old.value) for old, new in zip(before, after, strict=True)])}
    paired = compare([bool(verdict.right) for verdict in before], [bool(verdict.right) for verdict in after])
    change: dict[str, Any] = {"paired": paired.to_dict()}
    if scorer in MEANS:
        change[f"{MEANS[scorer]}_change"] = _mean([new.value - old.value for old, new in zip(before, after, strict=True)])
    return change


def _mean(values: Sequence[float]) -> dict[str, float]:
    mean, low, high = mean_interval(values)
    return {"mean": mean, "low": low, "high": high}


def _told(when: str, verdict: Verdict) -> dict[str, Any]:
    suffix = f"_{when}" if when else ""
    return {f"right{suffix}": verdict.right, f"value{suffix}": verdict.value, f"said{suffix}": verdict.said}
