"""The page of the study, made from the raw results in ``docs/results/study/`` alone."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import perplexity
import study_choose
import study_claims
import study_goals
import study_raw
import study_screen
import study_streams
from forgetless.comparison.curves import at_level
from forgetless.comparison.intervals import SHARE, over_seeds
from forgetless.comparison.result import own_items
from forgetless.comparison.summary import summarize
from forgetless.comparison.table import setting
from forgetless.files import write_text
from forgetless.report.comparison_charts import frontier_charts
from forgetless.report.comparison_words import chosen_trial
from forgetless.report.vector import write_svg
from study_choose import told_level

Found = Mapping[str, Any]
SETTINGS = {
    "edits": "Counterfactual edits of known facts",
    "icd10": "Many new facts in one format: medical codes",
    "codes-300": "Many new facts in one format: 300 medical codes",
    "german": "Another language: names in German",
    "airports": "Many new facts in one format: airport codes (development)",
    "instructions": "Instructions in one style",
    "subjects": "Four subjects in sequence",
    "distillation": "Distillation without old data: how strongly (development: medical codes at seed 101)",
    "screen": "Screen: many methods, few trials (development: edits at seed 101)",
    "airports-24": "A first comparison: plain, replay, KL and CPL on 24 airport codes (development)",
}
"""By the name of the raw file. Whatever else stands in the folder follows."""
REMARKS = {
    "edits": "`distilled-1` and `distilled-0.45`: `auto` without old data, with `distillation` of so much. Tests ran beside `distilled-1`: "
    "its time is too high.",
    "distillation": "`lwf-45` is `lwf,null-space` with `lwf.strength=0.45`, and so on. Why it is off: the stronger it is, the fewer codes "
    "are known in a phrasing that was not trained.",
    "codes-300": "Nothing was tuned here: the rates are those that were chosen on 24 codes. "
    "Other work ran beside it at times: times are rough.",
    "german": "Tests ran beside replay's cells (seeds 3 and 4 above all), an installation beside cpl (3 and 4): both times are too high.",
    "instructions": "Plain fine-tuning forgets little of B here. Tests ran beside some of the first cells: their times are rough.",
    "subjects": "A method may keep examples of the subjects that it has learned; none had examples of what was known before (B and C). "
    "Rates are those that were chosen on edits, not tuned here, and plain fine-tuning's next. Tests ran beside some runs: times are rough.",
    "screen": "39 of the 52 methods in `benchmarks/study/screen.yaml`; the others have not been run. Other work ran beside it, so its "
    "times say nothing. `ewc` was tried at strengths 100 and 1000 alone, `l2sp` and `mas` at 1 and 10, each at one rate. "
    "`distilled-1` is `lwf,null-space` without old data.",
}
"""By the name of the raw file what is to be said of how it was made."""
INTRO = """# What forgets less

A model learns new facts, and what it knew before is asked again: **A**, the retain set, which a method may look at; **B**, facts of the
same kinds, which no method sees; **C**, items of other kinds (opposites, plurals, verbs, sums, proverbs, next words of plain text). All are
completions that the untouched model answers right under strict scoring. **In other words**: of the new facts, as training ends, those that
are right in a phrasing that was never trained. Every method has the same number of trials; its trial is chosen on
validation items, every figure is of other items. Facts, the deal into A and B and the order vary with the seed. Brackets hold 95% Student-t
intervals over seeds, p is of the paired t-test over seeds, not corrected for the number of comparisons. A comparison counts what is right
and wrong, so the perplexity of plain text was measured apart, on the chosen trials trained again.
"""
SCREENS = ("screen",)
"""Settings with more methods than curves can show."""
DEVELOPMENT = ("airports", "airports-24", "distillation", "screen")
"""Settings on which something was chosen, with the seeds that are shown."""
AIMED = """What was to be reached at 90% learned, each over at least five seeds with p < 0.05 (paired t-test over seeds, two-sided, not
corrected). `auto` was chosen on edits, at a seed that is not among these; on the other settings nothing was chosen.
"""
CLAIMED = """Of the settings above, as far as they were run. n is the number of seeds; a verdict compares means and is no
test: where n is 1, or intervals overlap, it may be chance. Shares are at so much learned, of tuned trials. Of several
variants of CPL the best counts, and of the baselines the best (in memory and time their mean).
"""
COLUMNS = ("method", "chosen", "learned", "in other words", "seeds that reach it", "A", "B", "C", "area B", "time", "memory")


def write(results: Path) -> Path:
    """Write ``study.md`` and the figures of every raw comparison into ``results``. Gives the page.

    And ``choose.md``, which says what to take.
    """
    folder = results / "study"
    raws = {file.stem: json.loads(file.read_text("utf-8")) for file in sorted(folder.glob("*.json"))}
    sets = {name: summarize(*study_raw.restored(raw)) for name, raw in raws.items() if raw["kind"] == "comparison"}
    parts = [INTRO]
    if goals := study_goals.table({name: found for name, found in sets.items() if name not in DEVELOPMENT}):
        parts += ["## The recipe's goals\n", AIMED, "\n".join(goals) + "\n"]
    for name in [*SETTINGS, *(name for name in raws if name not in SETTINGS)]:
        parts.append(f"## {SETTINGS.get(name, name)}\n")
        if name not in raws:
            parts.append(f"Not run yet: there is no raw result `study/{name}.json`.\n")
        elif name in sets:
            parts += _comparison(name, raws[name], sets[name], folder)
        else:
            runs, made = raws[name]["runs"], raws[name]["made"]
            parts.append(_made(made["machines"][0], made["commands"][0], made["commits"], made["seeds"], f"study/{name}.json"))
            parts += [f"{REMARKS[name]}\n"] if name in REMARKS else []
            parts += study_streams.section(runs)
    parts += ["## Perplexity of plain text\n", *perplexity.section(results / "perplexity.json")]
    parts += ["## The paper's claims\n", CLAIMED]
    parts += ["\n".join(study_claims.table(sets, results)) + "\n"]
    parts.append("Made by `python benchmarks/study.py page` from the raw results in `docs/results/study/`.\n")
    write_text(results / "study.md", "\n".join(parts))
    study_choose.write({name: found for name, found in sets.items() if len(found["seeds"]) > 1}, results)
    return results / "study.md"


def _comparison(name: str, raw: Found, found: Found, folder: Path) -> list[str]:
    commits = found.get("commits") or [found["commit"]]
    told = [_made(raw["machine"], found["command"], commits, found["seeds"], f"study/{name}.json")]
    told += [f"{REMARKS[name]}\n"] if name in REMARKS else []
    told += _renamed(raw)
    if name in SCREENS:
        told.append(f"{_items(found, found['entries'][0]['data'])} Budget of each training: {_budget(found['budget'])}.\n")
        told += study_screen.section(name, found, folder)
        pruned = [one for one in found["problems"] if one["status"] == "pruned"]
        told.append(f"{len(pruned)} of {found['cells']['total']} trials were given up early, being behind the better of their method.\n")
        return [*told, _problems([one for one in found["problems"] if one not in pruned])]
    labels = list(dict.fromkeys(entry["label"] for entry in found["entries"]))
    for place, data in enumerate(dict.fromkeys(entry["data"] for entry in found["entries"])):
        entries = [entry for entry in found["entries"] if entry["data"] == data]
        level = told_level(found, data)
        told += [f"### {data}\n"] if len(found["items"]) > 1 and len({one["data"] for one in found["entries"]}) > 1 else []
        told.append(f"{_items(found, data)} Budget of each training: {_budget(found['budget'])}.\n")
        told.append(f"At {float(level):.0%} learned, in % of what was known; time and memory as multiples of `none`'s:\n")
        told.append(_table(entries, level))
        other = [f"{float(one):.0%}" for one in map("{:g}".format, found["levels"]) if one != level]
        if other:
            told += [f"Forgotten at {' and '.join(other)} learned (B; C):\n", _levels(entries, found["levels"], level)]
        told += _against(entries, level)
        told += _kinds(raw, entries, level)
        for wide, _ in frontier_charts(entries, labels, place):
            kind = wide.id.split("-")[1]
            if kind in "BC":
                file = folder / f"{name}-{data}-{kind}.svg"
                write_svg(wide, labels, file)
                told.append(f"![{wide.title}](study/{file.name})\n")
    if found["problems"]:
        told.append(_problems(found["problems"]))
    return told


def _renamed(raw: Found) -> list[str]:
    """What was run under another label than the one under which it is shown."""
    run = {row["label"]: row["method"] for row in raw["rows"]}
    told = [f"`{now}` was run as `{run[now]}` with the label `{was}`" for was, now in raw.get("renamed", {}).items()]
    return [f"{'; '.join(told)}.\n"] if told else []


def _problems(found: Sequence[Found]) -> str:
    """What did not come to its end, a line for the seeds of a trial of which the same is to be said."""
    same: dict[tuple[str, str, str], list[str]] = {}
    for one in found:
        trial, _, seed = one["cell"].rpartition("_s")
        same.setdefault((trial, one["status"], one["reason"]), []).append(seed)
    told = []
    for (trial, status, why), seeds in same.items():
        told.append(f"* `{trial}`, seed{'s' if len(seeds) > 1 else ''} {', '.join(seeds)}, {status}: {why}\n")
    return "".join(told)


def _made(machine: Found, command: str, commits: Sequence[str | None], seeds: Any, raw: str) -> str:
    cores = " or ".join(str(count) for count in machine["cores"])
    where = ", ".join([f"{machine['cpu']}, {cores} cores", *machine["gpus"]])
    known = [f"`{(one or 'unknown')[:10]}`" for one in commits]
    at = f"commit{'s' if len(known) > 1 else ''} {', '.join(known)}"
    return f"`{command}` at {at}, seeds {', '.join(map(str, seeds))}, on {where}. Raw: [{raw}]({raw}).\n"


def _items(found: Found, data: str) -> str:
    sizes = [own for name, own in found["items"].items() if name == data or name.rpartition("@")[0] == data]
    told = [f"{study_streams.span([own['inject'] for own in sizes])} questions to learn"]
    for kind in "ABC":
        counts = [own[kind]["test"] for own in sizes if own[kind]]
        told += [f"{kind} {study_streams.span(counts)}"] if counts else []
    return f"{found['model']}: {', '.join(told)} test items."


def _budget(budget: Found) -> str:
    most = next(f"{budget[key]:g} {key}" for key in ("epochs", "steps", "seconds") if budget[key] is not None)
    return most + (f", or {budget['until_learned']:.0%} learned" if budget["until_learned"] else "")


def _table(entries: list[Any], level: str) -> str:
    plain = next((trial for entry in entries if entry["label"] == "none" and (trial := chosen_trial(entry))), None)
    lines = [_line(COLUMNS), _line("---" for _ in COLUMNS)]
    for entry in entries:
        trial = chosen_trial(entry)
        if trial is None:
            lines.append(_line([f"`{entry['label']}`", "none finished", *[""] * (len(COLUMNS) - 2)]))
            continue
        at, ratio = trial["at"][level], study_choose.time_ratio(trial, plain, level)
        cells = [
            f"`{entry['label']}`",
            setting(trial),
            *(share(trial["final"][key]) for key in ("learned", "learned_heldout")),
            f"{at['reached']} of {len(trial['seeds'])}",
        ]
        cells += [share(at[kind]) for kind in "ABC"] + [share(trial["area"]["B"], len(trial["seeds"]))]
        cells += ["" if ratio is None else f"{ratio:.2f}", times(trial["peak_memory_bytes"], plain and plain["peak_memory_bytes"])]
        lines.append(_line(cells))
    return "\n".join(lines) + "\n"


def _levels(entries: list[Any], levels: list[float], told: str) -> str:
    names = [name for name in map("{:g}".format, levels) if name != told]
    lines = [_line(["method", *(f"{kind} at {float(name):.0%}" for name in names for kind in "BC")])]
    lines.append(_line("---" for _ in range(1 + 2 * len(names))))
    for entry in entries:
        if (trial := chosen_trial(entry)) is not None:
            lines.append(
                _line([f"`{entry['label']}`", *(share(trial["at"][name][kind], len(trial["seeds"])) for name in names for kind in "BC")])
            )
    return "\n".join(lines) + "\n"


def _against(entries: list[Any], level: str) -> list[str]:
    """Differences to the tuned baselines at a level, in points, where both were run with several seeds."""
    lines = []
    for entry in entries:
        for baseline, one in entry["against"].items() if entry["label"] != "none" else ():
            for kind in "BC":
                by_seed, by_item = one["at"][level][kind], one["items"][kind]
                if by_seed["difference"] is None:
                    continue
                wide = "" if by_seed["low"] is None else f" [{100 * by_seed['low']:+.1f}, {100 * by_seed['high']:+.1f}]"
                p = "" if by_seed["p"] is None else f"{by_seed['p']:.2g}"
                item = "" if by_item["p"] is None else f"{by_item['p']:.2g}"
                cells = [f"`{entry['label']}`", f"`{baseline}`", kind, f"{100 * by_seed['difference']:+.1f}{wide}"]
                lines.append(_line([*cells, p, str(by_seed["n"]), item]))
    if not lines:
        return []
    head = ["method", "against tuned", "kind", "difference, points", "p", "seeds", "p by item, at the end"]
    told = f"Against tuned plain fine-tuning and tuned replay at {float(level):.0%} learned (negative: forgets less):\n"
    return [told, "\n".join([_line(head), _line("---" for _ in head), *lines]) + "\n"]


def _kinds(raw: Found, entries: list[Any], level: str) -> list[str]:
    """Of C, each of its files at a level, where there are several."""
    names = raw["head"]["splits"]["C"]
    if len(names) < 2:
        return []
    _, rows, _, items = study_raw.restored(dict(raw))
    lines = [_line(["method", *names]), _line("---" for _ in range(1 + len(names)))]
    for entry in entries:
        trial = chosen_trial(entry)
        name = (entry["data"], entry["label"], trial["trial"], "finished") if trial else None
        own = [row for row in rows if (row["data"], row["label"], row["trial"], row["status"]) == name]
        if own:
            shares = [over_seeds([_lost(row, own_items(row, items), name, float(level)) for row in own], SHARE) for name in names]
            lost = [share(one, len(own)) for one in shares]
            lines.append(_line([f"`{entry['label']}`", *lost]))
    return [f"C by its files, forgotten at {float(level):.0%} learned:\n", "\n".join(lines) + "\n"]


def _lost(row: Found, items: Found, name: str, level: float) -> float | None:
    """The share of a file's test items that a training has forgotten when so much is learned."""
    if name not in items:
        return None
    told = [point["splits"]["inject"] for point in row["trajectory"]]
    learned = [one["learned"] / (one["total"] - one["right_before"]) for one in told]
    known = [p["splits"][name]["right_before"] - p["validation"][name]["right_before"] for p in row["trajectory"]]
    lost = [p["splits"][name]["forgotten"] - p["validation"][name]["forgotten"] for p in row["trajectory"]]
    return at_level(learned, [a / b for a, b in zip(lost, known, strict=True)], level) if all(known) else None


def share(figure: Any, seeds: int | None = None) -> str:
    """A mean share in percent with its interval; where only some of the seeds have a value, how many."""
    if figure is None:
        return ""
    wide = "" if figure["low"] is None else f" [{100 * figure['low']:.1f}, {100 * figure['high']:.1f}]"
    some = f" ({figure['n']} of {seeds})" if seeds is not None and figure["n"] < seeds else ""
    return f"{100 * figure['mean']:.1f}{wide}{some}"


def times(figure: Any, base: Any) -> str:
    """A mean as a multiple of another one."""
    return f"{figure['mean'] / base['mean']:.2f}" if figure and base and base["mean"] else ""


def _line(cells: Any) -> str:
    return "| " + " | ".join(cells) + " |"
