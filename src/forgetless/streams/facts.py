"""The stream ``facts``: a language model learns four subjects one after another: animals, colours, numbers and shapes.

Every fact is about an invented word, so no model knows it beforehand and what it answers later it has learned here. The answers are
plain English words (two-digit numbers for the number words), no two alike in the whole stream, and none begins as another does.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from forgetless.core.options import whole
from forgetless.data.question import Question
from forgetless.streams.stream import LanguageStream, LanguageTask

SOURCE = "invented facts written for forgetless (Apache-2.0)"
MOST = 16


@dataclass(frozen=True, slots=True)
class _Subject:
    name: str
    trained: tuple[str, ...]
    heldout: str
    facts: str


_SUBJECTS = (
    _Subject(
        "animals",
        (
            "The {} is an animal that lives in",
            "Biologists who look for the {} search in",
            "A {} builds its nest in",
        ),
        "If you want to see a {} in the wild, look in",
        "zorblat caves|quimmet swamps|fendrel deserts|hobbick forests|wuzzle barns|tarloon lagoons|grivvet chimneys|morpin glaciers|"
        "yalder wells|bexling orchards|snarrow tunnels|plidge rivers|kervit attics|oddrin meadows|dunfer volcanoes|lisquat harbours",
    ),
    _Subject(
        "colours",
        (
            "The colour {} is the colour of",
            "Painters use {} when they paint",
            "Something that is {} looks like",
        ),
        "A coat dyed {} has the same colour as",
        "velmarine honey|ostruse moss|brelline rust|karmoth chalk|tulvane copper|wexine plums|jandrel butter|solphine ink|"
        "mirrow sand|flendish cherries|gorvine smoke|pellacine lemons|ruscade walnuts|ninthal pearls|dovrine spinach|hazzuli tar",
    ),
    _Subject(
        "numbers",
        (
            "In the language of the old traders, the word {} stands for the number",
            "A trader who counted {} sacks had counted",
            "The number word {} is written in digits as",
        ),
        "On the old price list, {} means",
        "brell 17|tovin 42|skarn 63|umbly 28|drost 91|pelk 35|yondrey 86|hask 54|quorl 72|vimber 19|lunt 67|gaffin 38|"
        "sterrick 95|mopin 23|wrill 81|jocken 46",
    ),
    _Subject(
        "shapes",
        (
            "The shape called a {} looks like a",
            "Draw a {} and people will think it is a",
            "In geometry class, a {} was compared to a",
        ),
        "Seen from far away, a {} could be taken for a",
        "trovik kite|quindle bell|lozzard ladder|penthoop wheel|obrigon tent|skelvar spoon|durridge bridge|hexible crown|"
        "marroid horn|flanx comb|cubrel drum|yestle hook|wendigon boat|trillope fan|gastrel sword|novoid button",
    ),
)


def facts(*, items: int = MOST, seed: int | None = None) -> LanguageStream:
    """Four tasks of invented facts, each in three phrasings to train on and a fourth that is only tested.

    Args:
        items: facts in each task.
        seed: which facts, and in which order; without it the first ones.

    Raises:
        InputError: for an option that makes no sense.
    """
    whole("items", items, 1, MOST)
    if seed is not None:
        whole("seed", seed, 0)
    return LanguageStream("facts", tuple(_task(subject, items, seed) for subject in _SUBJECTS), SOURCE)


def _task(subject: _Subject, items: int, seed: int | None) -> LanguageTask:
    pairs = [(word, answer) for word, _, answer in (fact.partition(" ") for fact in subject.facts.split("|"))]
    chosen = pairs[:items] if seed is None else random.Random(seed).sample(pairs, items)
    return phrased(subject.name, chosen, subject.trained, subject.heldout)


def phrased(name: str, facts: list[tuple[str, str]], trained: tuple[str, ...], heldout: str) -> LanguageTask:
    """A task from pairs of a key and its answer, and from templates in which ``{}`` is the key."""

    def question(key: str, answer: str, template: str, which: str) -> Question:
        return Question(id=f"{name}/{key}/{which}", kind="open", prompt=template.format(key), answers=(answer,), subject=name, lang="en")

    train = [question(key, answer, template, str(number)) for key, answer in facts for number, template in enumerate(trained, 1)]
    return LanguageTask(name, tuple(train), tuple(question(key, answer, heldout, "heldout") for key, answer in facts))
