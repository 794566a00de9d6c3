"""KL to the base model by the position of a response's token: is what was lost a few tokens deep? (Qi et al. 2024, section 2.)"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from forgetless.data.model import Language
from forgetless.data.question import Question
from forgetless.errors import InputError
from forgetless.evaluation.drift import same_tokens
from forgetless.evaluation.forward import both_logits, evaluating
from forgetless.evaluation.paired import mean_interval
from forgetless.evaluation.vision import examples_of
from forgetless.ops.distillation import kl_rows
from forgetless.progress import Advance, silent

EARLY = 5
"""The first tokens of a response, where alignment is said to live."""


def kl_by_position(
    before: Language,
    after: Language,
    questions: Sequence[Question],
    responses: Sequence[str],
    template: str | None,
    *,
    positions: int = 32,
    batch_size: int = 32,
    advance: Advance = silent,
) -> dict[str, Any]:
    r"""At each response token t :math:`KL(p_{before}(\cdot|x, y_{<t}) \| p_{after}(\cdot|x, y_{<t}))`, its mean over responses.

    Args:
        before: the base model.
        after: one fine-tuned from it.
        questions: the prompts x.
        responses: a response y to each, which both models are shown; an empty one is left out, and counted.
        template: how the prompts are asked.
        positions: how many tokens of a response are looked at.
        batch_size: sequences in a pass.
        advance: told of every response done.

    Returns:
        ``positions``: for each t, from 0, ``n`` (responses that long), ``mean``, ``low`` and ``high`` (95% bootstrap over responses,
        nats); ``early`` and ``later``: means over responses of the mean KL over the first `EARLY` tokens and over those after them;
        ``early_share``: of all KL summed, what falls on the first `EARLY` tokens; ``empty``: responses left out.

    Raises:
        InputError: the two models have different vocabularies, or no response has a token.
    """
    check_positions(positions)
    if not same_tokens(before, after):
        raise InputError("the two models have different vocabularies", where="--after", mend="Compare a model with one fine-tuned from it")
    given = [(question, text) for question, text in zip(questions, responses, strict=True) if text.strip()]
    if not given:
        raise InputError("every response is empty", where="positions", mend="Give other prompts, or leave positions out")
    examples = examples_of(before, given, template)
    values: list[list[float]] = [[] for _ in examples]
    with evaluating(before.model), evaluating(after.model):
        for index, old, new in both_logits(before, after, examples, batch_size=batch_size, advance=advance):
            values[index] = kl_rows(old[:positions], new[:positions]).clamp(min=0).tolist()
    return {**summarised(values, positions), "empty": len(questions) - len(given)}


def check_positions(value: object) -> None:
    """Raise `InputError` where ``value`` is no number of tokens."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InputError(f"{value!r} is not allowed", where="positions", mend="Give a whole number of at least 1")


def summarised(values: Sequence[Sequence[float]], positions: int) -> dict[str, Any]:
    """The figures of `kl_by_position` from the KL at each token of each response."""
    rows = []
    for position in range(positions):
        own = [value[position] for value in values if len(value) > position]
        if own:
            mean, low, high = mean_interval(own)
            rows.append({"position": position, "n": len(own), "mean": mean, "low": low, "high": high})
    total = sum(map(sum, values))
    return {
        "positions": rows,
        "early": _part([value[:EARLY] for value in values]),
        "later": _part([value[EARLY:] for value in values]),
        "early_share": sum(sum(value[:EARLY]) for value in values) / total if total else None,
        "early_tokens": EARLY,
        "unit": "nats, KL(before || after)",
    }


def _part(values: Sequence[Sequence[float]]) -> dict[str, float] | None:
    means = [sum(value) / len(value) for value in values if value]
    if not means:
        return None
    mean, low, high = mean_interval(means)
    return {"n": len(means), "mean": mean, "low": low, "high": high}
