"""The command line of `accelerate launch`: recognise it, and split it into launcher options and the script's part."""

from __future__ import annotations

from collections.abc import Sequence

from preflight.launchers.accelerate import LAUNCHER
from preflight.launchers.option_table import options_of
from preflight.shell.starters.launcher_options import ParsedOptions, parse_options
from preflight.shell.starters.program_names import called, program_name

OPTIONS = options_of("accelerate")
BY_KEY = {option.key: option for option in OPTIONS if option.kind != "unset"}
USAGE = "accelerate launch [options] train.py [arguments of train.py]"


def first_option_index(argv: Sequence[str]) -> int | None:
    """Return the argv index behind `accelerate launch`, or None where this is another command."""
    first = LAUNCHER.first_argument(argv)
    if first is None:
        return None
    what = called(argv)
    assert what is not None
    takes_none = program_name(what.name) in LAUNCHER.without_subcommand
    return first if takes_none else first + 1


def parse_launcher_arguments(argv: Sequence[str], first_index: int) -> ParsedOptions:
    """Split the command as the launcher's own parser does; wrong values come back as problems."""
    return parse_options(argv, first_index, OPTIONS, "accelerate launch", USAGE, abbreviates=False)
