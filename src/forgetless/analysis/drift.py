"""How far a model has moved from its base on the new task: KL divergence both ways, with its error; and whether it predicts forgetting."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import torch

from forgetless.core import options
from forgetless.data.encoding import Example, encode_all, target
from forgetless.data.model import Language, quiet
from forgetless.data.question import Question
from forgetless.errors import InputError
from forgetless.evaluation.drift import same_tokens
from forgetless.evaluation.forward import both_logits, evaluating
from forgetless.evaluation.paired import mean_interval
from forgetless.ops.distillation import kl_rows
from forgetless.progress import Advance, silent


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean over questions.

    Attributes:
        mean: in nats per token.
        se: its standard error, the standard deviation over questions divided by the root of their number; None of a single question.
        low, high: 95% percentile bootstrap interval over questions.
        n: questions.
    """

    mean: float
    se: float | None
    low: float
    high: float
    n: int

    def to_dict(self) -> dict[str, float | int | None]:
        """Plain values, for JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Drift:
    r"""Of a model :math:`\pi` from its base :math:`\pi_0`: forward, :math:`KL(\pi_0 \| \pi)`, and reverse, :math:`KL(\pi \| \pi_0)`.

    ``by_question`` holds both for each question.
    """

    forward: Estimate
    reverse: Estimate
    by_question: tuple[tuple[float, float], ...]


def drift(
    before: Language,
    after: Language,
    questions: Sequence[Question],
    template: str | None = None,
    *,
    samples: int = 0,
    tokens: int = 16,
    seed: int = 0,
    batch_size: int = 32,
    advance: Advance = silent,
) -> Drift:
    r"""KL divergence between a base model and one made from it, on the distribution of a task (RL's Razor, arXiv 2509.04259).

    For each question the mean over tokens t of the exact divergence of the two next-token distributions,
    :math:`\frac1T \sum_t KL\big(\pi_0(\cdot|x,y_{<t}) \,\|\, \pi(\cdot|x,y_{<t})\big)` and the other way round.

    Args:
        before: the base.
        after: the model made from it.
        questions: of the task, any number from 1 on.
        template: how they are worded.
        samples: 0: y is the data's own answer. From 1 on: so many answers are drawn from the base for the forward divergence and
            from the model for the reverse one, at temperature 1, each of at most ``tokens`` tokens; the mean of a question's answers
            counts as one value, so the error is over questions. Deviation from the paper: the mean per token rather than the sum over an
            answer, so that tasks with answers of different lengths compare.
        tokens: see there.
        seed: of the samples.
        batch_size: sequences in one forward pass.
        advance: told of every sequence.

    Raises:
        InputError: the two models have different vocabularies, there is no question, or an option is out of range.
        ForgetlessError: a model gives no numbers (NaN).
    """
    options.whole("samples", samples, 0)
    options.whole("tokens", tokens)
    options.seed("seed", seed)
    if not questions:
        raise InputError("there is no question", where="drift", mend="Give at least one")
    if not same_tokens(before, after):
        raise InputError("the two models have different vocabularies", where="after", mend="Compare a model with one fine-tuned from it")
    told = encode_all(((q, target(q, template)) for q in questions), before.tokenizer, template, room=before.room)
    if not samples:
        both = _divergences(before, after, told, batch_size, advance)
        pairs = tuple(both)
    else:
        forward = _divergences(before, after, _sampled(before, told, samples, tokens, seed), batch_size, advance)
        reverse = _divergences(before, after, _sampled(after, told, samples, tokens, seed), batch_size, advance)
        pairs = tuple(
            (
                math.fsum(f for f, _ in forward[index * samples : (index + 1) * samples]) / samples,
                math.fsum(r for _, r in reverse[index * samples : (index + 1) * samples]) / samples,
            )
            for index in range(len(told))
        )
    return Drift(estimate([f for f, _ in pairs]), estimate([r for _, r in pairs]), pairs)


def estimate(values: Sequence[float]) -> Estimate:
    """The mean of one value a question, with its standard error and interval."""
    n = len(values)
    mean, low, high = mean_interval(values)
    se = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (n - 1) / n) if n > 1 else None
    return Estimate(mean, se, low, high, n)


def _divergences(
    before: Language, after: Language, examples: Sequence[Example], batch_size: int, advance: Advance
) -> list[tuple[float, float]]:
    """For each example the mean over its answer's tokens of both divergences."""
    found = [(0.0, 0.0)] * len(examples)
    with evaluating(before.model), evaluating(after.model):
        for index, old, new in both_logits(before, after, examples, batch_size=batch_size, advance=advance):
            p, q = old.double(), new.double()
            found[index] = (float(kl_rows(p, q).mean()), float(kl_rows(p, q, "reverse").mean()))
    return found


def _sampled(language: Language, examples: Sequence[Example], samples: int, tokens: int, seed: int) -> list[Example]:
    """For each example ``samples`` answers drawn from the model, one after another."""
    device = language.model.device
    made = []
    ends = language.model.generation_config.eos_token_id
    stops = set(ends if isinstance(ends, list) else [ends]) - {None}
    with evaluating(language.model), torch.random.fork_rng([device.index or 0] if device.type == "cuda" else []), quiet():
        torch.manual_seed(seed)
        for example in examples:
            prompt = torch.tensor([example.prompt] * samples, device=device)
            room = tokens if language.room is None else max(1, min(tokens, language.room - len(example.prompt)))
            out = language.model.generate(
                prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=room, do_sample=True, temperature=1.0, top_k=0, top_p=1.0,
                pad_token_id=next(iter(stops), 0),
            )  # fmt: skip
            for row in out[:, len(example.prompt) :].tolist():
                end = next((place + 1 for place, token in enumerate(row) if token in stops), len(row))
                made.append(Example(example.prompt, tuple(row[:end])))
    return made
