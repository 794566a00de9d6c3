"""A figure for the page of each method: where it stands among the others on split MNIST, in the three settings.

    python docs/pictures/method_figures.py               # docs/methods/figures/NAME.svg, from docs/results/split_mnist.json and more.json
    python docs/pictures/method_figures.py --run wise    # first measures a method that is not in that file, into more.json (minutes)

A dot is the mean accuracy of a method over its seeds; drawn strong is the method of the page, with its standard error.
"""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path

from ink import dot, path, svg, text

HERE = Path(__file__).resolve()
ROOT = HERE.parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))

import raw  # noqa: E402

RAW = ROOT / "docs" / "results" / "split_mnist.json"
FIGURES = ROOT / "docs" / "methods" / "figures"
MORE = FIGURES / "more.json"
SEEDS = 5
SETTINGS = {
    "task": "task: told at use which task it is",
    "domain": "domain: not told; tasks share their output units",
    "class": "class: not told; all ten digits may be the answer",
}
MARKS = {"none": "plain", "joint": "all at once"}
LEFT, RIGHT, ROW, WIDTH = 300, 700, 62, 760


def results() -> dict[str, dict[str, tuple[float, float]]]:
    """For each setting and method the mean accuracy in percent and its standard error over seeds."""
    rows = raw.read(RAW)
    there = {row["method"] for row in rows}
    rows += [row for row in raw.read(MORE) if row["method"] not in there]
    found: dict[str, dict[str, tuple[float, float]]] = {setting: {} for setting in SETTINGS}
    for setting, method in sorted({(row["setting"], row["method"]) for row in rows}):
        own = [100 * row["acc"] for row in rows if (row["setting"], row["method"]) == (setting, method)]
        mean = sum(own) / len(own)
        found[setting][method] = mean, math.sqrt(sum((value - mean) ** 2 for value in own) / max(1, len(own) - 1) / len(own))
    return found


def told(method: str, found: dict[str, dict[str, tuple[float, float]]]) -> str:
    """The figure in words."""
    parts = [f"{values[method][0]:.1f}% ({setting})" for setting, values in found.items() if method in values]
    return f"{method} among the methods on split MNIST: {', '.join(parts)}"


def draw(method: str, found: dict[str, dict[str, tuple[float, float]]]) -> str:
    """The figure of ``method``: a line for each setting."""
    lines = []
    for number, (setting, values) in enumerate(found.items()):
        y = ROW * number + 34
        low = 10 * math.floor(min(value for value, _ in values.values()) / 10)

        def x(value: float, low: int = low) -> float:
            return round(LEFT + (value - low) / (100 - low) * (RIGHT - LEFT), 1)

        name, _, rest = SETTINGS[setting].partition(": ")
        lines += [text(8, y - 2, name, "v"), text(8, y + 13, rest, "s"), path(f"M{LEFT} {y}H{RIGHT}", "a")]
        lines += [text(LEFT, y + 24, str(low), "s m"), text(RIGHT + 8, y + 4, "100%", "s")]
        for other, mark in MARKS.items():
            at = x(values[other][0])
            lines += [path(f"M{at} {y - 9}V{y + 13}", "d"), text(at, y + 24, mark, "s m")]
        lines += [dot(x(value), y, 4.5, "o") for other, (value, _) in values.items() if other != method]
        if method in values:
            value, error = values[method]
            lines += [path(f"M{x(value - error)} {y}H{x(min(100.0, value + error))}", "w"), dot(x(value), y, 6.5, "h")]
            lines.append(text(x(value), y - 13, f"{value:.1f} ± {error:.1f}", "v m"))
        else:
            lines.append(text((LEFT + RIGHT) // 2, y - 13, "not without being told the task", "s m"))
    return svg(WIDTH, ROW * 3 + 22, told(method, found), lines)


def run(method: str) -> None:
    """Measure ``method`` with its default options as `benchmarks/split_mnist.py` does, and add it to more.json."""
    import split_mnist
    from forgetless.methods import METHODS

    rows = [row for row in raw.read(MORE) if row["method"] != method]
    for seed in range(SEEDS):
        for setting in SETTINGS if not METHODS[method].needs_task_id else ["task"]:
            rows.append(split_mnist.one({"setting": setting, "method": method, "options": {}, "seed": seed}, None))
            print(f"{setting} seed {seed}: {100 * rows[-1]['acc']:.1f}%", flush=True)
    raw.keep(MORE, rows)


def main() -> None:
    """See the top of the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", metavar="METHOD", help="measure this method first")
    arguments = parser.parse_args()
    if arguments.run:
        run(arguments.run)
    found = results()
    FIGURES.mkdir(exist_ok=True)
    for method in sorted({method for values in found.values() for method in values}):
        (FIGURES / f"{method}.svg").write_text(draw(method, found), encoding="utf-8")


if __name__ == "__main__":
    main()
