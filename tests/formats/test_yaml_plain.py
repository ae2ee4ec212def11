"""The reader of plain YAML gives what PyYAML gives, values and marks, or gives the text to PyYAML."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from preflight.errors import BadInput
from preflight.formats.yaml_marks import read_yaml
from preflight.formats.yaml_plain import read_plain_yaml

ROOT = Path(__file__).parent.parent.parent
CONFIGS = sorted(
    path
    for folder in ("tests/configs", "tests/benchmarks", "examples", "templates")
    for path in (ROOT / folder).rglob("*.y*ml")
)

KEYS = st.sampled_from(
    (
        "fsdp_config",
        "a",
        "b",
        "num_processes",
        "_x",
        "yes",
        "no",
        "null",
        "y",
        "1",
        "a b",
        "k-v",
        "",
    )
)
VALUES = st.sampled_from(
    [
        "a",
        "yes",
        "NO",
        "on",
        "Off",
        "true",
        "NULL",
        "~",
        "nan",
        ".inf",
        "0",
        "7",
        "007",
        "1_000",
        "0x1F",
        "1.5",
        "01.5",
        "1.5e3",
        "1.5e+3",
        ".5",
        "5.",
        "1e9",
        "1:30",
        "-1",
        "+1",
        "10.0.0.1",
        "1.2.3",
        "2026-01-02",
        "./x",
        "/x/y.py",
        "x/y-z",
        "a:b",
        "a#b",
        "a,",
        "[]",
        "{}",
        "[1]",
        "{a:",
        "1}",
        "'a'",
        "'yes'",
        "''",
        '"b"',
        '""',
        "'a''b'",
        '"a\\n"',
        "'a",
        "#b'",
        "'é'",
        "a\\b",
        "|",
        ">",
        "&",
        "*",
        "!",
        "%",
        "@",
        "`",
        "-",
        "--",
        "---",
        "...",
        "<<",
    ]
)
SPACES = st.sampled_from(("", " ", "  ", "\t", " # note", "#note", " #", "  # a: b"))
INDENTS = st.sampled_from(("", "", "  ", "  ", " ", "    ", "\t", "- "))


@st.composite
def lines(draw):
    if draw(st.integers(0, 9)) == 0:
        return draw(
            st.sampled_from(("", "  ", "# note", "  # note", "---", "word", "- a", "x: 1\r"))
        )
    indent, key, value = draw(INDENTS), draw(KEYS), draw(st.one_of(st.just(""), VALUES))
    gap = draw(st.sampled_from((" ", " ", " ", "", "  ")))
    return f"{indent}{key}:{gap}{value}{draw(SPACES)}"


TEXTS = st.builds(
    lambda found, end: "\n".join(found) + end,
    st.lists(lines(), max_size=6),
    st.sampled_from(("\n", "")),
)


def same_as_pyyaml(text: str) -> bool:
    """Tell whether the plain reader took a text; fail where it read it in another way."""
    plain = read_plain_yaml(text, "c.yaml")
    if plain is None:
        return False
    reference = read_yaml(text, "c.yaml", "warning")
    assert plain.value == reference.value
    assert repr(plain.value) == repr(reference.value)  # 1, 1.0 and True are not the same
    assert plain.marks == reference.marks
    assert (plain.kind, plain.text, plain.problems) == ("yaml", text, reference.problems)
    return True


@given(TEXTS)
@example("a: 1\nfsdp_config:\n  b: yes # x\n\n  c: 'no'\nd: 10.0.0.1\n")
@example("a:\n  b: 1\n")
@example("a:\nb: 1\n")
@example("a:\n")
@example("a: 1\na: 2\n")
@example("a: 1\n  b: 2\n")
@example("a:\n  b: 1\n c: 2\n")
@example("a: 1\n\n\n")
@example("\ufeffa: 1\n")
def test_a_text_is_read_as_pyyaml_reads_it_or_not_at_all(text):
    same_as_pyyaml(text)


@given(st.text(alphabet="ab01:#'\" \n-.yes", max_size=40))
def test_so_is_a_text_without_any_shape(text):
    same_as_pyyaml(text)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_real_config_is_read_the_same(path):
    try:
        same_as_pyyaml(path.read_text())
    except (BadInput, UnicodeDecodeError) as error:
        raise AssertionError(f"the plain reader took a file that is wrong: {error}") from error


def test_what_accelerate_config_writes_is_plain():
    text = (ROOT / "tests/benchmarks/zero3-70b/zero3.yaml").read_text()

    assert same_as_pyyaml(text)
