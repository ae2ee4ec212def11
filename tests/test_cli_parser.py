"""The options that are read without argparse are read as argparse reads them."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from preflight.commands.options import add_launch_options, add_output_options
from preflight.commands.parser import Parser
from preflight.errors import BadInput

WORDS = st.sampled_from(
    [
        "--device",
        "--set",
        "--policy",
        "--allow",
        "--forbid",
        "--no-rewrite",
        "--format",
        "-v",
        "--verbose",
        "--color",
        "--colour",
        "--device=t4-16",
        "-vv",
        "-x",
        "text",
        "json",
        "always",
        "t4-16",
        "a=1",
        "-1",
        "-",
        "--",
        "x",
    ]
)


def launch_parser() -> Parser:
    parser = Parser("check", "about", "usage")
    add_launch_options(parser)
    add_output_options(parser)
    return parser


def outcome(parse, args):
    """Return the options that were read, or the complaint."""
    try:
        return vars(parse(args))
    except BadInput as error:
        return error.problems


@given(st.lists(st.one_of(WORDS, st.just("")), max_size=5))
def test_arguments_are_read_as_argparse_reads_them(args):
    parser = launch_parser()

    assert outcome(parser.parse_args, args) == outcome(parser._argparse().parse_args, args)


def test_a_list_that_one_call_fills_is_empty_in_the_next():
    parser = launch_parser()

    assert parser.parse_args(["--set", "a=1", "--set", "b=2"]).set == ["a=1", "b=2"]
    assert parser.parse_args([]).set == []


@pytest.mark.parametrize("args", [["x"], ["--device"], ["--format", "xml"], ["--unknown"]])
def test_what_is_wrong_is_refused_with_a_fix(args):
    with pytest.raises(BadInput) as refusal:
        launch_parser().parse_args(args)

    assert refusal.value.problems[0].fix == "`preflight check --help` shows the options"


def test_plain_options_need_no_argparse():
    program = (
        "import sys\n"
        "from preflight.commands.options import add_launch_options\n"
        "from preflight.commands.parser import Parser\n"
        "parser = Parser('check', '', '')\n"
        "add_launch_options(parser)\n"
        "assert parser.parse_args(['--device', 't4-16']).device == 't4-16'\n"
        "sys.exit('argparse' in sys.modules)\n"
    )

    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
