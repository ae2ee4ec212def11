"""The command line of `accelerate launch`: recognise it, and split it into launcher options and the script's part."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from preflight.command import LaunchCommand
from preflight.errors import Problem
from preflight.launchers.accelerate import LAUNCHER
from preflight.libraries.resolve import libraries_of
from preflight.shell.starters.launcher_options import ParsedOptions, parse_options
from preflight.shell.starters.option_table import abbreviates_until, older_options, options_of
from preflight.shell.starters.program_names import called, program_name
from preflight.versions.boundary import release

OPTIONS = options_of("accelerate")
BY_KEY = {option.key: option for option in OPTIONS if option.kind != "unset"}
RENAMED = {"fsdp_backward_prefetch_policy": "fsdp_backward_prefetch"}
"""Option of older releases -> its name since (accelerate/commands/launch.py, 0.26.1)."""
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


def parse_launcher_arguments(
    argv: Sequence[str], first_index: int, version: str = ""
) -> ParsedOptions:
    """Split the command as the launcher's own parser does, of the newest release or of one that is named.

    Wrong values come back as problems.
    """
    options, abbreviates = OPTIONS, False
    if version:
        older = (o for o in older_options() if release(version) < release(o.until))
        options += tuple(replace(each, key=RENAMED.get(each.key, each.key)) for each in older)
        abbreviates = release(version) < release(abbreviates_until())
    return parse_options(
        argv, first_index, options, "accelerate launch", USAGE, abbreviates, library="accelerate"
    )


def parse_launch(command: LaunchCommand, first_index: int) -> ParsedOptions:
    """Split a launch as the parser of its own release does: what the newest one refuses may be an option of an older."""
    parsed = parse_launcher_arguments(command.argv, first_index)
    if all(problem.severity != "error" for problem in parsed.problems):
        return parsed
    version = libraries_of(command).version("accelerate")
    return parse_launcher_arguments(command.argv, first_index, version)


def older_notes(arguments: ParsedOptions) -> Iterator[Problem]:
    """Name the options of an older release that nothing here reads: what they do to a launch is not counted."""
    for key, setting in arguments.given.items():
        if key not in BY_KEY and setting.value:
            flag = setting.place.where
            message = f"{flag} is an option of older releases, and the estimate does not count it"
            yield Problem.left_out(message, flag, f"what {flag} does", "either")
