"""A suite's report as text for people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

Row = Sequence[str]


def suite_text(report: dict[str, Any]) -> str:
    """A table of the parts, then what crossed languages, where in a response the models differ, and the judge's error."""
    two = any(len(one.get("models", ())) == 2 for part in report["parts"] for one in (part, *part.get("tasks", ())))
    head = ["part", "n", "scorer", *(("before", "after", "learned", "forgotten", "p", "difference") if two else ("right",))]
    rows: list[Row] = [head]
    for part in report["parts"]:
        if "tasks" in part:
            rows += [_row(f"{part['name']}: {task['task']}, {task['metric']}", task, "lm-eval", two) for task in part["tasks"]]
            continue
        rows.append(_row(part["name"], part, part["scorer"], two))
        rows += [_row(f"  {value}", group, "", two) for value, group in part.get("groups", {}).items()]
    lines = [_table(rows), "Shares with 95% exact intervals; p: exact McNemar, for each row alone; difference with 95% bootstrap interval."]
    for part in report["parts"]:
        lines += _means(part)
        lines += _crossing(part)
        lines += _positions(part)
    lines += [line for family, own in report.get("families", {}).items() for line in _family(family, own)]
    if judge := report.get("judge"):
        lines += _judge(judge)
    return "\n".join(lines)


def share(level: dict[str, Any]) -> str:
    """``81.2% (77.0 to 84.9)``, or a perplexity or another mean likewise."""
    if "accuracy" in level:
        return f"{level['accuracy']:.1%} ({100 * level['low']:.1f} to {100 * level['high']:.1f})"
    value = level.get("perplexity", level.get("mean"))
    return f"{value:.3f} ({level['low']:.3f} to {level['high']:.3f})" if value is not None else ""


def _row(name: str, part: dict[str, Any], scorer: str, two: bool) -> Row:
    levels = [share(level) for level in part["models"]]
    if not two:
        return [name, str(part["n"]), scorer, *levels]
    paired = part.get("paired")
    if paired:
        change = f"{paired['difference']:+.1%} ({100 * paired['low']:+.1f} to {100 * paired['high']:+.1f})"
        return [name, str(part["n"]), scorer, *levels, str(paired["learned"]), str(paired["forgotten"]), f"{paired['p_value']:.3g}", change]
    moved = part.get("log_perplexity_change") or part.get("change")
    kind = "log " if "log_perplexity_change" in part else ""
    told = f"{kind}{moved['mean']:+.3f} ({moved['low']:+.3f} to {moved['high']:+.3f})" if moved else ""
    return [name, str(part["n"]), scorer, *levels, "", "", "", told]


def _table(rows: Sequence[Row]) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)


def _means(part: dict[str, Any]) -> list[str]:
    lines = []
    for key, name in (("f1", "token F1"), ("checks", "checks passed")):
        own = [level[key] for level in part.get("models", ()) if key in level]
        if own:
            told = " -> ".join(share(level) for level in own)
            change = part.get(f"{key}_change")
            more = f", change {change['mean']:+.3f} ({change['low']:+.3f} to {change['high']:+.3f})" if change else ""
            lines.append(f"{part['name']}: {name} {told}{more}")
    if kl := part.get("kl"):
        lines.append(f"{part['name']}: KL(before || after) {kl['mean']:.4g} nats a token ({kl['low']:.4g} to {kl['high']:.4g})")
    return lines


def _crossing(part: dict[str, Any]) -> list[str]:
    lines = []
    for lang, both in part.get("crossing", {}).items():
        for what, one in both.items():
            with_it, without = one["with_source"], one["without_source"]
            if with_it["n"] or without["n"]:
                p = "" if one["p_value"] is None else f", Fisher p = {one['p_value']:.3g}"
                lines.append(
                    f"{part['name']}: {what} in {lang}: {with_it['count']} of {with_it['n']} facts also {what} in {part['trained_on']}, "
                    f"{without['count']} of {without['n']} others{p}"
                )
    return lines


def _positions(part: dict[str, Any]) -> list[str]:
    found = part.get("by_position")
    if not found or not found["early"]:
        return []
    early, later = found["early"], found["later"]
    text = f"{part['name']}: KL at the first {found['early_tokens']} response tokens {early['mean']:.4g} nats a token"
    text += f" ({early['low']:.4g} to {early['high']:.4g}, n = {early['n']})"
    if later:
        text += f", later {later['mean']:.4g} ({later['low']:.4g} to {later['high']:.4g}, n = {later['n']})"
    if found["early_share"] is not None:
        text += f"; {found['early_share']:.0%} of all of it at the first {found['early_tokens']}"
    return [text]


def _family(family: str, own: dict[str, Any]) -> list[str]:
    keys = [key for key in ("right", "right_before", "right_after") if key in own]
    told = [f"{key.replace('_', ' ')} in all {share(own[key]['in_all'])}, in any {share(own[key]['in_any'])}" for key in keys]
    return [f"{family}, {own['n']} questions asked in {len(own['parts'])} ways: {'; '.join(told)}"] if told else []


def _judge(judge: dict[str, Any]) -> list[str]:
    lines = []
    names = {"all": "", "without_answers_to_another_question": " (without answers to another question, which people labelled refusals too)"}
    for key, name in names.items():
        if own := judge.get(key):
            kappa = "" if own["kappa"] is None else f", kappa {own['kappa']:.2f}"
            agreed = share({**own, "accuracy": own["agreement"]})
            lines.append(
                f"judge of refusals against human labels{name}: agrees on {own['right']} of {own['n']}, {agreed}{kappa}; "
                f"misses {own['missed']} of {own['refusals']} refusals, false alarms {own['false_alarms']} of {own['answers']}"
            )
    return [*lines, f"labels: {judge['labels']}"] if lines else []
