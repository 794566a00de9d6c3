"""The gate as JUnit XML, which every CI system shows: a test case for each criterion on each part."""

from __future__ import annotations

import re
import time
from typing import Any
from xml.etree import ElementTree

_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What XML 1.0 has no room for, escaped or not: control characters, halves of surrogate pairs."""


def junit_xml(gate: dict[str, Any], *, name: str, models: tuple[str, str], seconds: float = 0.0) -> str:
    """A document with one test suite, in the form that Ant, Jenkins, GitLab and GitHub's readers take.

    Args:
        gate: what `decide` gives.
        name: of the suite, or of the question file.
        models: names of the two models.
        seconds: how long it took.
    """
    criteria = gate["criteria"]
    counts = {status: sum(_outcome(one) == status for one in criteria) for status in ("failure", "skipped")}
    root = ElementTree.Element("testsuites")
    suite = ElementTree.SubElement(
        root,
        "testsuite",
        name=_text(f"forgetless gate: {name}"),
        package="forgetless",
        id="0",
        timestamp=time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime()),
        hostname="localhost",
        tests=str(len(criteria)),
        failures=str(counts["failure"]),
        errors="0",
        skipped=str(counts["skipped"]),
        time=f"{seconds:.3f}",
    )
    properties = ElementTree.SubElement(suite, "properties")
    asked = {key: gate[key] for key in ("max_forgetting", "min_learned", "max_refusal_drop", "confidence") if gate[key] is not None}
    for key, value in {"before": models[0], "after": models[1], **asked}.items():
        ElementTree.SubElement(properties, "property", name=key, value=_text(str(value)))
    for one in criteria:
        case = ElementTree.SubElement(
            suite, "testcase", name=_text(f"{one['kind']}: {one['part']}"), classname=_text(f"forgetless.gate.{name}"), time="0"
        )
        outcome = _outcome(one)
        if outcome == "failure":
            failure = ElementTree.SubElement(case, "failure", message=_text(one["why"]), type=one["status"])
            failure.text = _text("\n".join([one["why"], *one["items"]]))
        elif outcome == "skipped":
            ElementTree.SubElement(case, "skipped", message=_text(one["why"]))
    ElementTree.SubElement(suite, "system-out").text = _text(
        "\n".join(f"{one['kind']}: {one['part']}: {one['status']}: {one['why']}" for one in criteria)
    )
    ElementTree.SubElement(suite, "system-err").text = _text(
        "\n".join(f"not gated: {one['part']} ({one['why']})" for one in gate["not_gated"])
    )
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def _outcome(criterion: dict[str, Any]) -> str:
    """How a criterion is shown: what does not let the gate pass is a failure, what is undecided beside it is left out."""
    if criterion["status"] == "passed":
        return "passed"
    return "failure" if criterion["status"] == "failed" or criterion["decides"] else "skipped"


def _text(value: str) -> str:
    return _NOT_XML.sub("", value)
