"""The section of a model card: what a training taught the model, and what it cost of what the model knew."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from forgetless.errors import InputError
from forgetless.evaluation.paired import share_interval
from forgetless.files import read_jsonl, write_text
from forgetless.report.numbers import Share, duration, memory, percent
from forgetless.report.reproduce import command
from forgetless.report.run import RETAIN

HEADING = "What it learned and what it forgot"
BEGIN, END = "<!-- forgetless: begin -->", "<!-- forgetless: end -->"
MOST_EXAMPLES = 10
"""Forgotten items that are quoted."""
EMBEDDED = {"smollm2-135m": "HuggingFaceTB/SmolLM2-135M-Instruct"}
"""Names of models that come with a package, and what they are called on the hub."""
_LONG = 160
_SPECIAL = re.compile(r"([\\`*_{}\[\]#!|~$@])")
_HUB_ID = re.compile(r"[\w][\w.-]*/[\w][\w.-]*")

Json = Mapping[str, Any]


def section(summary: Json, items: Sequence[Json], config: Json, *, title: str = HEADING, out: str = "run") -> str:
    """The section in Markdown; every text from the data is escaped, so that it stands as text.

    Args:
        summary: the content of ``summary.json``.
        items: the rows of ``items.jsonl``.
        config: the content of ``config.yaml``.
        title: its heading.
        out: the folder that the command to repeat it names.
    """
    lines = [f"## {escape(title)}", "", _sentence(summary), ""]
    lines += ["| | items | share | 95% interval |", "|---|---:|---:|---:|"]
    lines += [_row(*row) for row in _shares(summary)]
    lines += ["", "Learned: wrong before training, right after. Forgotten: right before, wrong after. Intervals are exact, over items."]
    if promise := _promise(summary.get("budget")):
        lines += ["", promise]
    lines += ["", _setup(summary, config)]
    lost = [item for item in items if item["before"] and not item["after"]]
    if lost:
        shown = sorted(lost, key=lambda item: item["split"] == RETAIN)[:MOST_EXAMPLES]
        lines += ["", f"Forgotten items ({len(shown)} of {len(lost)}):", ""]
        lines += ["| split | question | accepted | before | after |", "|---|---|---|---|---|"]
        lines += [_item(item) for item in shown]
    told = command(config, out)
    if told is not None:
        lines += ["", "To repeat it:", "", fenced(told)]
    return "\n".join(lines) + "\n"


def model_card(summary: Json, items: Sequence[Json], config: Json, existing: str | None = None) -> str:
    """The text of a ``README.md``: ``existing`` with the section in it (in place of an older one), or a new one with its front matter."""
    own = f"{BEGIN}\n{section(summary, items, config)}{END}\n"
    if existing is not None:
        start, stop = existing.find(BEGIN), existing.rfind(END)
        if 0 <= start < stop:
            return existing[:start] + own.rstrip("\n") + existing[stop + len(END) :]
        return f"{existing.rstrip()}\n\n{own}"
    method = ", ".join(str(summary["method"]).split(","))
    about = f"Fine-tuned from {escape(str(summary['model']))} by forgetless with the method {escape(method)}."
    return f"{_front_matter(summary)}\n# {escape(_name(str(summary['model'])))}, fine-tuned\n\n{about}\n\n{own}"


def write_card(folder: Path, summary: Json, items: Sequence[Json], config: Json) -> Path:
    """Write ``README.md`` into the folder of a saved model, or the section into the one that stands there; return it."""
    file = folder / "README.md"
    existing = file.read_text("utf-8", errors="replace") if file.is_file() else None
    write_text(file, model_card(summary, items, config, existing).encode("utf-8", errors="replace").decode("utf-8"))
    return file


def sections(folders: Sequence[Path]) -> str:
    """The sections of finished runs, one after another; of several each is called after its folder.

    Raises:
        InputError: a folder holds no finished run.
    """
    import json

    import yaml

    found = []
    for folder in folders:
        try:
            summary = json.loads((folder / "summary.json").read_text("utf-8"))
            config = yaml.safe_load((folder / "config.yaml").read_text("utf-8"))
            items = read_jsonl(folder / "items.jsonl") if (folder / "items.jsonl").is_file() else []
        except (OSError, ValueError, yaml.YAMLError) as error:
            raise InputError(f"it holds no finished run ({error})", where=str(folder), mend="Give a run that finished") from error
        title = HEADING if len(folders) == 1 else f"{HEADING}: {folder.resolve().name}"
        found.append(section(summary, items, config, title=title, out=str(folder)))
    return "\n".join(found)


def escape(text: str) -> str:
    """``text`` on one line as Markdown that shows it as it is: no markup, no link, no cell border, no HTML."""
    flat = " ".join(text.split())
    plain = html.escape(_SPECIAL.sub(r"\\\1", flat), quote=False)
    return plain.replace("://", "&#58;//").replace("www.", "www&#46;")


def fenced(text: str) -> str:
    """``text`` as a block of code, whatever backticks stand in it."""
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}sh\n{text}\n{fence}"


def _front_matter(summary: Json) -> str:
    import yaml

    model = str(summary["model"])
    model = EMBEDDED.get(model, model)
    known: dict[str, Any] = {"base_model": model} if _HUB_ID.fullmatch(model) and not Path(model).exists() else {}
    known |= {"library_name": "transformers", "tags": ["forgetless"]}
    return f"---\n{yaml.safe_dump(known, sort_keys=False)}---\n"


def _name(model: str) -> str:
    return model.rstrip("/").rsplit("/", 1)[-1] or model


def _shares(summary: Json) -> list[tuple[str, Any, Any]]:
    rows = [
        ("Learned", summary["learned"], summary["inject_total"]),
        ("Learned, held-out wording or items", summary.get("learned_heldout"), summary.get("inject_heldout_total")),
        ("Forgotten, held out: same kinds, seen by no method", summary.get("forgotten_heldout"), summary.get("retain_heldout_total")),
        ("Forgotten, of the reference that the method may use", summary.get("forgotten"), summary.get("retain_total")),
    ]
    rows += [(f"Forgotten, {name}", probe["forgotten"], probe["total"]) for name, probe in (summary.get("probes") or {}).items()]
    return [row for row in rows if row[1] is not None and row[2]]


def _row(name: str, count: int, total: int) -> str:
    low, high = share_interval(count, total)
    return f"| {escape(name)} | {count} of {total} | {percent(count / total)} | {percent(low)} to {percent(high)} |"


def _sentence(summary: Json) -> str:
    learned = Share(summary["learned"], summary["inject_total"])
    text = f"It learned {learned} new items ({percent(learned.share)})"
    for key, total, what in (
        ("forgotten_heldout", "retain_heldout_total", "held-out items that it knew"),
        ("forgotten", "retain_total", "items that it knew"),
    ):
        if summary.get(key) is not None and summary.get(total):
            lost = Share(summary[key], summary[total])
            return f"{text} and forgot {lost} {what} ({percent(lost.share)})."
    return f"{text}; what it forgot was not measured."


def _promise(budget: Any) -> str:
    if not isinstance(budget, Mapping) or budget.get("kept") is None:
        return ""
    text = f"Budget: at most {percent(budget['allowed'])} forgotten. **{'Kept' if budget['kept'] else 'Broken'}**: "
    text += f"{budget['forgotten']} of {budget['total']} items that neither the method nor the guard saw"
    upper = budget.get("upper", budget.get("high"))
    return text + (f"; at most {percent(upper)} with {percent(budget.get('confidence', 0.95))} confidence." if upper is not None else ".")


def _setup(summary: Json, config: Json) -> str:
    parts = [f"method {escape(str(summary['method']))}"]
    parts += [
        f"{name} {escape(str(summary[key]))}" for key, name in (("optimizer", "optimizer"), ("lr", "rate")) if summary.get(key) is not None
    ]
    parts += [f"{summary['epochs_run']} epochs, {summary['steps']} steps", f"seed {summary.get('seed')}", duration(summary.get("seconds"))]
    if summary.get("peak_memory_bytes"):
        parts.append(f"{memory(summary['peak_memory_bytes'])} at the peak")
    scorer = config.get("scorer")
    parts += [f"scored by {escape(str(scorer))}"] if scorer else []
    version = (config.get("versions") or {}).get("forgetless")
    return f"Trained and measured by forgetless{f' {escape(str(version))}' if version else ''}: {', '.join(parts)}."


def _item(item: Json) -> str:
    texts = [item["split"], item["prompt"], item["answer"], item.get("said_before"), item.get("said_after")]
    return f"| {' | '.join(_short(text) for text in texts)} |"


def _short(text: Any) -> str:
    if text is None:
        return "not recorded"
    flat = " ".join(str(text).split())
    return escape(flat if len(flat) <= _LONG else f"{flat[:_LONG]} …") or " "


__all__ = ["HEADING", "escape", "fenced", "model_card", "section", "sections", "write_card"]
