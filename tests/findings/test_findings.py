"""The catalogue of findings: complete, proved, and obeyed when somebody ignores one."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from preflight.derive.pages.finding_reference import PROOF_KINDS
from preflight.errors import Problem
from preflight.finding import Finding
from preflight.findings import all_kinds, found, kind_of, noticed
from preflight.findings.ignored import without_ignored
from preflight.launch import LaunchCommand
from preflight.policy import policy_from_dict

ROOT = Path(__file__).parents[2]
KINDS = all_kinds()
RUN_THE_LIBRARIES = (
    "tests/findings/test_fsdp_effects.py::",
    "tests/findings/test_deepspeed_effects.py::",
    "tests/launchers/test_parity_accelerate.py::test_plan_or_refusal",
    "tests/findings/test_engine_checks.py::test_the_launcher_refuses",
)
"""Tests in which accelerate, torch, DeepSpeed and transformers act, not preflight."""


def test_every_id_in_the_code_has_an_entry_and_every_entry_is_used():
    files = [*(ROOT / "preflight").rglob("*.py"), *(ROOT / "hooks").glob("*.py")]
    code = "".join(p.read_text() for p in files if p.parent.name != "findings")
    used = set(re.findall(r"\"(PF[1-9]\d\d)\"", code)) - {"PF100"}

    assert sorted(used - set(KINDS)) == []
    assert sorted(set(KINDS) - used) == []


@pytest.mark.parametrize("id", KINDS)
def test_an_entry_is_whole_and_its_proof_exists(id):
    kind = KINDS[id]

    assert kind_of(id) is kind
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", kind.name)
    assert kind.severity in ("error", "warning", "info")
    assert kind.proof_kind in PROOF_KINDS
    assert kind.trigger and kind.effect and kind.fix
    assert kind.proof, "a finding without a test is a guess"
    for test in kind.proof:
        path, _, name = test.partition("::")
        functions = {
            node.name
            for node in ast.walk(ast.parse((ROOT / path).read_text()))
            if isinstance(node, ast.FunctionDef)
        }
        assert name in functions, test


@pytest.mark.parametrize("id", [id for id in KINDS if id[2] in "23"])
def test_what_an_engine_refuses_or_does_unsaid_is_shown_by_the_library_itself(id):
    kind = KINDS[id]
    assert kind.proof_kind in ("refusal", "silent")

    assert any(proof.startswith(RUN_THE_LIBRARIES) for proof in kind.proof)


def test_names_are_given_once():
    names = [kind.name for kind in KINDS.values()]
    assert len(names) == len(set(names))


def test_a_notice_gets_the_name_of_its_entry():
    problem = Problem("words", "a.yaml:3", "do", "PF203", "warning")

    assert noticed(problem) == Finding(
        "PF203", "two-checkpointing-switches", "warning", "words", "a.yaml:3", "do"
    )


@pytest.mark.parametrize(
    ("text", "stays"),
    [
        ("a: 1\nb: 2\n", True),
        ("a: 1\nb: 2  # preflight: ignore PF203\n", False),
        ("a: 1\nb: 2  # why not; preflight: ignore PF101, PF203\n", False),
        ("a: 1\nb: 2  # preflight: ignore PF101\n", True),
        ("a: 1\nb: 2  # preflight: ignore\n", False),
        ("# preflight: ignore PF203\nb: 2\n", False),
        ("a: 1  # preflight: ignore PF203\nb: 2\n", True),
        ("", True),
    ],
)
def test_a_mark_on_the_line_takes_a_finding_away(tmp_path, text, stays):
    (tmp_path / "c.yaml").write_text(text)
    command = LaunchCommand(("accelerate",), {}, str(tmp_path))
    finding = found("PF203", "words", "c.yaml:2")

    kept, ignored = without_ignored([finding], (), command)

    assert kept == ((finding,) if stays else ())
    assert ignored == (() if stays else ("PF203",))


def test_a_policy_ignores_and_refuses_by_id():
    policy = policy_from_dict({"ignore": ["PF101"], "refuse_findings": ["error", "PF203"]})
    kept, ignored = without_ignored([found("PF101", "x"), found("PF203", "y")], policy.ignore, None)

    assert [f.id for f in kept] == ["PF203"]
    assert ignored == ("PF101",)
    assert policy.refuses_finding("PF203", "warning")
    assert policy.refuses_finding("PF999", "error")
    assert not policy.refuses_finding("PF101", "warning")
