"""How far two models have moved apart: KL divergence where they answer."""

from __future__ import annotations

from collections.abc import Sequence

from torch.nn.functional import kl_div

from forgetless.data.encoding import target
from forgetless.data.model import Language
from forgetless.data.question import Question
from forgetless.errors import InputError
from forgetless.evaluation.forward import both_logits, evaluating
from forgetless.evaluation.vision import examples_of
from forgetless.progress import Advance, silent


def kl_drift(
    before: Language,
    after: Language,
    questions: Sequence[Question],
    template: str | None,
    *,
    batch_size: int = 32,
    advance: Advance = silent,
) -> list[float]:
    r"""For each question :math:`\frac{1}{T}\sum_t KL(p_{before}(\cdot|x, y_{<t}) \| p_{after}(\cdot|x, y_{<t}))` in nats.

    Taken over the T tokens of its first answer, which both models read as the tokenizer of ``before`` writes it.

    Raises:
        InputError: the two models have different vocabularies.
    """
    if not same_tokens(before, after):
        raise InputError("the two models have different vocabularies", where="--after", mend="Compare a model with one fine-tuned from it")
    examples = examples_of(before, [(question, target(question, template)) for question in questions], template)
    drift = [0.0] * len(examples)
    with evaluating(before.model), evaluating(after.model):
        for index, old, new in both_logits(before, after, examples, batch_size=batch_size, advance=advance):
            p, q = old.log_softmax(-1), new.log_softmax(-1)
            drift[index] = max(0.0, float(kl_div(q, p, log_target=True, reduction="sum")) / len(p))
    return drift


def same_tokens(before: Language, after: Language) -> bool:
    """Whether every token that both have has the same id, and one has all that the other has (tokens may have been added)."""
    old, new = before.tokenizer.get_vocab().items(), after.tokenizer.get_vocab().items()
    return bool(old <= new or new <= old)
