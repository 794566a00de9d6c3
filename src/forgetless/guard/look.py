"""What the guard measures: which items of its probe are still right, and by how far."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from forgetless.data.model import Language
from forgetless.data.question import Question
from forgetless.data.templates import accepted
from forgetless.evaluation.candidates import candidates
from forgetless.evaluation.forward import answer_logits, evaluating
from forgetless.evaluation.score import score

NEIGHBOURS = 0.2
"""The share of the items, those with the most similar margin at the start, whose changes stand for what may happen to an item."""


@dataclass(frozen=True, slots=True)
class Standing:
    """How some questions stand with a model, in order.

    Attributes:
        right: whether each is answered right.
        margins: of each the margin in nats by which its answer wins (above 0) or loses; None where the scorer tells none.
    """

    right: list[bool]
    margins: list[float] | None


def standing(language: Language, questions: Sequence[Question], scorer: str, template: str | None, batch_size: int) -> Standing:
    """Ask every question once. With the scorer ``exact`` the margins come from the same forward pass.

    Raises:
        InputError: the scorer or template does not fit a question.
        ForgetlessError: the model gives no numbers (NaN).
    """
    if scorer != "exact":
        verdicts = score(language, questions, scorer=scorer, template=template, batch_size=batch_size)
        return Standing([bool(verdict.right) for verdict in verdicts], None)
    margins = [float("-inf")] * len(questions)
    with evaluating(language.model):
        examples, owners = candidates(language, questions, template, "exact", lambda question: accepted(question, template))
        for index, logits in answer_logits(language, examples, batch_size=batch_size):
            margins[owners[index]] = max(margins[owners[index]], margin(logits, examples[index].answer))
    return Standing([value > 0 for value in margins], margins)


def margin(logits: Tensor, answer: Sequence[int]) -> float:
    """The smallest lead of a token of the answer over its best rival, in nats: above 0 only where greedy decoding says the answer.

    Args:
        logits: of shape (answer tokens, vocabulary), which predict the answer.
        answer: its tokens.

    An exact tie counts as the argmax decides it, which is how the scorer ``exact`` sees it.
    """
    tokens = torch.tensor(answer, device=logits.device)[:, None]
    own = logits.gather(1, tokens)[:, 0]
    rival = logits.scatter(1, tokens, float("-inf")).amax(1)
    lead = float((own - rival).min())  # the same as between log-probabilities: their sum of exponentials cancels
    if lead == 0.0:
        return torch.finfo(torch.float32).tiny if logits.argmax(-1).tolist() == list(answer) else 0.0
    return lead


def expected_share(before: Sequence[float], now: Sequence[float]) -> float:
    r"""The share forgotten that the margins lead to expect: it rises before the first item turns.

    .. math:: \frac1n \sum_i \frac{1}{|N(i)|} \sum_{j \in N(i)} \mathbb{1}\big[m_i + (m'_j - m_j) \le 0\big]

    Each item i, with the margin :math:`m_i > 0` that it began with, is thought to change as the items j of its neighbourhood did:
    those `NEIGHBOURS` of all that are nearest in rank of margin at the start, i itself included. With N(i) = {i} this is the share
    forgotten itself; over a neighbourhood the same mean varies less and moves earlier, since it uses by how far a margin fell.

    Args:
        before: margins at the start, all above 0.
        now: those of the same items now.
    """
    order = sorted(range(len(before)), key=lambda index: (before[index], index))
    start = torch.tensor([before[index] for index in order], dtype=torch.float64)
    change = torch.tensor([now[index] for index in order], dtype=torch.float64) - start
    size = max(1, round(NEIGHBOURS * len(order)))
    shares = []
    for rank, own in enumerate(start.tolist()):
        first = min(max(0, rank - size // 2), len(order) - size)
        shares.append(float((own + change[first : first + size] <= 0).double().mean()))
    return sum(shares) / len(shares)
