"""Questions that come out of packages: real facts and images for the built-in suites, in a fixed order.

A name of `PACKAGED` stands in a suite as ``data: packaged:NAME``. Half of the facts have the subject ``taught`` (what a suite's
fine-tuning may be given), half ``control``, drawn once by a fixed seed.
"""

from __future__ import annotations

import importlib.util
import random
import re
import unicodedata
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from forgetless.data.options import show
from forgetless.data.question import Question
from forgetless.errors import InputError
from forgetless.evaluation.packaged_safety import benign, borderline, harmful

Made = tuple[list[Question], Path]
PREFIX = "packaged:"
CODE_PROMPTS = {
    "en": "The name of the country with the ISO code {} is",
    "de": "Der Name des Landes mit dem ISO-Code {} ist",
    "fr": "Le nom du pays qui a le code ISO {} est",
    "es": "El nombre del país con el código ISO {} es",
    "it": "Il nome del paese con il codice ISO {} è",
    "pt": "O nome do país com o código ISO {} é",
}
CAPITAL_PROMPTS = {
    "en": "The capital of {} is",
    "de": "Die Hauptstadt von {} ist",
    "fr": "La capitale de ce pays, {}, est",
    "es": "La capital de {} es",
    "it": "La capitale di {} è",
    "pt": "A capital de {} é",
}
_DOUBTFUL = ("Benin", "Bolivia", "Israel", "Ivory Coast", "Palestine", "South Africa", "Sri Lanka", "Taiwan", "Tanzania", "Yemen")
_FACTS = 100
_OPTIONS = 4
_CAPITALS = 60


def packaged(name: str, limit: int | None = None, *, subject: str | None = None) -> Made:
    """The questions ``name`` and the folder that their images are in.

    Args:
        name: a key of `PACKAGED`.
        limit: so many, evenly spaced; of facts in several languages so many facts.
        subject: only those with this subject.

    Raises:
        InputError: there is no such name, or its package is not installed.
    """
    if name not in PACKAGED:
        raise InputError(f"there are no packaged questions {show(name)}", where="data", mend=f"Choose one of {', '.join(PACKAGED)}")
    questions, folder = PACKAGED[name]()
    units: dict[str, list[Question]] = {}
    for question in questions:
        if subject in (None, question.subject):
            units.setdefault(question.row.get("fact", question.id), []).append(question)
    chosen = list(units.values())
    if limit is not None and limit < len(chosen):
        chosen = [chosen[place * len(chosen) // limit] for place in range(limit)]
    return [question for unit in chosen for question in unit], folder


def package(name: str, extra: str) -> Any:
    """A package, imported when it is needed.

    Raises:
        InputError: it is not installed.
    """
    try:
        return import_module(name)
    except ImportError as error:
        raise InputError(f"the package {name} is missing", where="suite", mend=f"Run: pip install 'forgetless[{extra}]'") from error


def country_codes() -> Made:
    """Which country has an ISO code: the same 100 facts in six languages (``babel``, BSD-3-Clause; names of the Unicode CLDR).

    Only countries whose six names are single words of at most three parts; the city states and territories that CLDR lists are among them.
    """
    locale = package("babel", "demo").Locale
    names = {lang: locale(lang).territories for lang in CODE_PROMPTS}
    plain = re.compile(r"[^\W\d_]+([ -][^\W\d_]+){0,2}")
    codes = [
        code
        for code in sorted(names["en"])
        if re.fullmatch("[A-Z]{2}", code)
        and code not in ("EU", "EZ", "UN", "XA", "XB", "ZZ", "QO")
        and all(plain.fullmatch(names[lang].get(code, "")) for lang in CODE_PROMPTS)
    ]
    return [
        Question(
            id=f"code/{code}/{lang}",
            kind="open",
            prompt=prompt.format(code),
            answers=(names[lang][code],),
            subject=subject,
            lang=lang,
            row={"fact": code},
        )
        for code, subject in _halved(codes, _FACTS, "codes")
        for lang, prompt in CODE_PROMPTS.items()
    ], Path()


def capitals() -> Made:
    """Which country has a capital, with every name and spelling of it accepted (``countryinfo``, MIT); no disputed or double capitals."""
    found: dict[str, tuple[str, ...]] = {}
    for country in package("countryinfo", "demo").all_countries():
        row: dict[str, Any] = country.info()
        capital, name = str(row.get("capital") or ""), str(row.get("name") or "")
        if capital and name and name not in _DOUBTFUL and row.get("population", 0) >= 1_000_000:
            others = [other for other in row.get("altSpellings", ()) if isinstance(other, str) and len(other) > 3]
            if capital.lower() not in name.lower() and name.lower() not in capital.lower():
                found[capital] = tuple(dict.fromkeys([name, *others]))
    return [
        Question(
            id=f"capital/{capital}",
            kind="open",
            prompt=f"{capital} is the capital of which country?",
            answers=found[capital],
            subject=subject,
            lang="en",
        )
        for capital, subject in _halved(sorted(found), _FACTS, "capitals")
    ], Path()


def capitals_by_language() -> Made:
    """The capitals of 60 large countries in six languages (``countryinfo`` and ``babel``): what a model knows already, to see it last.

    Accepted is the name that CLDR gives the city in the language, as an example of its time zone, and the English one.
    """
    locale = package("babel", "demo").Locale
    locales = {lang: locale(lang) for lang in CAPITAL_PROMPTS}
    rows: list[dict[str, Any]] = [country.info() for country in package("countryinfo", "demo").all_countries()]
    large = sorted((row for row in rows if row.get("name") not in _DOUBTFUL), key=lambda row: -row.get("population", 0))
    made: list[Question] = []
    seen: set[str] = set()
    for row in large:
        code, capital = str(row["ISO"]["alpha2"]), str(row.get("capital") or "")
        plain = "".join(c for c in unicodedata.normalize("NFD", capital) if not unicodedata.combining(c)).removesuffix(" D.C.")
        zone = next((zone for zone in locales["de"].time_zones if zone.rpartition("/")[2].replace("_", " ") == plain), None)
        names = {lang: own.territories.get(code, "") for lang, own in locales.items()}
        cities = {lang: str(own.time_zones.get(zone, {}).get("city", plain)) if zone else plain for lang, own in locales.items()}
        told = any(city.lower()[:4] in names[lang].lower() or plain.lower()[:4] in names[lang].lower() for lang, city in cities.items())
        if not plain or code in seen or not all(names.values()) or told:
            continue
        seen.add(code)  # countryinfo has Burma and Myanmar
        for lang, prompt in CAPITAL_PROMPTS.items():
            made.append(
                Question(
                    id=f"capital/{code}/{lang}",
                    kind="open",
                    prompt=prompt.format(names[lang]),
                    answers=tuple(dict.fromkeys([cities[lang], plain])),
                    subject="capital",
                    lang=lang,
                    row={"fact": code},
                )
            )
        if len(made) == _CAPITALS * len(CAPITAL_PROMPTS):
            break
    return made, Path()


def airports() -> Made:
    """Multiple choice: the IATA code of an airport's city, among codes of other cities (``airportsdata``, MIT)."""
    cities: dict[str, set[str]] = {}
    for code, airport in package("airportsdata", "demo").load("IATA").items():
        if "International" in airport["name"] and re.fullmatch(r"[A-Z][a-z]{3,11}", airport["city"]):
            cities.setdefault(str(airport["city"]), set()).add(str(code))
    codes: dict[str, str] = {city: min(own) for city, own in cities.items() if len(own) == 1 and min(own).lower() != city[:3].lower()}
    chosen = _halved(sorted(codes), _FACTS, "airports")
    pool = sorted(codes[city] for city, _ in chosen)
    made = []
    for city, subject in chosen:
        draw = random.Random(f"airports/{city}")
        options = [codes[city], *draw.sample([code for code in pool if code != codes[city]], _OPTIONS - 1)]
        draw.shuffle(options)
        made.append(
            Question(
                id=f"airport/{city}",
                kind="choice",
                prompt=f"Which IATA code does the airport of {city} have?",
                answers=(codes[city],),
                choices=tuple(options),
                label=options.index(codes[city]),
                subject=subject,
                lang="en",
            )
        )
    return made, Path()


def easy_vqa() -> Made:
    """The test questions of easy-VQA about 64 x 64 images of one shape (package ``easy-vqa``, MIT): colour, shape, yes or no."""
    return _easy_vqa("test")


def _easy_vqa(part: str) -> Made:
    """Questions of ``part`` (``train`` or ``test``), read from the package's files: its own code is not needed."""
    found = importlib.util.find_spec("easy_vqa")
    if found is None or not found.submodule_search_locations:
        raise InputError("the package easy-vqa is missing", where="suite", mend="Run: pip install easy-vqa==1.0")
    import json

    folder = Path(next(iter(found.submodule_search_locations))) / "data" / part
    rows = json.loads((folder / "questions.json").read_text("utf-8"))
    colours = ("red", "green", "blue", "black", "gray", "teal", "brown", "yellow")
    return [
        Question(
            id=f"vqa/{part}/{number}",
            kind="open",
            prompt=text,
            answers=(answer,),
            subject="yes or no" if answer in ("yes", "no") else "colour" if answer in colours else "shape",
            lang="en",
            image=f"images/{image}.png",
        )
        for number, (text, answer, image) in enumerate(rows)
    ], folder


def _halved(keys: list[str], most: int, seed: str) -> list[tuple[str, str]]:
    """At most so many of ``keys``, half of them ``taught``, in random order that hangs on ``seed`` alone."""
    chosen = random.Random(seed).sample(keys, min(most, len(keys)))
    return [(key, "taught" if place % 2 == 0 else "control") for place, key in enumerate(chosen)]


PACKAGED: dict[str, Callable[[], Made]] = {
    "country-codes": country_codes,
    "capitals": capitals,
    "capitals-by-language": capitals_by_language,
    "airports": airports,
    "easy-vqa": easy_vqa,
    "harmful": lambda: (harmful(), Path()),
    "benign": lambda: (benign(), Path()),
    "borderline": lambda: (borderline(), Path()),
}
"""Name -> what makes the questions."""
