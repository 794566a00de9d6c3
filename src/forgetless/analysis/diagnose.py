"""The whole diagnosis of a language model on question files, before any training."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from forgetless.analysis.conflict import Conflict, conflict
from forgetless.analysis.correlation import correlation
from forgetless.analysis.passes import trainable
from forgetless.analysis.places import last_layers, places
from forgetless.analysis.questions import answer_loss, batches, encoded, grouped
from forgetless.analysis.refresh import sample, sign_turns
from forgetless.analysis.suggestion import suggest
from forgetless.analysis.taylor import RATES, STEPS, RatePoint, Step, largest_trusted, taylor_curve
from forgetless.core import options
from forgetless.data.model import Language
from forgetless.data.question import Question
from forgetless.errors import InputError
from forgetless.progress import bar

TOP = 0.01
PASS_BATCH = 16


@dataclass(frozen=True, slots=True)
class Plan:
    """What a diagnosis does. Every field is checked when the object is made.

    Attributes:
        lr: the learning rate that predictions are told for.
        optimizer: whose step the ranking is for: ``sgd`` or ``adamw`` (its first).
        rates: learning rates of the curve.
        curve_items: inject examples, spread over the ranking, that the curve steps on; 0 leaves the curve, the refresh interval and
            the rate out.
        fast: rank by the gradients of the last layers alone, and check that on ``check`` examples.
        last_layers: how many layers the fast ranking looks at; None takes a quarter, at least one.
        check: examples on which the fast ranking is compared with the exact one.
        group_by: ``subject`` or ``none``.
        template: how questions are worded.
        batch_size: retain questions in a batch.
        hold_bytes: see `forgetless.analysis.conflict.conflict`.

    Raises:
        InputError: a value is out of range.
    """

    lr: float = 1e-5
    rates: tuple[float, ...] = RATES
    curve_items: int = 8
    fast: bool = False
    last_layers: int | None = None
    check: int = 24
    group_by: str = "subject"
    template: str | None = None
    batch_size: int = PASS_BATCH
    hold_bytes: int | None = None
    optimizer: Step = "sgd"

    def __post_init__(self) -> None:
        options.number("lr", self.lr, above=True)
        for rate in self.rates:
            options.number("rates", rate, above=True)
        if self.curve_items and not self.rates:
            raise InputError("no rate is given", where="rates", mend="Give at least one, such as 1e-5, or --curve-items 0")
        options.whole("curve-items", self.curve_items, 0)
        options.count("last-layers", self.last_layers)
        options.whole("check", self.check, 3)
        options.whole("batch-size", self.batch_size)
        options.count("hold-bytes", self.hold_bytes)
        options.choice("optimizer", self.optimizer, STEPS)
        options.choice("group-by", self.group_by, ("subject", "none"))


def diagnose(
    language: Language, retain: Sequence[Question], inject: Sequence[Question], plan: Plan, *, show: bool = False
) -> dict[str, Any]:
    """Everything that ``diagnosis.json`` holds but the settings: see the page on `forgetless diagnose` for its fields.

    Args:
        language: the model before training; left as it was.
        retain: what must stay known.
        inject: what is to be learned.
        plan: what to do.
        show: show progress bars.

    Raises:
        InputError: a set is empty or does not fit the model or the template; the model's outputs are not numbers.
    """
    if not retain or not inject:
        raise InputError("there is no question in it", where="--retain" if not retain else "--inject", mend="Give at least one")
    model = language.model
    groups = grouped(retain, plan.group_by)
    old, new = encoded(language, retain, plan.template), encoded(language, inject, plan.template)
    by_group = {name: batches(language, [old[index] for index in own], plan.batch_size) for name, own in groups.items()}
    every = [batch for own in by_group.values() for batch in own]
    single = batches(language, new, 1)
    few = fast_tensors(model, plan.last_layers)
    if plan.fast:
        whole, ranked, check = _fast(language, plan, by_group, single, batches(language, new, plan.batch_size), few, show)
    else:
        whole = ranked = _conflict("gradients", language, by_group, single, None, plan, show)
        check = correlation(ranked.inner.tolist(), ranked.within(few).tolist()).to_dict()
    order = ranked.inner.argsort(stable=True).tolist()
    curves: dict[str, list[RatePoint]] = {}
    turns: list[tuple[int, float]] = []
    if plan.curve_items:
        chosen = [single[order[index]] for index in spread(len(order), plan.curve_items)]
        for step in STEPS:
            with bar(f"steps of {step}", len(chosen) * len(plan.rates), show=show) as advance:
                curves[step] = taylor_curve(model, answer_loss, every, chosen, plan.rates, step=step, advance=advance)
        rate = largest_trusted(curves["adamw"]) or plan.lr
        few_signs = sample(model)
        with bar("how long a reference lasts", None, show=show) as advance:
            turns = sign_turns(model, answer_loss, every, batches(language, new, plan.batch_size), rate, tensors=few_signs, advance=advance)
    else:
        rate = plan.lr
    counts = {
        "retain": len(retain),
        "inject": len(inject),
        "weights": whole.whole.numel,
        "groups": dict(zip(ranked.groups, ranked.examples_retain, strict=True)),
    }
    return {
        "n": counts,
        "similarity": {
            "inner": whole.similarity, "cosine": whole.cosine, "norm_retain": whole.norm_retain, "norm_inject": whole.norm_inject,
        },
        "conflict": {
            "all": whole.whole.to_dict(),
            "by_layer": [row.to_dict() for row in whole.by_layer()],
            "by_kind": [row.to_dict() for row in whole.by_kind()],
            "tensors": [row.to_dict() for row in whole.tensors],
        },
        "histogram": whole.sketch.decades(),
        "top": {"share": TOP, "carry": list(whole.sketch.top_share(TOP))},
        "items": _items(ranked, inject, plan.lr),
        "against": int((ranked.inner < 0).sum()),
        "ranking": {
            "mode": "last layers" if plan.fast else "exact", "optimizer": plan.optimizer, "lr": plan.lr,
            "fast_tensors": len(few), "fast_weights": _weight_share(model, few), "fast_against_exact": check,
        },
        "curve": {step: [point.to_dict() for point in points] for step, points in curves.items()},
        "trusted": {step: largest_trusted(points) for step, points in curves.items()},
        "refresh": {"lr": rate, "turned": [{"steps": count, "share": share} for count, share in turns]},
        "suggestion": suggest(whole, ranked.inner, dict(curves), turns, rate),
    }  # fmt: skip


def fast_tensors(model: Any, layers: int | None) -> list[str]:
    """The tensors that the fast ranking looks at: the last ``layers`` layers and what follows them; None takes a quarter of the layers."""
    looked, found = trainable(model), places(model)
    numbers = {place.layer for name, place in found.items() if place.layer is not None and name in looked}
    return last_layers(found, layers or max(1, math.ceil(len(numbers) / 4)), looked)


def spread(total: int, count: int) -> list[int]:
    """At most ``count`` of ``total`` places, at even distances, the first and the last among them (of one place the first)."""
    if total <= count:
        return list(range(total))
    return [round(index * (total - 1) / max(1, count - 1)) for index in range(count)]


def _fast(
    language: Language, plan: Plan, by_group: dict[str, Any], single: list[Any], joined: list[Any], few: list[str], show: bool
) -> tuple[Conflict, Conflict, dict[str, Any]]:
    """All tensors by batches, the last layers by examples, and how far the ranking by the latter is from the exact one on a sample."""
    whole = _conflict("gradients", language, by_group, joined, None, plan, show)
    ranked = _conflict("last layers", language, by_group, single, few, plan, show)
    picks = spread(len(single), plan.check)
    exact = _conflict("exact, on a sample", language, by_group, [single[index] for index in picks], None, plan, show)
    return whole, ranked, correlation(exact.inner.tolist(), [float(ranked.inner[index]) for index in picks]).to_dict()


def _conflict(
    title: str, language: Language, by_group: dict[str, Any], rows: list[Any], tensors: list[str] | None, plan: Plan, show: bool
) -> Conflict:
    with bar(title, None, show=show) as advance:
        return conflict(
            language.model, answer_loss, by_group, rows, step=plan.optimizer, tensors=tensors, hold_bytes=plan.hold_bytes, advance=advance
        )


def _items(ranked: Conflict, inject: Sequence[Question], lr: float) -> list[dict[str, Any]]:
    """The inject examples, the most harmful first."""
    inner, predicted, cosines, pairs = ranked.inner, ranked.predicted(lr), ranked.cosines, ranked.group_cosines
    return [
        {
            "rank": rank,
            "id": inject[index].id,
            "prompt": inject[index].prompt,
            "answer": inject[index].answers[0] if inject[index].answers else "",
            "predicted_change": float(predicted[index]),
            "inner": float(inner[index]),
            "cosine": float(cosines[index]),
            "norm": float(ranked.norms[index]),
            "loss": float(ranked.losses[index]),
            "groups": {
                name: {"inner": float(ranked.by_group[index, g]), "cosine": float(pairs[index, g])} for g, name in enumerate(ranked.groups)
            },
        }
        for rank, index in enumerate(inner.argsort(stable=True).tolist(), 1)
    ]


def _weight_share(model: Any, few: list[str]) -> float:
    looked = trainable(model)
    return sum(looked[name].numel() for name in few) / sum(parameter.numel() for parameter in looked.values())
