"""Loading YAML and JSON with marks: values of the standard loaders, places, and errors a person can act on."""

from __future__ import annotations

import json

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from preflight.errors import BadInput
from preflight.formats.document import dotted, split_key
from preflight.formats.load import load_json, load_yaml, read_data_file, read_document
from preflight.launch import LaunchCommand

unhurried = settings(deadline=None)

REAL_YAML = (
    "\ufeff# é😀 launch\r\n"
    "distributed_type: FSDP   # sharded\r\n"
    "fsdp_config:\r\n"
    "  fsdp_version: &v 2\r\n"
    '  fsdp_offload_params: "false"\r\n'
    "  fsdp_min_num_params: 5e8\r\n"
    "  # the end of fsdp\r\n"
    "other: *v\r\n"
    "dynamo_backend: NO\r\n"
    "flow: {a: 1, list: [x, 'y']}\r\n"
    "base: &b {p: 1}\r\n"
    "derived:\r\n"
    "  <<: *b\r\n"
    "  q: ~\r\n"
    "text: |\r\n"
    "  two\r\n"
    "  lines\r\n"
)


def test_yaml_values_are_those_of_the_safe_loader():
    document = load_yaml(REAL_YAML, "f.yaml")

    assert document.value == yaml.safe_load(REAL_YAML)


def test_yaml_places_survive_byte_order_mark_crlf_and_wide_characters():
    document = load_yaml(REAL_YAML, "f.yaml")

    assert document.raw("distributed_type") == "FSDP"
    assert document.raw("fsdp_config.fsdp_version") == "2"
    assert document.raw("fsdp_config.fsdp_offload_params") == '"false"'
    assert document.raw("dynamo_backend") == "NO"
    assert document.value["dynamo_backend"] is False
    assert document.raw("other") == "*v"
    assert document.raw("flow.list.1") == "'y'"
    assert document.line("distributed_type") == 2
    assert document.line("derived.q") == 14
    assert document.line("derived.p") == 11
    assert document.where("fsdp_config.fsdp_version") == "f.yaml:4"
    assert document.line("missing") is None
    assert document.raw("fsdp_config") is None


def test_a_section_ends_at_its_last_entry_not_at_the_comment_behind_it():
    document = load_yaml(REAL_YAML, "f.yaml")
    start, end = document.span("fsdp_config")

    assert document.text[start:end].endswith("5e8")


def test_a_key_with_a_dot_is_written_with_a_backslash():
    document = load_yaml("a.b: {c: 1}\na:\n  b: {c: 2}\n", "f.yaml")

    assert split_key(r"a\.b.c") == ("a.b", "c")
    assert dotted(("a.b", "c")) == r"a\.b.c"
    assert document.get(r"a\.b.c") == 1
    assert document.get("a.b.c") == 2


def test_a_place_is_the_value_s_or_the_nearest_above_it_that_is_there():
    document = load_yaml("runs:\n- id: a\n  plan:\n    seq_len: 5\n- id: b\n", "f.yaml")

    assert document.place("runs", 0, "plan", "seq_len") == "f.yaml:4"
    assert document.place("runs", 0, "plan", "engine") == "f.yaml:3"
    assert document.place("runs", 1, "plan", "seq_len") == "f.yaml:5"
    assert document.place("models", "x") == document.place() == "f.yaml:1"


def test_a_file_of_preflight_s_own_may_not_give_a_key_twice_but_override_what_it_merges(tmp_path):
    file = tmp_path / "plan.yaml"
    file.write_text("base: &b {a: 1}\nown:\n  <<: *b\n  a: 2\n")
    merged = read_data_file(str(file)).value
    file.write_text("a: 1\nb: 1\na: 2\nb: 2\n")
    with pytest.raises(BadInput) as caught:
        read_data_file(str(file))

    assert merged["own"] == {"a": 2}
    assert [p.where for p in caught.value.problems] == [f"{file}:3", f"{file}:4"]


def test_a_key_given_twice_is_named_with_both_lines_and_the_last_one_counts():
    document = load_yaml("a: 1\nb:\n  c: 1\n  c: 2\na: 3\n", "f.yaml")

    assert document.value == {"a": 3, "b": {"c": 2}}
    assert [(p.where, p.severity) for p in document.problems] == [
        ("f.yaml:4", "warning"),
        ("f.yaml:5", "warning"),
    ]
    assert "lines 1 and 5" in document.problems[1].message
    assert document.raw("b.c") == "2"


@pytest.mark.parametrize(
    ("text", "where", "words"),
    [
        ("a:\n\tb: 1\n", "f.yaml:2:1", "a tab is used to indent"),
        ("a: b: c\n", "f.yaml:1:5", "`key:`"),
        ("a: 1\nb\nc: 2\n", "f.yaml:2:1", "neither `key: value`"),
        ("a:\n  b: 1\n c: 2\n", "f.yaml:3:2", "indentation"),
        ("a: {home}/b\nc: 2\n", "f.yaml:1:10", "ends with its '}', and more"),
        ("a: 'b' c\nd: 2\n", "f.yaml:1:8", "and more of it stands behind"),
        ("x: 1\na: {b: 1\n", "f.yaml:2:4", "missing"),
        ("x: 1\na: 'b\n", "f.yaml:2:4", "never closed"),
        ("a: *b\n", "f.yaml:1:4", "without its anchor"),
        ("a: 1\n---\nb: 2\n", "f.yaml:2:1", "second document"),
        ("a: !!python/object:os.system {}\n", "f.yaml:1:4", "tag"),
        ("a: 1\nb: 2026-13-45\n", "f.yaml:2:4", "date"),
        ("a: &x [*x]\n", "f.yaml:1", "contains itself"),
        ("a: @x\n", "f.yaml:1:4", "cannot start with '@'"),
        ("a: \x01\n", "f.yaml:1:4", "does not allow"),
        ("- a\n", "f.yaml:1", "holds a list"),
        ("", "f.yaml", "empty"),
        ("# nothing\n", "f.yaml", "empty"),
    ],
)
def test_broken_yaml_is_said_in_plain_words_at_its_place(text, where, words):
    with pytest.raises(BadInput) as caught:
        load_yaml(text, "f.yaml")

    problem = caught.value.problems[0]
    assert problem.where == where
    assert words in problem.message


@pytest.mark.parametrize(
    ("text", "where", "words"),
    [
        ('{"a": 1,}', "f.json:1:8", "comma after the last"),
        ('{"a": [1,\n]}', "f.json:1:9", "comma after the last"),
        ('{\n"a": 1 // x\n}', "f.json:2:8", "comment"),
        ("# x\n{}", "f.json:1:1", "comment"),
        ("{a: 1}", "f.json:1:2", "no quotes"),
        ("{'a': 1}", "f.json:1:2", "single quotes"),
        ('{"a": True}', "f.json:1:7", "`True` is not JSON"),
        ('{"a": NaN}', "f.json:1:7", "NaN"),
        ('{"a": 1 "b": 2}', "f.json:1:8", "comma is missing"),
        ('{"a" 1}', "f.json:1:6", "`:` is missing"),
        ('{"a": }', "f.json:1:7", "value is missing"),
        ('{"a": 1', "f.json:1:8", "ends before"),
        ('{"a": "x\n"}', "f.json:1:9", "line break"),
        ('{"a": 01}', "f.json:1:7", "number"),
        ('{"a":1}}', "f.json:1:8", "after the end"),
        ("[1]", "f.json:1", "holds a list"),
        ("", "f.json", "empty"),
    ],
)
def test_broken_json_is_said_in_plain_words_at_its_place(text, where, words):
    with pytest.raises(BadInput) as caught:
        load_json(text, "f.json")

    problem = caught.value.problems[0]
    assert words in problem.message
    assert problem.where == where


def test_a_json_key_given_twice_is_an_error_because_deepspeed_refuses_it():
    document = load_json('{"a": 1,\n "a": 2}', "f.json")

    assert document.value == {"a": 2}
    assert [(p.where, p.severity) for p in document.problems] == [("f.json:2", "error")]


plain_json = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@unhurried
@given(st.dictionaries(st.text(), plain_json, max_size=4), st.sampled_from([None, 2, "\t"]))
def test_json_is_read_as_json_loads_reads_it_and_every_span_holds_its_value(value, indent):
    text = json.dumps(value, indent=indent)
    document = load_json(text, "f.json")

    assert document.value == json.loads(text)
    for path, mark in document.marks.items():
        assert json.loads(text[mark.start : mark.end]) == document.get(path)


@unhurried
@given(st.dictionaries(st.text(), plain_json, min_size=1, max_size=4), st.booleans())
def test_yaml_is_read_as_the_safe_loader_reads_it(value, flow):
    text = yaml.safe_dump(value, default_flow_style=flow, allow_unicode=True)
    document = load_yaml(text, "f.yaml")

    assert document.value == yaml.safe_load(text)


def test_a_file_that_cannot_be_read_says_which_and_where_it_was_looked_for(tmp_path):
    (tmp_path / "latin.yaml").write_bytes(b"a: 1\nb: caf\xe9\n")
    (tmp_path / "folder").mkdir()
    command = LaunchCommand((), {}, str(tmp_path))

    def problem_of(path):
        with pytest.raises(BadInput) as caught:
            read_document(command, path, stated_at="--config_file")
        return caught.value.problems[0]

    assert "latin.yaml:2" in problem_of("latin.yaml").where
    assert "not UTF-8" in problem_of("latin.yaml").message
    assert "is a folder" in problem_of("folder").message
    assert problem_of("none.yaml").where == "--config_file"
    assert str(tmp_path) in problem_of("none.yaml").fix
