"""KL to the base, position by position, against sums over the vocabulary."""

from __future__ import annotations

import copy
import math
import statistics
from pathlib import Path

import pytest
import torch

from forgetless.analysis.drift import Drift, drift
from forgetless.data.encoding import encode
from forgetless.data.model import Language, load_model
from forgetless.data.question import Question
from forgetless.errors import InputError
from tiny import make_tiny_model

ASKED = [
    Question(id=str(n), kind="open", prompt=f"the {'x' * n} is", answers=(answer,))
    for n, answer in enumerate(("red", "blue", "a", "white"))
]


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Language, Language]:
    folder: Path = make_tiny_model(tmp_path_factory.mktemp("model"), hidden=16, layers=1)
    base = load_model(str(folder))
    moved = Language(copy.deepcopy(base.model), base.tokenizer, "moved")
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in moved.model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return base, moved


def by_hand(base: Language, moved: Language, question: Question) -> tuple[float, float]:
    example = encode(question, question.answers[0], base.tokenizer)
    ids = torch.tensor([example.prompt + example.answer])
    logs = [language.model(input_ids=ids).logits[0].double().log_softmax(-1) for language in (base, moved)]
    ways: tuple[list[float], list[float]] = ([], [])
    for at in range(len(example.prompt) - 1, ids.shape[1] - 1):
        for way, (p, q) in zip(ways, (logs, logs[::-1]), strict=True):
            way.append(sum(math.exp(p[at, token].item()) * (p[at, token] - q[at, token]).item() for token in range(p.shape[1])))
    return statistics.fmean(ways[0]), statistics.fmean(ways[1])


def test_both_directions_are_exact_sums_at_every_position(pair: tuple[Language, Language]) -> None:
    found = drift(*pair, ASKED, batch_size=3)
    for question, values in zip(ASKED, found.by_question, strict=True):
        assert values == pytest.approx(by_hand(*pair, question), rel=1e-4)
    forward = [value for value, _ in found.by_question]
    assert found.forward.mean == pytest.approx(statistics.fmean(forward)) and found.forward.n == 4
    assert found.forward.se == pytest.approx(statistics.stdev(forward) / 2)
    assert found.forward.low <= found.forward.mean <= found.forward.high
    assert found.forward.mean != pytest.approx(found.reverse.mean, rel=1e-3)


def test_a_model_has_not_moved_from_itself(pair: tuple[Language, Language]) -> None:
    for samples in (0, 2):
        found = drift(pair[0], pair[0], ASKED, samples=samples, tokens=3)
        assert found.forward.mean == found.reverse.mean == 0


def test_samples_come_from_the_seed_and_touch_no_random_number(pair: tuple[Language, Language]) -> None:
    state = torch.get_rng_state()

    def sampled(seed: int) -> Drift:
        return drift(*pair, ASKED, samples=3, tokens=4, seed=seed)

    one, again, other = sampled(1), sampled(1), sampled(2)
    assert torch.equal(state, torch.get_rng_state())
    assert one == again and one.by_question != other.by_question
    assert one.forward.n == 4, "the error is over questions, not over samples"
    exact = drift(*pair, ASKED)
    assert one.forward.mean == pytest.approx(exact.forward.mean, rel=1.0) and one.forward.mean > 0


def test_what_makes_no_sense_is_refused(pair: tuple[Language, Language]) -> None:
    for options in ({"samples": -1}, {"tokens": 0}, {"seed": -1}):
        with pytest.raises(InputError, match=next(iter(options))):
            drift(*pair, ASKED, **options)
    with pytest.raises(InputError, match="no question"):
        drift(*pair, [])
    assert drift(*pair, ASKED[:1]).forward.se is None
