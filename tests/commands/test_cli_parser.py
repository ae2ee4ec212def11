"""Options are argparse's; what is wrong is said as everywhere else, with the option that may have been meant."""

from __future__ import annotations

import pytest

from preflight.cli import main
from preflight.commands.options import add_launch_options, add_output_options
from preflight.commands.parser import HelpShown, Parser, parser_of
from preflight.errors import BadInput


def launch_parser() -> Parser:
    parser = Parser("check", "about", "usage")
    add_launch_options(parser)
    add_output_options(parser)
    return parser


def test_a_list_that_one_call_fills_is_empty_in_the_next():
    parser = launch_parser()

    assert parser.parse_args(["--set", "a=1", "--set=b=2"]).set == ["a=1", "b=2"]
    assert parser.parse_args([]).set == []


@pytest.mark.parametrize("args", [["x"], ["--device"], ["--format", "xml"], ["--zzz"], ["--dev"]])
def test_what_is_wrong_is_refused_with_a_fix(args):
    with pytest.raises(BadInput) as refusal:
        launch_parser().parse_args(args)

    assert refusal.value.problems[0].fix.endswith("`preflight check --help` shows the options")


@pytest.mark.parametrize(
    ("args", "near"),
    [
        (["--devise", "t4-16"], "--device"),
        (["--device", "t4-16", "--colour=never"], "--color"),
        (["--no_rewrite"], "--no-rewrite"),
    ],
)
def test_a_misspelt_option_is_told_the_one_that_is_near(args, near):
    with pytest.raises(BadInput) as refusal:
        launch_parser().parse_args(args)

    assert refusal.value.problems[0].fix.startswith(f"did you mean {near}; `preflight check")


@pytest.mark.parametrize("args", [["-h"], ["--device", "t4-16", "--help"]])
def test_help_is_printed_and_nothing_else_is_done(capsys, args):
    with pytest.raises(HelpShown):
        launch_parser().parse_args(args)

    assert capsys.readouterr().out.startswith("usage: usage\n\nabout\n")


def test_a_wrong_option_ends_with_2_and_in_run_with_78(capsys):
    assert main(["check", "--devise", "x", "--", "torchrun", "t.py"]) == 2
    assert main(["run", "--devise", "x", "--", "torchrun", "t.py"]) == 78
    assert capsys.readouterr().err.count("did you mean --device") == 2


def test_options_with_a_value_are_told_apart_from_those_that_stand_alone():
    """What comes after a flag may be the command that a user forgot the `--` in front of."""
    options = set(parser_of("check").options_with_value())

    assert {"--device", "--set", "--format", "--report"} <= options
    assert not options & {"-v", "--verbose", "--no-rewrite", "--here", "-h", "--help"}
