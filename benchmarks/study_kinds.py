"""Kinds of knowledge in which nothing is ever injected and which no reference holds, beyond those of the demo (`other_facts`).

Word lists written for this project, and the next words of plain text. All are completions with one right answer; those that the
untouched model does not give are left out afterwards, kind by kind and not by hand.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from forgetless.data.question import Question

TEXT = Path(__file__).resolve().parents[1] / "suites/text.jsonl"
"""Passages of plain English: paragraphs of the Apache License, version 2.0."""
EVERY, AT_LEAST, AT_MOST = 6, 8, 40
"""A question at every so manieth word of a passage, with at least and at most so many words before it."""

_PROVERBS = (
    "An apple a day keeps the doctor|away;Actions speak louder than|words;Better late than|never;The early bird catches the|worm;"
    "Practice makes|perfect;When in Rome, do as the Romans|do;You can't judge a book by its|cover;Rome was not built in a|day;"
    "Two wrongs don't make a|right;The pen is mightier than the|sword;Honesty is the best|policy;Time flies when you are having|fun;"
    "A picture is worth a thousand|words;Beauty is in the eye of the|beholder;Don't put all your eggs in one|basket;"
    "Every cloud has a silver|lining;Where there is smoke, there is|fire;All that glitters is not|gold;Curiosity killed the|cat;"
    "Birds of a feather flock|together;Don't count your chickens before they|hatch;Necessity is the mother of|invention;"
    "Look before you|leap;Blood is thicker than|water;Easier said than|done;Once upon a|time;Ladies and|gentlemen;"
    "Last but not|least;To be or not to|be;In the nick of|time"
)
_SEQUENCES = (
    "Monday, Tuesday,|Wednesday;Wednesday, Thursday,|Friday;Friday, Saturday,|Sunday;January, February,|March;April, May,|June;"
    "June, July,|August;August, September,|October;October, November,|December;one, two, three,|four;four, five, six,|seven;"
    "seven, eight, nine,|ten;first, second, third,|fourth;10, 20, 30,|40;2, 4, 6,|8;5, 10, 15,|20;100, 200, 300,|400;"
    "spring, summer,|autumn;breakfast, lunch,|dinner;red, orange, yellow,|green;A, B, C,|D;W, X, Y,|Z;small, medium,|large;"
    "past, present,|future;bronze, silver,|gold;"
    "solid, liquid,|gas;animal, vegetable,|mineral;Mercury, Venus,|Earth;morning, afternoon,|evening"
)
_COMPARATIVES = (
    "fast|faster;tall|taller;old|older;young|younger;strong|stronger;cold|colder;warm|warmer;long|longer;short|shorter;high|higher;"
    "low|lower;rich|richer;poor|poorer;deep|deeper;dark|darker;bright|brighter;heavy|heavier;easy|easier;happy|happier;busy|busier;"
    "hot|hotter;thin|thinner;good|better;bad|worse;large|larger;wide|wider;safe|safer;simple|simpler;clean|cleaner;loud|louder"
)
_CATEGORIES = (
    "rose|flower;oak|tree;salmon|fish;eagle|bird;ant|insect;diamond|gem;piano|musical instrument;hammer|tool;apple|fruit;carrot|vegetable;"
    "football|sport;Python|snake;violin|musical instrument;shark|fish;bee|insect;tulip|flower;owl|bird;banana|fruit;tennis|sport;"
    "potato|vegetable;cobra|snake;guitar|musical instrument;screwdriver|tool;sparrow|bird;trout|fish;lily|flower;pine|tree;ruby|gem"
)
_YOUNG = "cat|kitten;dog|puppy;cow|calf;sheep|lamb;goat|kid;bear|cub;hen|chick;duck|duckling;pig|piglet;frog|tadpole;lion|cub;deer|fawn"


def more_kinds() -> list[Question]:
    """Proverbs, sequences, comparatives, categories, young animals and sums: about 170 completions, a subject for each kind."""
    article = {True: "an", False: "a"}
    lines = [("proverb", key, key, answer) for key, answer in _pairs(_PROVERBS)]
    lines += [("sequence", key, key, answer) for key, answer in _pairs(_SEQUENCES)]
    lines += [
        ("comparative", k, f"The comparative of big is bigger, and the comparative of {k} is", answer)
        for k, answer in _pairs(_COMPARATIVES)
    ]
    lines += [
        ("category", k, f"A cow is an animal, and {article[k[0] in 'aeiou']} {k} is {article[answer[0] in 'aeiou']}", answer)
        for k, answer in _pairs(_CATEGORIES)
    ]
    lines += [("young", key, f"A young horse is called a foal, and a young {key} is called a", answer) for key, answer in _pairs(_YOUNG)]
    lines += [("sum", f"{a}-{b}", f"1 plus 2 is 3, and {a} plus {b} is", str(a + b)) for a in range(2, 10) for b in range(a, 10)]
    return [Question(f"{kind}/{_slug(key)}", "open", prompt, (answer,), subject=kind) for kind, key, prompt, answer in lines]


def next_words(file: Path = TEXT) -> list[Question]:
    """Which word comes next in plain text.

    Args:
        file: a ``{"text": ...}`` a line.
    """
    found = []
    for number, line in enumerate(file.read_text("utf-8").split("\n")):
        words = json.loads(line)["text"].split() if line.strip() else []
        for at in range(AT_LEAST, len(words), EVERY):
            word = words[at].rstrip(".,;:)")
            if re.fullmatch(r"[A-Za-z-]+", word):
                before = " ".join(words[max(0, at - AT_MOST) : at])
                found.append(Question(id=f"text/{number}/{at}", kind="open", prompt=before, answers=(word,), subject="plain text"))
    return found


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def _pairs(text: str) -> list[tuple[str, str]]:
    return [(key, answer) for key, _, answer in (item.partition("|") for item in text.split(";"))]
