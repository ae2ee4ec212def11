"""Editing text at marks: the edited value changes, every other value and every other line stays."""

from __future__ import annotations

import json

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from preflight.formats.argv_edits import find_flag, merged_list_setting, with_bool, with_values
from preflight.formats.edits import REMOVE, CannotEdit, with_value, yaml_text
from preflight.formats.json_edits import splice_json
from preflight.formats.yaml_edits import splice_yaml

unhurried = settings(deadline=None)

CONFIG = (
    "# top\r\n"
    "compute_environment: LOCAL_MACHINE   # where\r\n"
    "distributed_type: FSDP\r\n"
    "fsdp_config:\r\n"
    "    fsdp_version: 2  # v\r\n"
    '    fsdp_offload_params: "false"\r\n'
    "    # end of fsdp\r\n"
    "\r\n"
    "mixed_precision: 'bf16'\r\n"
    "empty:\r\n"
    "nothing: null\r\n"
    "flow: {a: 1, b: {c: 2}}\r\n"
    "none: {}\r\n"
    "# the end"
)


def changed_lines(before: str, after: str) -> list[str]:
    """Return the lines of `after` that `before` does not have, line ends included."""
    old = before.splitlines(keepends=True)
    return [line for line in after.splitlines(keepends=True) if line not in old]


@pytest.mark.parametrize(
    ("edits", "lines"),
    [
        ({"fsdp_config.fsdp_version": "1"}, ["    fsdp_version: 1  # v\r\n"]),
        ({"fsdp_config.new": "true"}, ["    new: true\r\n"]),
        ({"mixed_precision": yaml_text("no")}, ["mixed_precision: 'no'\r\n"]),
        ({"empty.k": "1"}, ["    k: 1\r\n"]),
        ({"nothing.k": "1"}, ["nothing: {k: 1}\r\n"]),
        ({"flow.z": "3", "flow.a": REMOVE}, ["flow: {b: {c: 2}, z: 3}\r\n"]),
        ({"none.k": 2.5e-5}, ["none: {k: 2.5e-05}\r\n"]),
        ({"compute_environment": REMOVE}, []),
        ({"brand.new": True}, ["brand:\r\n", "    new: true\r\n"]),
        ({"fsdp_config.fsdp_version": "2"}, []),
        ({}, []),
    ],
)
def test_only_the_edited_lines_of_a_config_differ(edits, lines):
    after = splice_yaml(CONFIG, edits)

    assert changed_lines(CONFIG, after) == lines
    if not lines and "compute_environment" not in edits:
        assert after == CONFIG


def test_a_new_key_stands_before_the_comment_that_ends_its_section():
    after = splice_yaml(CONFIG, {"fsdp_config.new": "true"})

    assert after.index("new: true") < after.index("# end of fsdp")


@pytest.mark.parametrize(
    "value",
    [
        "no",
        "on",
        "5",
        "1e5",
        "5e8",
        "",
        "a: b",
        "# x",
        "it's",
        "é\n",
        "~",
        "x",
        "No",
        "OFF",
        "Null",
        "nULL",
        ".5",
        ".inf",
        "...",
        "._x",
        "y",
    ],
)
def test_text_is_quoted_where_yaml_would_read_something_else(value):
    assert yaml.safe_load(splice_yaml("a: 1\n", {"a": yaml_text(value)})) == {"a": value}


def test_an_alias_is_replaced_and_its_anchor_is_not_touched():
    assert splice_yaml("a: &x 1\nb: *x\n", {"b": "2"}) == "a: &x 1\nb: 2\n"
    merged = "d: &d\n  p: 1\ni:\n  <<: *d\n"
    assert splice_yaml(merged, {"i.p": "2"}) == merged + "  p: 2\n"


@pytest.mark.parametrize(
    ("text", "edits"),
    [
        ("a: &x 1\nb: *x\n", {"a": "2"}),
        ("d: &d\n  p: 1\ni:\n  <<: *d\n", {"d.p": "2"}),
        ("a: 1\n", {"a": "b: c"}),
        ("a: 1\n", {"a": "'open"}),
        ("a:\n  b: 1\n", {"a": "2"}),
        ("a: 1\n", {"a.b": "2"}),
    ],
)
def test_an_edit_that_would_change_something_else_is_refused(text, edits):
    with pytest.raises(CannotEdit):
        splice_yaml(text, edits)


def test_removing_a_key_that_is_given_twice_removes_both():
    assert splice_yaml("a: 1\nb: 2\na: 3\n", {"a": REMOVE}) == "b: 2\n"


def test_removing_the_last_key_leaves_an_empty_section():
    assert splice_yaml("s:\n  a: 1\nb: 3\n", {"s.a": REMOVE}) == "s: {}\nb: 3\n"


def test_lists_and_blocks_of_text_around_an_edit_stay():
    text = "a:\n  s: |\n    x\n    y\n\nl:\n- p: 1\n  q: 2\n"

    assert yaml.safe_load(splice_yaml(text, {"a.t": "2", "l.0.q": "3"})) == {
        "a": {"s": "x\ny\n", "t": 2},
        "l": [{"p": 1, "q": 3}],
    }


names = st.sampled_from(["alpha", "beta", "gamma", "no", "on", "d.ot", "with space", "é"])
scalars = st.none() | st.booleans() | st.integers(-5, 5) | st.text("ab: #'\"{}[]\n-~", max_size=6)
sections = st.dictionaries(names, scalars, max_size=4)
configs = st.dictionaries(names, scalars | sections, min_size=1, max_size=5)
paths = st.tuples(names) | st.tuples(names, names)
comments = st.sampled_from(["", "  # why", " #x"])


def written(value: dict, indent: int, end: str, remarks: list[str]) -> str:
    """Return a config as a person might write it: comments behind scalars, blank lines, one line end."""
    lines = ["# head"]
    remark = iter(remarks)
    for key, item in value.items():
        if isinstance(item, dict) and item:
            lines.append(f"{yaml_text(key)}:")
            lines += [
                f"{' ' * indent}{yaml_text(k)}: {yaml_text(v)}{next(remark, '')}"
                for k, v in item.items()
            ]
            lines += ["", "# a comment below the section"]
        else:
            lines.append(f"{yaml_text(key)}: {yaml_text(item)}{next(remark, '')}")
    return end.join(lines) + end


def lines_are_kept(before: str, after: str, num_changed: int) -> bool:
    """Tell whether all lines but a few stand in the other text, in their order."""
    old, new = before.splitlines(keepends=True), after.splitlines(keepends=True)
    position, kept = 0, 0
    for line in old:
        if line in new[position:]:
            position = new.index(line, position) + 1
            kept += 1
    return kept >= len(old) - num_changed


@unhurried
@given(
    configs, st.integers(1, 4), st.sampled_from(["\n", "\r\n"]), st.lists(comments), paths, scalars
)
def test_a_yaml_edit_changes_its_value_and_nothing_else(value, indent, end, remarks, path, new):
    text = written(value, indent, end, remarks)
    try:
        after = splice_yaml(text, {path: yaml_text(new)})
    except CannotEdit:
        holder = value.get(path[0])
        assert isinstance(holder, dict) if len(path) == 1 else not isinstance(holder, dict)
        return

    assert yaml.safe_load(text) == value
    assert yaml.safe_load(after) == with_value(value, path, new)
    assert lines_are_kept(text, after, 1)
    assert splice_yaml(after, {path: yaml_text(new)}) == after
    assert after.count("\n") - after.count("\r\n") == (0 if end == "\r\n" else after.count("\n"))


@unhurried
@given(configs, st.integers(1, 4), st.lists(comments), paths)
def test_a_yaml_removal_takes_its_key_and_nothing_else(value, indent, remarks, path):
    text = written(value, indent, "\n", remarks)
    top = len(value) == 1 and len(path) == 1 and path[0] in value
    if top:
        with pytest.raises(CannotEdit):
            splice_yaml(text, {path: REMOVE})
        return
    holder = value.get(path[0])
    is_there = path[0] in value and (
        len(path) == 1 or (isinstance(holder, dict) and path[1] in holder)
    )
    after = splice_yaml(text, {path: REMOVE})

    assert yaml.safe_load(after) == (with_value(value, path, REMOVE) if is_there else value)
    if not is_there:
        assert after == text


@unhurried
@given(configs, st.sampled_from([None, 2, 4, "\t"]), paths, scalars | sections | st.just(REMOVE))
def test_a_json_edit_changes_its_value_and_nothing_else(value, indent, path, new):
    text = json.dumps(value, indent=indent, ensure_ascii=False)
    holder = value.get(path[0])
    is_there = path[0] in value and (
        len(path) == 1 or (isinstance(holder, dict) and path[1] in holder)
    )
    try:
        after = splice_json(text, {path: new})
    except CannotEdit:
        assert len(path) == 2 and not isinstance(holder, dict)
        return

    if new is REMOVE and not is_there:
        assert after == text
        return
    assert json.loads(after) == with_value(value, path, new)
    if indent is not None and is_there and new is not REMOVE:
        assert len(after.splitlines()) <= len(text.splitlines())
    assert splice_json(after, {path: new}) == after


def test_json_keeps_order_indentation_and_the_spelling_of_numbers():
    text = (
        '{\n    "train_batch_size": "auto",\n    "zero_optimization": {\n'
        '        "stage": 3,\n        "reduce_bucket_size": 5e8\n    },\n    "e": {}\n}\n'
    )
    after = splice_json(
        text, {"zero_optimization.stage": 2, "zero_optimization.x": "auto", "n.m": [1], "e.k": True}
    )

    assert after == (
        '{\n    "train_batch_size": "auto",\n    "zero_optimization": {\n'
        '        "stage": 2,\n        "reduce_bucket_size": 5e8,\n        "x": "auto"\n    },\n'
        '    "e": {"k": true},\n    "n": {\n        "m": [1]\n    }\n}\n'
    )


ARGV = (
    "t.py",
    "--lr",
    "-1",
    "--batch-size=4",
    "--gc",
    "--no_pack",
    "--mods",
    "a",
    "b",
    "--x",
    "True",
    "--batch_size",
    "8",
)


def test_flags_are_found_in_every_spelling_with_their_values():
    found = find_flag(ARGV, 1, len(ARGV), ["batch_size", "pack", "gc", "lr"])
    mods = find_flag(ARGV, 1, len(ARGV), ["mods"], takes_many=True)

    assert [(f.flag, f.values, f.is_negated) for f in found] == [
        ("--lr", ("-1",), False),
        ("--batch-size", ("4",), False),
        ("--gc", (), False),
        ("--no_pack", (), True),
        ("--batch_size", ("8",), False),
    ]
    assert mods[0].values == ("a", "b")


def test_flags_keep_their_form():
    lr, batch, gc, pack, last = find_flag(ARGV, 1, len(ARGV), ["batch_size", "pack", "gc", "lr"])
    upper = find_flag(ARGV, 1, len(ARGV), ["x"])[0]

    assert with_values(batch, ["2"]) == ["--batch-size=2"]
    assert with_values(last, ["2"]) == ["--batch_size", "2"]
    assert with_bool(gc, True) == ["--gc"]
    assert with_bool(gc, False) == ["--gc", "false"]
    assert with_bool(pack, True) == ["--pack", "true"]
    assert with_bool(pack, False) == ["--no_pack"]
    assert with_bool(upper, False) == ["--x", "False"]
    assert with_values(lr, ["1e-5"]) == ["--lr", "1e-5"]


def test_words_behind_a_double_dash_are_no_flags():
    assert find_flag(("t.py", "--", "--lr", "1"), 0, 4, ["lr"]) == []


def test_an_allocator_setting_joins_those_that_are_there():
    text = "roundup_power2_divisions:[256:1,512:2],expandable_segments:False"

    assert merged_list_setting("", "expandable_segments", "True") == "expandable_segments:True"
    assert merged_list_setting(text, "expandable_segments", "True") == (
        "roundup_power2_divisions:[256:1,512:2],expandable_segments:True"
    )
