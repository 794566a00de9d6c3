"""The verdict in plain words. Every sentence is derived from the runs; whichever method wins or loses, it is said."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from forgetless.report.budget import promise_sentence
from forgetless.report.contrast import MARGIN, SIGNIFICANT, Contrast, SplitContrast, baseline_of, contrast
from forgetless.report.figures import Figures, figures, is_probe, labels
from forgetless.report.groups import grouped
from forgetless.report.numbers import Share, duration, p_value, percent, plain, points, ratio
from forgetless.report.read_run import read_run
from forgetless.report.run import RETAIN, RETAIN_HELDOUT, Run
from forgetless.report.seeds import headline as over_seeds_headline
from forgetless.report.seeds import over_seeds


@dataclass(frozen=True, slots=True)
class Verdict:
    """The verdict in parts: the headline, how the runs compare, each run by itself, what the figures cannot tell."""

    headline: str
    comparison: Sequence[str]
    alone: Sequence[str]
    limits: Sequence[str]


def verdict_sentences(runs: Sequence[Run | Path]) -> list[str]:
    """The verdict on ``runs`` (read already, or their folders): the first sentence is the headline.

    Then each run by itself, then each run against its baseline (the plain run, method ``none``, where there is one), then
    what the figures cannot tell. Differences are tested item by item (exact McNemar) where both runs recorded the same items.
    """
    found = verdict([run if isinstance(run, Run) else read_run(run) for run in runs])
    return list(dict.fromkeys([found.headline, *found.alone, *found.comparison, *found.limits]))


def verdict(runs: Sequence[Run]) -> Verdict:
    """The verdict on ``runs`` in parts; the headline of a lone run is its own sentence."""
    names = labels(runs)
    finished = [run for run in runs if run.finished]
    contrasts = [contrast(run, baseline_of(run, finished)) for run in finished]
    pairs = [pair for pair in contrasts if pair is not None]
    name_of = {id(run): name for run, name in zip(runs, names, strict=True)}
    alone = [sentence for run in runs for sentence in _alone(run, name_of[id(run)], baseline_of(run, finished), name_of)]
    comparison = [sentence for pair in pairs for sentence in _against(pair, name_of)]
    seeds = over_seeds(grouped(runs, names))
    if seeds is not None:
        split, differences = seeds
        headline = over_seeds_headline(split_words(split), differences)
        comparison = [one.sentence(split_words(split)) for one in differences] + comparison
    else:
        headline = _headline(pairs, name_of) if pairs else alone.pop(0)
    return Verdict(headline, [one for one in comparison if one != headline], alone, _limits(finished, pairs))


def split_words(split: str) -> str:
    """A split as it is named inside a sentence."""
    if is_probe(split):
        return f"items of {split}"
    return {RETAIN: "retained items", RETAIN_HELDOUT: "held-out items of the same kinds"}[split]


def _headline(pairs: Sequence[Contrast], name_of: dict[int, str]) -> str:
    if len(pairs) == 1:
        return _one_headline(pairs[0], name_of)
    groups: dict[str, list[str]] = {}
    for pair in pairs:
        groups.setdefault(_outcome(pair), []).append(name_of[id(pair.run)])
    bases = list(dict.fromkeys(name_of[id(pair.baseline)] for pair in pairs))
    mains = list(dict.fromkeys(split_words(pair.main.split) for pair in pairs if pair.main is not None and not pair.obstacle))
    on = f" ({_listed(mains)})" if mains else ""
    return f"Against {_listed(bases)}{on}: " + "; ".join(f"{_listed(names)} {outcome}" for outcome, names in groups.items()) + "."


def _outcome(pair: Contrast) -> str:
    if pair.obstacle or pair.main is None:
        return "cannot be compared"
    direction, certain = _direction(pair.main)
    learning = "at equal learning" if pair.equal else "but learned more" if pair.gap > 0 else "but learned less"
    if not pair.equal and pair.learning_in_noise:
        learning += " (within noise)"
    if direction == 0 or not certain:
        return f"showed no proven difference in forgetting, {learning.replace('but ', 'and ')}"
    if not pair.equal and (pair.gap > 0) == (direction < 0):
        learning = learning.replace("but", "and")
    return f"forgot {'less' if direction < 0 else 'more'}{',' if not pair.equal else ''} {learning}"


def _one_headline(pair: Contrast, name_of: dict[int, str]) -> str:
    a, b = name_of[id(pair.run)], name_of[id(pair.baseline)]
    if pair.obstacle:
        return f"{a} and {b} cannot be compared: {pair.obstacle}."
    main = pair.main
    if main is None:
        return f"Neither forgetting of {a} nor of {b} can be compared: they share no split of items known before."
    counts = f"{main.run} against {main.baseline} {split_words(main.split)}"
    learning = f"learned {percent(pair.learned.share)} against {percent(pair.baseline_learned.share)}"
    direction, certain = _direction(main)
    test = f", {p_value(main.p)}" if main.p is not None else ", not tested item by item"
    if pair.equal:
        if direction == 0:
            return f"{a} and {b} forgot the same at equal learning: {counts}."
        if not certain:
            reason = f"within noise ({p_value(main.p)})" if main.p is not None else "not tested item by item"
            return f"No proven difference in forgetting between {a} and {b} at equal learning: {counts} is {reason}."
        return f"{a} forgot {'less' if direction < 0 else 'more'} than {b} at equal learning: {counts}{test}."
    more = pair.gap > 0
    if pair.learning_in_noise and direction and certain:
        return (
            f"{a} forgot {'less' if direction < 0 else 'more'} than {b}: {counts}{test}. It {learning}, "
            f"which is not equal, but within noise ({_p(pair.learning_p)})."
        )
    if direction == 0 or not certain:
        return (
            f"{a} learned {'more' if more else 'less'} than {b} ({learning}), with no proven difference in forgetting: "
            f"{counts}{test if direction else ''}."
        )
    if more == (direction < 0):
        return (
            f"{a} learned {'more' if more else 'less'} than {b} and forgot {'less' if more else 'more'}: {learning}; forgot {counts}{test}."
        )
    return (
        f"{a} forgot {'less' if direction < 0 else 'more'} than {b} but also learned {'less' if direction < 0 else 'more'}, "
        f"so neither is better at face value: {learning}; forgot {counts}{test}."
    )


def _alone(run: Run, name: str, baseline: Run | None, name_of: dict[int, str]) -> list[str]:
    found = figures(run)
    if found.learned is None:
        return [f"{name} is unfinished and has not been scored yet."]
    text = f"{name} {'' if run.finished else 'is unfinished; so far it '}learned {found.learned} new items ({percent(found.learned.share)})"
    if found.learned_heldout is not None and found.learned_heldout.total:
        text += f" and {found.learned_heldout} held-out new ones ({percent(found.learned_heldout.share)})"
    lost = [_lost(share, split) for split, share in found.forgotten.items() if share.total]
    text += f"; it forgot {_listed(lost)}" if lost else "; forgetting was not measured"
    sentences = [text + _cost(found, run, baseline, name_of) + "."]
    if run.summary is None:
        return sentences
    net = [
        f"{split} {points(pair.difference)} points (95% interval {points(pair.low)} to {points(pair.high)}"
        + (", within noise)" if pair.p_value >= SIGNIFICANT else f", {p_value(pair.p_value)})")
        for split, pair in run.summary.paired.items()
        if split == RETAIN_HELDOUT or is_probe(split)
    ]
    if net:
        sentences.append(f"Accuracy of {name} after against before training: {_listed(net)}.")
    if found.constraint_violation:
        sentences.append(f"{name} broke its promise: a weight said to be frozen moved by {plain(found.constraint_violation)}.")
    if run.summary.budget is not None:
        promise = promise_sentence(run, name)
        sentences += [promise] if promise else _budget(run.summary.budget.allowed, name, found)
    return sentences


def _lost(share: Share, split: str) -> str:
    text = f"{share} {split_words(split)} ({percent(share.share)}"
    if split == RETAIN or share.interval is None:
        return text + ")"
    low, high = share.interval
    return f"{text}, 95% interval {percent(low)} to {percent(high)})"


def _cost(found: Figures, run: Run, baseline: Run | None, name_of: dict[int, str]) -> str:
    if found.seconds is None:
        return ""
    text = f", in {duration(found.seconds)} of training"
    base = figures(baseline).seconds if baseline is not None and baseline is not run else None
    return text + (f", {ratio(found.seconds / base)} the time of {name_of[id(baseline)]}" if base and run.finished else "")


def _budget(budget: float, name: str, found: Figures) -> list[str]:
    kept = {split: share for split, share in found.forgotten.items() if not is_probe(split) and share.share is not None}
    words = [
        f"{'over' if (share.share or 0) > budget else 'within'} on {split_words(split)} ({percent(share.share)})"
        for split, share in kept.items()
    ]
    return [f"The budget of {name} was to forget at most {percent(budget)}: {_listed(words)}."] if words else []


def _against(pair: Contrast, name_of: dict[int, str]) -> list[str]:
    a, b = name_of[id(pair.run)], name_of[id(pair.baseline)]
    if pair.obstacle:
        return [f"{a} and {b} cannot be compared: {pair.obstacle}."]
    rates = f"{a} {percent(pair.learned.share)}, {b} {percent(pair.baseline_learned.share)} of the new items"
    if pair.equal:
        sentences = [f"{a} and {b} are at equal learning (within {MARGIN * 100:.0f} points): {rates}."]
    else:
        test = f"; {'within noise, ' if pair.learning_in_noise else ''}{_p(pair.learning_p)}" if pair.learning_p is not None else ""
        sentences = [f"{a} and {b} are not at equal learning ({rates}{test}), so their forgetting does not compare at face value."]
        if pair.match is not None:
            match = pair.match
            lost = _listed([f"{share} {split_words(split)}" for split, share in match.forgotten.items()])
            near = "where it was at equal learning" if match.equal else "where its learning came nearest"
            sentences.append(
                f"After epoch {match.epoch}, {near} ({percent(match.learned.share)}), {name_of[id(match.leader)]} had forgotten {lost}."
            )
    clauses = [_clause(part, a, b) for part in pair.splits if part.run.total or part.baseline.total]
    if clauses:
        sentences.append(f"Forgotten at the end, {a} against {b}: {'; '.join(clauses)}.")
    return sentences


def _clause(part: SplitContrast, a: str, b: str) -> str:
    direction, certain = _direction(part)
    words = split_words(part.split)
    if direction == 0:
        return f"{words}, no difference"
    less = a if direction < 0 else b
    if part.test is None:
        return f"{words}, fewer by {less} (not tested: not the same items)"
    test = part.test  # of the share kept: turned round, it is that of the share forgotten
    gap = f"{points(-test.difference)} points, 95% interval {points(-test.high)} to {points(-test.low)}, {p_value(test.p_value)}"
    return f"{words}, fewer by {less} ({gap})" if certain else f"{words}, within noise ({gap})"


def _p(value: float | None) -> str:
    return "not tested" if value is None else p_value(value)


def _direction(part: SplitContrast) -> tuple[int, bool]:
    gap = (part.run.share or 0) - (part.baseline.share or 0)
    return (gap > 0) - (gap < 0), part.p is not None and part.p < SIGNIFICANT


def _limits(finished: Sequence[Run], pairs: Sequence[Contrast]) -> list[str]:
    if not finished:
        return []
    if len(finished) == 1:
        return ["One finished run: there is nothing to compare it with, so what the method changed against plain fine-tuning is not shown."]
    sentences = []
    seeds = {(run.method, run.seed) for run in finished}
    if len(seeds) == len({run.method for run in finished}):
        sentences.append("Each method ran with one seed: the tests cover the choice of items, not how another seed would turn out.")
    elif len({run.seed for run in finished}) < 6:
        sentences.append("Intervals over so few seeds are wide, and only large differences between seeds can be proven.")
    tests = sum(part.p is not None for pair in pairs for part in pair.splits)
    if tests > 1:
        sentences.append(f"The {tests} tests between runs are not corrected for their number.")
    return sentences


def _listed(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]
