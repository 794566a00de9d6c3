"""The frame of every page: one file with all it needs in it, a policy that lets it load nothing, templates that escape."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from forgetless.report.numbers import percent, plain
from forgetless.report.palette import class_of, marker, palette_css, shape_of
from forgetless.report.tables import Cell, Head

_HERE = Path(__file__).parent
_IN_SCRIPT = {ord(char): f"\\u{ord(char):04x}" for char in "<>&\u2028\u2029"}
STYLES = ("page.css", "figures.css", "items.css", "print.css")


def render_page(template: str, *, title: str, sections: Sequence[tuple[str, str]], scripts: Sequence[str] = (), **context: Any) -> str:
    """The page that ``template`` makes.

    Args:
        template: a file of this folder that extends ``base.html.j2``.
        title: its heading.
        sections: (id, name) of what the navigation leads to.
        scripts: files run at the end of the page; ``theme.js`` and ``tips.js`` are always there.
        context: what the template shows; text in it is escaped.
    """
    environment = Environment(
        loader=FileSystemLoader(_HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.globals |= {"marker": marker, "shape_of": shape_of, "class_of": class_of, "percent": percent, "plain": plain}
    environment.tests |= {"cell": lambda value: isinstance(value, Cell), "head": lambda value: isinstance(value, Head)}
    theme, body = asset("theme.js"), [asset(name) for name in ("tips.js", *scripts)]
    html = environment.get_template(template).render(
        title=title,
        sections=sections,
        policy=policy([theme, *body]),
        css=Markup(palette_css() + "".join(asset(name) for name in STYLES)),
        theme=theme,
        body_scripts=body,
        **context,
    )
    return html.encode("utf-8", errors="replace").decode("utf-8")  # a lone surrogate in the data would stop the writing


def script_json(value: Any) -> Markup:
    """``value`` as JSON that is safe inside a script element: nothing in it can end the element or the line."""
    return Markup(json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).translate(_IN_SCRIPT))


def asset(name: str) -> Markup:
    """A file of this folder, as it stands."""
    return Markup((_HERE / name).read_text(encoding="utf-8"))


def policy(scripts: Iterable[str]) -> str:
    """The content security policy of a page that runs these scripts and loads nothing."""
    hashes = " ".join(f"'sha256-{base64.b64encode(hashlib.sha256(str(text).encode()).digest()).decode()}'" for text in scripts)
    return f"default-src 'none'; style-src 'unsafe-inline'; script-src {hashes}; img-src data:; base-uri 'none'; form-action 'none'"
