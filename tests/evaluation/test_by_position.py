"""KL by response token against loops over tokens."""

from __future__ import annotations

import pytest
from scipy.stats import entropy

import twins
from forgetless.data.encoding import encode
from forgetless.data.model import Language
from forgetless.data.question import Question
from forgetless.errors import InputError
from forgetless.evaluation.by_position import EARLY, kl_by_position, summarised

PROMPTS = [Question(f"{n}", "open", f"Say {n}") for n in range(4)]
SAID = ["a", "well, now then", "", "1234567890"]


def test_kl_is_taken_token_by_token_of_the_same_response(tiny: Language, taught: Language) -> None:
    found = kl_by_position(tiny, taught, PROMPTS, SAID, None, positions=8, batch_size=2)
    values = []
    for question, text in zip(PROMPTS, SAID, strict=True):
        if not text:
            continue
        example = encode(question, text, tiny.tokenizer)
        own = []
        for place in range(min(8, len(example.answer))):
            ids = [*example.prompt, *example.answer[:place]]
            old, new = (twins.next_logits(language, ids).softmax(-1).numpy().astype("float64") for language in (tiny, taught))
            own.append(float(entropy(old / old.sum(), new / new.sum())))
        values.append(own)
    assert found["empty"] == 1
    for row in found["positions"]:
        here = [own[row["position"]] for own in values if len(own) > row["position"]]
        assert row["n"] == len(here)
        assert row["mean"] == pytest.approx(sum(here) / len(here), rel=1e-3)
        assert row["low"] <= row["mean"] <= row["high"]
    assert [row["n"] for row in found["positions"]][:3] == [3, 3, 2]
    early = [sum(own[:EARLY]) / len(own[:EARLY]) for own in values]
    assert found["early"]["mean"] == pytest.approx(sum(early) / 3, rel=1e-3)
    assert found["early_share"] == pytest.approx(sum(sum(own[:EARLY]) for own in values) / sum(map(sum, values)), rel=1e-3)


def test_a_model_has_no_distance_to_itself(tiny: Language) -> None:
    found = kl_by_position(tiny, tiny, PROMPTS, SAID, None)
    assert all(row["mean"] == 0 for row in found["positions"])
    assert found["early_share"] is None


def test_erosion_at_the_first_tokens_shows() -> None:
    found = summarised([[3.0, 1.0, 0.0, 0.0, 0.0, 0.5, 0.5], [2.0]], 7)
    assert found["early_share"] == pytest.approx(6 / 7)
    assert (found["early"]["mean"], found["later"]["mean"], found["later"]["n"]) == (pytest.approx(1.4), pytest.approx(0.5), 1)


def test_nothing_to_look_at_is_refused(tiny: Language) -> None:
    with pytest.raises(InputError, match="every response is empty"):
        kl_by_position(tiny, tiny, PROMPTS[:1], [" "], None)
    for positions in (0, True, 2.5):
        with pytest.raises(InputError, match="positions"):
            kl_by_position(tiny, tiny, PROMPTS, SAID, None, positions=positions)
