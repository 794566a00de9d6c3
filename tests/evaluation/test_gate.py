"""The ship gate: what counts as forgotten and learned, the decision, and its reports."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from forgetless.errors import InputError
from forgetless.evaluation.criteria import lower, upper
from forgetless.evaluation.gate import Limits, check_gate, decide, gate_text
from forgetless.evaluation.junit import junit_xml
from forgetless.evaluation.paired import compare
from forgetless.evaluation.suite import Part, Suite, read_suite, role_of


def part_report(before: str, after: str, **more: Any) -> dict[str, Any]:
    """What `examine` tells of items that are right (x) or wrong (.) before and after."""
    pairs = [(b == "x", a == "x") for b, a in zip(before, after, strict=True)]
    items = [
        {
            "id": f"q{n}",
            "prompt": f"prompt {n}",
            "answer": "yes",
            "right_before": b,
            "right_after": a,
            "said_before": "yes",
            "said_after": "no",
        }
        for n, (b, a) in enumerate(pairs)
    ]
    paired = compare([b for b, _ in pairs], [a for _, a in pairs]).to_dict()
    return {"n": len(pairs), "scorer": "exact", "paired": paired, "items": items, **more}


def decided(parts: dict[str, tuple[str, str]], roles: dict[str, str] | None = None, **limits: Any) -> dict[str, Any]:
    suite = Suite("s", tuple(Part(name, data="x", role=(roles or {}).get(name)) for name in parts))
    return decide({"parts": [part_report(*pair) for pair in parts.values()]}, suite, Limits(**limits))


def rows(gate: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    return {(one["kind"], one["part"]): one for one in gate["criteria"]}


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["retain", "inject", "neither"]), st.lists(st.booleans(), min_size=1, max_size=12)),
        min_size=1,
        max_size=4,
    ),
    st.sampled_from([0.0, 0.01, 0.1, 0.25, 0.5, 1.0]),
    st.sampled_from([0.0, 0.3, 0.5, 0.8, 1.0]),
    st.randoms(use_true_random=False),
)
def test_shares_and_the_decision_equal_a_slow_twin(parts, most, least, draw):
    made = {}
    for number, (_, right) in enumerate(parts):
        later = [draw.random() < 0.5 for _ in right]
        made[f"p{number}"] = ("".join("x" if one else "." for one in right), "".join("x" if one else "." for one in later))
    roles = {f"p{number}": role for number, (role, _) in enumerate(parts)}
    gate = decided(made, roles, max_forgetting=most, min_learned=least)
    expected = True
    for role, was, kind in (("retain", "x", "forgetting"), ("inject", ".", "learned")):
        chosen = [pair for name, pair in made.items() if roles[name] == role]
        total = turned = 0
        for before, after in chosen:
            of = sum(b == was for b in before)
            count = sum(b == was and a != was for b, a in zip(before, after, strict=True))
            total, turned = total + of, turned + count
            if of and ((count / of > most) if kind == "forgetting" else (count / of < least)):
                expected = False
        if not total or ((turned / total > most) if kind == "forgetting" else (turned / total < least)):
            expected = False
        (whole,) = [one for one in gate["criteria"] if one["kind"] == kind and one["decides"]]
        assert (whole["count"], whole["of"]) == (turned, total)
        assert whole["share"] == (turned / total if total else None)
    assert gate["passed"] is expected
    assert json.loads(json.dumps(gate, allow_nan=False)) == json.loads(json.dumps(gate))


def test_forgetting_is_of_what_was_known_and_learning_of_what_was_not():
    gate = decided({"old": ("xxxx......", "xxx.x....."), "inject": ("..x...", "xx.x..")}, max_forgetting=0.25, min_learned=0.6)
    found = rows(gate)
    assert found["forgetting", "old"]["share"] == 0.25 and found["forgetting", "old"]["status"] == "passed"
    assert found["learned", "inject"]["share"] == 0.6 and gate["passed"]
    assert set(found) == {("forgetting", "old"), ("learned", "inject")}


def test_each_part_must_hold_and_so_must_all_together():
    kept, lost = ("x" * 90, "x" * 90), ("x" * 10, "x" * 9 + ".")
    gate = decided({"kept": kept, "lost": lost}, max_forgetting=0.05)
    assert {key[1]: one["status"] for key, one in rows(gate).items()} == {"kept": "passed", "lost": "failed", "all": "passed"}
    assert not gate["passed"]
    assert rows(gate)["forgetting", "lost"]["items"] == ("q9: 'prompt 9' -> 'yes', now 'no'",)
    assert decided({"kept": kept, "lost": lost}, {"lost": "neither"}, max_forgetting=0.05)["passed"]
    assert [one["part"] for one in decided({"kept": kept, "lost": lost}, {"lost": "neither"}, max_forgetting=0.05)["not_gated"]] == ["lost"]


def test_nothing_known_is_undecided_and_never_passes_alone():
    gate = decided({"old": ("....", "....")}, max_forgetting=1.0)
    assert not gate["passed"] and rows(gate)["forgetting", "old"]["status"] == "undecided"
    assert "no item was known before" in gate_text(gate) and "UNDECIDED" in gate_text(gate)
    beside = decided({"old": ("....", "...."), "other": ("xx", "xx")}, max_forgetting=0.0)
    assert beside["passed"] and rows(beside)["forgetting", "old"]["status"] == "undecided" and "UNDECIDED" in gate_text(beside)
    assert not decided({"inject": ("xx", "xx")}, min_learned=0.0)["passed"]


def test_equal_models_forget_nothing_and_learn_nothing():
    gate = decided({"old": ("xx..", "xx.."), "inject": ("....", "....")}, max_forgetting=0.0, min_learned=0.1)
    assert [one["status"] for one in gate["criteria"]] == ["passed", "failed"] and not gate["passed"]


@pytest.mark.parametrize(("count", "of", "confidence"), list(itertools.product([0, 1, 5, 19], [20, 100], [0.8, 0.95])))
def test_bounds_are_exact(count, of, confidence):
    high, low = upper(count, of, confidence), lower(count, of, confidence)
    assert binom.cdf(count, of, high) == pytest.approx(1 - confidence, rel=1e-6)
    if count:
        assert binom.sf(count - 1, of, low) == pytest.approx(1 - confidence, rel=1e-6)
    else:
        assert low == 0.0
    assert upper(of, of, confidence) == 1.0


def test_with_confidence_the_bound_decides_and_too_few_items_are_said():
    few = decided({"old": ("x" * 100, "x" * 100)}, max_forgetting=0.01, confidence=0.95)
    assert not few["passed"] and "at least 299 items are needed" in rows(few)["forgetting", "old"]["why"]
    assert upper(0, 299, 0.95) <= 0.01 < upper(0, 298, 0.95)
    assert decided({"old": ("x" * 299, "x" * 299)}, max_forgetting=0.01, confidence=0.95)["passed"]
    learned = decided({"inject": ("." * 20, "x" * 20)}, min_learned=0.9, confidence=0.95)
    assert not learned["passed"] and f"at least {math.ceil(math.log(0.05) / math.log(0.9))} items" in learned["criteria"][0]["why"]


def test_refusals_may_fall_only_so_far():
    def safety(before, after, **limits):
        suite = Suite("safety", (Part("harmful", data="x", scorer="refuses"), Part("harmless", data="x", scorer="complies")))
        return decide({"parts": [part_report(before, after), part_report("xx", "xx")]}, suite, Limits(**limits))

    gate = safety("xxxxxxxx..", "xxxxxx..xx", max_refusal_drop=0.0)
    assert gate["passed"], "two given up, two gained: refused as often as before"
    worse = safety("xxxxxxxx..", "xxxxxx....", max_refusal_drop=0.1)
    assert not worse["passed"] and worse["criteria"][0]["share"] == pytest.approx(0.2)
    assert safety("xxxxxxxx..", "xxxxxx....", max_refusal_drop=0.2)["passed"]
    sure = safety("x" * 60, "x" * 60, max_refusal_drop=0.05, confidence=0.95)
    assert sure["passed"] and sure["criteria"][0]["bound"] == pytest.approx(upper(0, 60, 0.95))


def test_tasks_of_the_harness_count_once_for_all():
    def task(metric, before, after, **more):
        return {"task": "arc", "metric": metric, "filter": "none", **part_report(before, after), **more}

    suite = Suite("s", (Part("general", lm_eval=("arc",)),))
    tasks = [
        task("acc", "xxxx", "xxx."),
        task("acc_norm", "xxxx", "x..."),
        task("err", "....", "xxxx", higher_is_better=False),
        {"task": "arc", "metric": "bleu", "filter": "none"},
    ]
    for one in tasks:
        one.pop("items", None)
    gate = decide({"parts": [{"name": "general", "tasks": tasks}]}, suite, Limits(max_forgetting=0.5))
    found = rows(gate)
    assert found["forgetting", "all"]["count"] == 1 and found["forgetting", "all"]["of"] == 4
    assert found["forgetting", "general: arc, acc_norm"]["status"] == "failed" and not gate["passed"]
    assert [one["part"] for one in gate["not_gated"]] == ["general: arc, err", "general: arc, bleu"]
    alone = decide({"parts": [{"name": "general", "tasks": tasks[2:]}]}, suite, Limits(max_forgetting=0.5))
    assert not alone["passed"] and alone["criteria"][0]["status"] == "undecided"


def test_roles_are_read_from_the_suite_and_have_defaults(tmp_path: Path):
    (tmp_path / "q.jsonl").write_text('{"prompt": "p", "answer": "a"}\n')
    (tmp_path / "s.yaml").write_text(
        "parts: [{name: a, data: q.jsonl}, {name: inject-heldout, data: q.jsonl}, {name: b, data: q.jsonl, role: inject}, "
        "{name: c, data: q.jsonl, scorer: perplexity}, {name: inject, data: q.jsonl, role: neither}, {name: injected facts, data: q.jsonl}]"
    )
    suite = read_suite(str(tmp_path / "s.yaml"))
    assert [role_of(part) for part in suite.parts] == ["retain", "inject", "inject", "neither", "neither", "retain"]
    for wrong, told in (("role: keep", "'keep' is not allowed"), ("role: retain, scorer: perplexity", "no right and wrong")):
        (tmp_path / "w.yaml").write_text(f"parts: [{{name: a, data: q.jsonl, {wrong}}}]")
        with pytest.raises(InputError, match=told):
            read_suite(str(tmp_path / "w.yaml"))


@pytest.mark.parametrize("name", ["max_forgetting", "min_learned", "max_refusal_drop"])
@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan"), float("inf"), True, "much"])
def test_only_shares_are_taken(name, value):
    with pytest.raises(InputError, match=f"--{name.replace('_', '-')}: .* is not allowed"):
        Limits(**{name: value})


def test_limits_that_cannot_be_decided_are_refused(tmp_path: Path):
    def refused(told, suite=None, scorer="exact", after="b", junit=None, **limits):
        with pytest.raises(InputError, match=told):
            check_gate(Limits(**limits), suite, scorer=scorer, after=after, junit=junit, out=tmp_path / "o.json")

    retained, injected = Suite("s", (Part("a", data="x"),)), Suite("s", (Part("inject", data="x"),))
    refused("no part is meant to be learned", retained, min_learned=0.5)
    refused("no part is meant to be retained", injected, max_forgetting=0.5)
    refused("nothing asks what is to be refused", retained, max_refusal_drop=0.5)
    refused("no right and wrong", None, scorer="perplexity", max_forgetting=0.5)
    refused("--after: the gate compares two models", retained, after=None, max_forgetting=0.5)
    refused("nothing is asked of it", retained, junit=tmp_path / "j.xml")
    refused("the same file", retained, junit=tmp_path / "o.json", max_forgetting=0.5)
    refused("for --junit", retained, junit=tmp_path, max_forgetting=0.5)
    with pytest.raises(InputError, match="--confidence: it says nothing alone"):
        Limits(confidence=0.9)
    for confidence in (0, 1, -1, float("nan")):
        with pytest.raises(InputError, match="--confidence"):
            Limits(max_forgetting=0.1, confidence=confidence)
    for never in ({"max_forgetting": 0.0}, {"min_learned": 1.0}, {"max_refusal_drop": 0}):
        with pytest.raises(InputError, match="no number of items shows"):
            Limits(**never, confidence=0.95)


REQUIRED = {
    "testsuite": {"name", "package", "id", "timestamp", "hostname", "tests", "failures", "errors", "time"},
    "testcase": {"name", "classname", "time"},
    "failure": {"message", "type"},
    "property": {"name", "value"},
}
"""What the readers of Ant, Jenkins and GitHub's actions need; the order of a suite's children is fixed."""


def check_junit(text: str) -> ElementTree.Element:
    root = ElementTree.fromstring(text)
    assert root.tag == "testsuites" and [child.tag for child in root] == ["testsuite"]
    suite = root[0]
    tags = [child.tag for child in suite]
    assert tags == ["properties", *["testcase"] * (len(tags) - 3), "system-out", "system-err"]
    for element in root.iter():
        assert REQUIRED.get(element.tag, set()) <= set(element.attrib)
    for case in suite.findall("testcase"):
        assert [child.tag for child in case] in ([], ["failure"], ["skipped"]) and case.get("name") and case.get("classname")
    count = {tag: len(suite.findall(f"testcase/{tag}")) for tag in ("failure", "skipped")}
    assert int(suite.get("tests", "")) == len(suite.findall("testcase"))
    assert int(suite.get("failures", "")) == count["failure"] and int(suite.get("skipped", "")) == count["skipped"]
    return suite


def test_junit_has_a_case_for_each_part_and_criterion():
    parts = {"old": ("xx..", "x..."), "none": ("..", ".."), "inject": ("....", "xxx.")}
    gate = decided(parts, max_forgetting=0.1, min_learned=0.5)
    suite = check_junit(junit_xml(gate, name="s", models=("a", "b"), seconds=1.5))
    cases = {case.get("name"): [child.tag for child in case] for case in suite.findall("testcase")}
    assert cases == {"forgetting: old": ["failure"], "forgetting: none": ["skipped"], "forgetting: all": ["failure"], "learned: inject": []}
    told = suite.find("testcase[@name='forgetting: old']/failure")
    assert told is not None and "q1: 'prompt 1'" in (told.text or "") and "forgot 1 of 2 known" in (told.get("message") or "")
    assert {one.get("name"): one.get("value") for one in suite.iter("property")}["max_forgetting"] == "0.1"


def test_an_undecided_gate_is_a_failure_in_junit():
    suite = check_junit(junit_xml(decided({"old": ("..", "..")}, max_forgetting=0.5), name="s", models=("a", "b")))
    assert suite.get("failures") == "1"


@settings(max_examples=60, deadline=None)
@given(st.text(min_size=1, max_size=30), st.text(max_size=60))
def test_any_text_makes_a_document_that_can_be_read(name, prompt):
    report = part_report("x", ".")
    report["items"][0]["prompt"] = prompt
    gate = decide({"parts": [report]}, Suite(name, (Part(name, data="x"),)), Limits(max_forgetting=0.0))
    check_junit(junit_xml(gate, name=name, models=(name, prompt)))


def test_control_characters_are_left_out_and_marks_are_escaped():
    report = part_report("x", ".")
    report["items"][0] |= {"prompt": "<script>&\x00\x0b\ud800]]>", "said_after": "\x1b[31m"}
    gate = decide({"parts": [report]}, Suite("a<b", (Part('"p"', data="x"),)), Limits(max_forgetting=0.0))
    suite = check_junit(junit_xml(gate, name="a<b\x01", models=("a", "b")))
    text = suite.find("testcase/failure")
    assert text is not None and "<script>&" in (text.text or "") and suite.get("name") == "forgetless gate: a<b"
