"""`diff`: two launches or plans side by side, for a person or a pull request."""

from __future__ import annotations

import os
import shlex
import sys

from preflight.commands.asked import request_from
from preflight.commands.estimate import read_plan
from preflight.commands.options import DOES_NOT_FIT, FITS, add_launch_options, add_report_option
from preflight.commands.output import print_json, print_lines, tell_left_alone, write_page
from preflight.commands.parser import Parser
from preflight.errors import BadInput
from preflight.formats.load import read_data_file
from preflight.launch import LaunchCommand
from preflight.lazy_pattern import lazy_pattern
from preflight.near_names import nearest_file_fix
from preflight.pipeline import check_launch, check_plan
from preflight.plugin_manager import PluginManager
from preflight.plugins import load_plugins
from preflight.render.comparison import Comparison, comparison_lines
from preflight.render.page import page_for
from preflight.report import Report
from preflight.repository.settings import find_repository
from preflight.request import Request
from preflight.shell.starters.typed_words import as_program
from preflight.streams import say
from preflight.studies.scan import scan_files
from preflight.verdict import Answer

EPILOG = """\
Each of A and B is a plan file (.yaml, .json), a file with one launch in it (a shell script, a
Makefile, a README), FILE:LINE for one of several, or a whole command in one word. Both are judged
on the same device and with the same options, as they are written: nothing is started or rewritten.

examples:
  preflight diff --device h100-sxm-80 before.sh after.sh
  preflight diff --format md train.sh 'accelerate launch train.py --max_length 8192' > comment.md
  preflight diff old.yaml new.yaml --report diff.html

exit: 0; 1 B does not fit as written; 2 bad input; 3 preflight failed
"""
PLAN_ENDINGS = (".yaml", ".yml", ".json")
LINE = lazy_pattern(r"(.+):(\d+)")


def parser(name: str) -> Parser:
    """Return what the command takes."""
    parser = Parser(
        name,
        "Compare two launches: verdicts, peaks by phase, plan fields and memory terms.",
        "preflight diff [options] A B",
        EPILOG,
    )
    parser.add_argument("before", metavar="A")
    parser.add_argument("after", metavar="B")
    add_launch_options(parser)
    add_report_option(parser, "both verdicts, what differs")
    group = parser.add_argument_group("output")
    group.add_argument("--format", choices=("text", "json", "md"), default="text")
    group.add_argument("-v", "--verbose", action="store_true", help="both reports whole")
    group.add_argument("--color", choices=("auto", "always", "never"), default="auto")
    return parser


def run(name: str, args: list[str]) -> int:
    """Judge both and print what differs; return 1 where the second does not fit."""
    options = parser(name).parse_args(args)
    repository = find_repository(os.getcwd())
    request = request_from(options, repository)
    plugins = load_plugins(os.getcwd(), project_files=repository.hooks)
    tell_left_alone(*repository.left_alone, *plugins.left_alone)
    before, after = (_judged(word, plugins, request) for word in (options.before, options.after))
    comparison = Comparison(before, after, _names(options.before, options.after))
    if options.report is not None:
        write_page(options.report, comparison.to_html())
    if options.format == "json":
        print_json(comparison.to_dict(), sys.stdout)
    elif options.format == "md":
        say(comparison.to_markdown(), sys.stdout)
    else:
        page = page_for(sys.stdout, options.color)
        lines = comparison_lines(comparison, page)
        if options.verbose:
            from preflight.render.report import report_lines

            for title, report in zip(comparison.names, (before, after), strict=True):
                lines += ["", page.paint(title, "bold"), *report_lines(report, "check", page, True)]
        print_lines(lines, sys.stdout)
    return DOES_NOT_FIT if after.verdict.answer is Answer.DOES_NOT_FIT else FITS


def _names(before: str, after: str) -> tuple[str, str]:
    """Return what heads the columns: the files, or `A` and `B` where a command would be too long for one."""
    if before != after and not any(" " in word for word in (before, after)):
        return before, after
    return "A", "B"


def _judged(word: str, plugins: PluginManager, request: Request) -> Report:
    if os.path.isfile(word):
        if word.endswith(PLAN_ENDINGS):
            return check_plan(read_plan(read_data_file(word)), plugins, request)
        return _launch_of(word, None, plugins, request)
    at_line = LINE.fullmatch(word)
    if at_line is not None and os.path.isfile(at_line[1]):
        return _launch_of(at_line[1], int(at_line[2]), plugins, request)
    if " " not in word:
        fix = nearest_file_fix(word, os.path.abspath(word), "this folder")
        raise BadInput.one(f"there is no file {word}", word, f"{fix}; a command is one word: '...'")
    try:
        words = as_program(shlex.split(word))
    except ValueError as error:
        raise BadInput.one(f"no shell would take this command: {error}", word) from error
    flags = request.repository.flags
    command = LaunchCommand(words, dict(os.environ), os.getcwd(), declared_flags=flags)
    return check_launch(command, plugins, request)


def _launch_of(path: str, line: int | None, plugins: PluginManager, request: Request) -> Report:
    """Return the report of the launch that stands in a file, at a line where one is said."""
    found = list(scan_files([path], os.getcwd(), plugins, request, request.repository.flags))
    asked = [one for one in found if line in (None, one.line)]
    if len(asked) != 1:
        few = {0: "no launch stands", 1: "one launch stands"}
        number = few.get(len(found), f"{len(found)} launches stand")
        where = ", ".join(one.where for one in found)
        raise BadInput.one(
            f"{number} in {path if line is None else f'{path}:{line}'}",
            fix=f"one of {where}" if found else f"`preflight scan {path}` says what it reads there",
        )
    (one,) = asked
    if one.report is None:
        if one.problems:
            raise BadInput(*one.problems)
        raise BadInput.one(f"{one.where} cannot be compared: {one.untold}")
    return one.report
