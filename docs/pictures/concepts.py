"""The pictures of docs/concepts.md.

    python docs/pictures/concepts.py    # writes agreement, splits, frontier and guard .svg beside this file

The frontier's points are those of the table in the README (``make demo``), the guard's looks and acts those of the log on docs/budget.md.
The other two are drawn by hand: the weights of ``agreement`` are made up.
"""

from __future__ import annotations

import json
import random
import re
from pathlib import Path

from ink import box, dot, path, svg, text

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]


def agreement() -> str:
    """Signs of two gradients, weight by weight, and which weights move."""
    draw = random.Random(4)
    rows, columns, size = 5, 7, 28
    signs = [[[draw.choice("+-") for _ in range(columns)] for _ in range(rows)] for _ in range(2)]
    signs[0][1][5] = signs[0][3][0] = "0"
    lines = []
    titles = ("g(M), what must be kept", "g(I), what is to be learned", "the optimizer's step")
    for number, title in enumerate(titles):
        left = 14 + 250 * number
        lines += [text(left, 20, title, "v")]
        for row in range(rows):
            for column in range(columns):
                old, new = signs[0][row][column], signs[1][row][column]
                x, y = left + column * (size + 2), 32 + row * (size + 2)
                if number < 2:
                    sign = (old, new)[number]
                    kind = {"+": "k f", "-": "h f", "0": "b"}[sign]
                    mark = {"+": "+", "-": "−", "0": "0"}[sign]
                else:
                    held = {old, new} == {"+", "-"}
                    kind, mark = ("b", "×") if held else ("k", "")
                lines += [box(x, y, size, size, kind), text(x + size / 2, y + 19, mark, "m")]
        if number < 2:
            lines.append(text(left + 222, 32 + rows * (size + 2) / 2 + 4, ("·", "→")[number], "v m"))
    held = sum({a, b} == {"+", "-"} for ra, rb in zip(*signs, strict=True) for a, b in zip(ra, rb, strict=True))
    lines.append(text(14, 204, "a weight for which the one gradient is 0 counts as agreeing", "s"))
    lines.append(text(514, 204, f"× held back: {held} of {rows * columns}", "s"))
    return svg(740, 214, "Two gradients, weight by weight: where their signs differ the weight is held back", lines)


def splits() -> str:
    """From questions to A, B and C, and who sees them."""
    lines = []
    boxes = {
        "questions": (10, 62, "your questions", "what matters to you"),
        "known": (190, 26, "known", "right before training"),
        "unknown": (190, 110, "unknown", "wrong before training"),
        "A": (370, 6, "A: retain", "a method may look at it"),
        "B": (370, 56, "B: retain-heldout", "same kinds; no method sees it"),
        "inject": (370, 110, "inject", "to be learned"),
        "new": (370, 160, "inject-heldout", "e.g. in other words"),
        "C": (370, 214, "C: a probe", "other kinds altogether"),
    }
    width, height = 160, 40
    for x, y, title, under in boxes.values():
        wide = width + 30 if x == 370 else width - 20
        lines += [box(x, y, wide, height), text(x + 10, y + 17, title, "v"), text(x + 10, y + 32, under, "s")]
    for start, end in (
        ("questions", "known"),
        ("questions", "unknown"),
        ("known", "A"),
        ("known", "B"),
        ("unknown", "inject"),
        ("unknown", "new"),
    ):
        x, y = boxes[start][0] + width - 20, boxes[start][1] + height / 2
        to, at = boxes[end][0], boxes[end][1] + height / 2
        lines.append(path(f"M{x} {y:g}C{x + 25} {y:g} {to - 25} {at:g} {to} {at:g}", "a"))
    told = (
        ("A", "forgotten"),
        ("B", "forgotten, held out: the honest figure"),
        ("inject", "learned"),
        ("new", "learned, held out"),
        ("C", "forgotten elsewhere"),
    )
    for name, words in told:
        y = boxes[name][1] + height / 2
        lines += [path(f"M560 {y:g}H580", "a"), text(586, y + 4, words)]
    lines.append(text(10, 238, "asked again after training, item by item", "s"))
    return svg(840, 262, "Questions are dealt into what is known (A and B) and what is not (inject); C is of other kinds", lines)


def points() -> list[tuple[str, int, int, int, int]]:
    """Of each run of the demo: its name, learned, of how many, forgotten of B, of how many; from the README."""
    found = []
    for line in (ROOT / "README.md").read_text("utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        counts = [re.fullmatch(r"(\d+) of (\d+)", cell) for cell in cells]
        if len(cells) == 7 and all(counts[1:6]):
            found.append((cells[0].split(", reference")[0], *map(int, counts[1].groups()), *map(int, counts[4].groups())))
    return found


def frontier() -> str:
    """Learned against held-out forgetting for the four runs of the demo."""
    left, right, top, bottom = 70, 560, 40, 290

    def x(share: float) -> float:
        return left + (share - 0.8) / 0.2 * (right - left)

    def y(share: float) -> float:
        return top + share / 0.5 * (bottom - top)

    lines = [path(f"M{left} {top}V{bottom}H{right}", "a")]
    lines += [text(x(share / 100), bottom + 18, f"{share}%", "s m") for share in (80, 85, 90, 95, 100)]
    lines += [text(left - 8, y(share / 100) + 4, f"{share}%", "s e") for share in (0, 10, 20, 30, 40, 50)]
    lines += [text((left + right) / 2, bottom + 38, "learned of the new questions", "m"), text(8, 22, "forgotten of B: less is further up")]
    for name, learned, new, lost, known in points():
        at, down = x(learned / new), y(lost / known)
        kind = "h" if name.startswith("plain") else "k"
        lines += [dot(at, down, 6.5, kind), text(at - 12, down + 4, f"{name}: {lost} of {known}", "e")]
    lines += [path("M610 120L650 60M650 60l-13 6M650 60l-2 14", "a"), text(600, 140, "better"), text(600, 156, "more learned,", "s")]
    lines.append(text(600, 170, "less forgotten", "s"))
    return svg(720, 340, "Learned against forgotten for the four runs of the demo: each rate and method is a point", lines)


def log() -> list[dict[str, object]]:
    """The log of a guarded run that is shown on docs/budget.md."""
    page = (ROOT / "docs" / "budget.md").read_text("utf-8")
    return [json.loads(line) for line in page.splitlines() if line.startswith('{"kind"')]


def guard() -> str:
    """Looks with their intervals against the budget; acts below."""
    lines_of = log()
    looks = [line for line in lines_of if line["kind"] == "look"]
    start = lines_of[0]
    left, right, top, bottom = 60, 700, 30, 190
    last = max(int(str(line["step"])) for line in looks)

    def x(step: object) -> float:
        return round(left + float(str(step)) / (last + 3) * (right - left), 1)

    def y(share: float) -> float:
        return round(bottom - share / 0.14 * (bottom - top), 1)

    allowed = float(str(start["allowed"]))
    lines = [path(f"M{left} {top}V{bottom}H{right}", "a"), text(8, 16, "share of the probe that is lost, with 95% intervals")]
    lines += [text(left - 8, y(share / 100) + 4, f"{share}%", "s e") for share in (0, 5, 10)]
    lines += [path(f"M{left} {y(allowed)}H{right}", "q"), text(right + 6, y(allowed) + 4, f"budget {allowed:.0%}", "s")]
    for look in looks:
        at, share = x(look["step"]), float(str(look["forgotten"])) / float(str(look["total"]))
        kind = ("h", "w") if not look["good"] else ("k", "q")
        lines += [path(f"M{at} {y(float(str(look['low'])))}V{y(float(str(look['high'])))}", kind[1]), dot(at, y(share), 5.5, kind[0])]
        lines.append(text(at, bottom + 16, str(look["step"]), "s m"))
    lines.append(text(left - 8, bottom + 16, "step", "s e"))
    acts = [line for line in lines_of if line["kind"] == "act"]
    for number, act in enumerate(acts):
        at, down = x(act["step"]), bottom + 40 + 18 * number
        what = str(act["what"]).split(",")[0].split(" what works")[0]
        lines += [path(f"M{at} {bottom + 22}V{down - 4}h8", "d"), text(at + 12, down, f"{act['act']}: {what}", "s")]
    return svg(780, bottom + 50 + 18 * len(acts), "Looks of the guard at its probe, and what it did", lines)


def main() -> None:
    """See the top of the file."""
    for draw in (agreement, splits, frontier, guard):
        (HERE / f"{draw.__name__}.svg").write_text(draw(), encoding="utf-8")


if __name__ == "__main__":
    main()
