"""docs/schema/*.json describe what the commands print, and nothing else; plan.json is made from the plan.

Objects of these schemas allow no other key, so an output with a key that no schema has is a red test;
and a key that no output here has is one too, but for those that need a GPU, a cluster or an accident.
"""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from json_outputs import Outputs, outputs_in
from json_schemas import (
    ROOT,
    ROW,
    SCHEMAS,
    all_commands,
    declared,
    described,
    formats_of,
    keys_of,
    problems,
)
from jsonschema import Draft202012Validator

from preflight.derive.pages.plan_reference import docstrings_of, told_fields
from preflight.launch import PLAN_FIELDS

SEEN_ELSEWHERE = {
    "calibrate": "tests/records/test_correction.py",
    "slurm audit": "tests/slurm/test_audit.py",
}
"""Commands that take a training or a cluster, and the test that holds their JSON against its schema."""
DESCRIBED = {
    command: name for command, name in described().items() if command not in SEEN_ELSEWHERE
}
NOT_SEEN_HERE = {
    "error.json": {"plugin", "hook", "message"},
    "probe.json": {"name", "is_mig", "uuid", "holders", "source", "compute_capability", "pid", "used_bytes"}
    | {"num_bytes", "said_by"},
    "report.json": {"notes"},
}  # fmt: skip
"""Keys that only a failing plugin, a GPU or a limit of this node would show."""


@pytest.fixture(scope="module")
def printed(tmp_path_factory) -> Outputs:
    """What the commands print here and now."""
    with pytest.MonkeyPatch.context() as patch:
        found = outputs_in(tmp_path_factory.mktemp("outputs"), patch)
        assert found.errors == []
        patch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO()))
        for command in all_commands():
            # JSON itself is what the others refuse.
            more = " --no-such-option" if command in described() else ""
            found.ask(command + more)
    return found


@pytest.fixture(scope="module")
def outputs(printed) -> dict[str, list[Any]]:
    """The same by schema."""
    found: dict[str, list[Any]] = {name: [] for name in SCHEMAS}
    for command, values in printed.by_command.items():
        found[DESCRIBED[command]] += values
    found["error.json"] += printed.errors
    found["record.json"] += printed.records
    planned = [*found["report.json"], *found["trace.json"]]
    found["plan.json"] = [value["plan"] for value in planned]
    return found


def test_the_schemas_are_valid_schemas_and_refer_to_each_other_only():
    for name, schema in SCHEMAS.items():
        Draft202012Validator.check_schema(schema)
        refs = [part.split('"')[0] for part in json.dumps(schema).split('"$ref": "')[1:]]

        assert all(ref.startswith("#/") or ref.partition("#")[0] in SCHEMAS for ref in refs), name
        assert not [key for key in declared(schema) if not key.isidentifier()], name


def test_every_command_with_json_has_a_schema_and_no_other_has_one():
    with_json = [command for command in all_commands() if "json" in formats_of(command)]

    assert {"check", "init", "slurm status"} <= set(with_json)
    assert sorted(described()) == sorted(with_json)


def test_every_schema_is_on_the_page_about_json():
    page = (ROOT / "docs" / "reference-json.md").read_text()

    assert {name for name, _ in ROW.findall(page)} == set(SCHEMAS)


@pytest.mark.parametrize("command", DESCRIBED)
def test_what_a_command_prints_is_what_its_schema_says(command, printed):
    values = printed.by_command[command]

    assert values and [found for v in values for found in problems(DESCRIBED[command], v)] == []
    assert {value["schema_version"] for value in values} == {1}


@pytest.mark.parametrize("command", SEEN_ELSEWHERE)
def test_what_takes_a_training_or_a_cluster_is_held_to_its_schema_by_a_test_of_its_own(command):
    text = (ROOT / SEEN_ELSEWHERE[command]).read_text()

    assert f'problems("{described()[command]}", ' in text


@pytest.mark.parametrize("name", ["error.json", "record.json", "plan.json"])
def test_what_stands_in_place_of_an_answer_or_inside_one_is_what_the_schema_says(name, outputs):
    values = outputs[name]

    assert values and [found for value in values for found in problems(name, value)] == []


def test_every_command_says_in_json_what_is_wrong_with_its_arguments(printed):
    assert len(printed.errors) == len(all_commands())
    assert {value["error"]["kind"] for value in printed.errors} == {"bad_input"}


@pytest.mark.parametrize("name", sorted({*SCHEMAS} - {described()[c] for c in SEEN_ELSEWHERE}))
def test_no_schema_describes_a_key_that_nothing_prints(name, outputs):
    seen = set(keys_of(outputs[name])) | NOT_SEEN_HERE.get(name, set())

    assert set(declared(SCHEMAS[name])) - seen == set()


@pytest.mark.parametrize("command", DESCRIBED)
def test_a_key_that_a_schema_does_not_know_is_told(command, printed):
    for value in printed.by_command[command]:
        assert problems(DESCRIBED[command], {**value, "surprise": 1})


def test_a_key_deep_inside_that_the_schema_does_not_know_is_told(outputs):
    value = json.loads(json.dumps(outputs["report.json"][0]))
    value["estimate"]["terms"][0]["surprise"] = 1

    assert problems("report.json", value)
    assert problems("report.json", {**outputs["report.json"][0], "verdict": "perhaps"})


def test_every_field_of_a_plan_has_a_meaning_in_the_reference():
    from preflight.launch import NESTED, LaunchPlan

    assert {f.name for f in told_fields(LaunchPlan)} <= set(PLAN_FIELDS)
    for kind in (LaunchPlan, *NESTED.values()):
        meanings = docstrings_of(kind)

        assert [f.name for f in told_fields(kind) if f.name not in meanings] == []
