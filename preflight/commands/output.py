"""Printing a report to a stream, as text or as JSON."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import IO, TYPE_CHECKING, Any

from preflight.errors import BadInput
from preflight.printable import text_of
from preflight.report import Report
from preflight.streams import say

if TYPE_CHECKING:
    from preflight.plugin_manager import PluginManager
    from preflight.policy import Policy
    from preflight.render.sarif import Log


def print_report(report: Report, door: str, options: Any, stream: IO[str]) -> None:
    """Print the report of a door and flush it."""
    if options.format == "json":
        print_json(report.to_dict(), stream)
        return
    from preflight.render.page import page_for
    from preflight.render.report import report_lines

    page = page_for(stream, options.color)
    print_lines(report_lines(report, door, page, options.verbose), stream)


def tell_left_alone(*left_alone: str) -> None:
    """Say on stderr which files were not obeyed, for a command whose own output has no place for it."""
    if left_alone:
        from preflight.render.page import page_for
        from preflight.render.report import left_alone_lines

        print_lines(left_alone_lines(left_alone, page_for(sys.stderr)), sys.stderr)


def save_page(
    path: str,
    report: Report,
    door: str,
    plugins: PluginManager,
    policy: Policy,
    settings: Sequence[str] = (),
    plan_file: str = "",
) -> None:
    """Write a report as an HTML file; raise BadInput where it cannot be written.

    `settings` are the `--set` options and `plan_file` the file that were given: a trace takes them too.
    """
    from datetime import date

    from preflight.render.html_report import report_html
    from preflight.studies.what_if import by_method
    from preflight.trace.kept import find_kept

    kept = None
    if report.model is not None:
        kept = find_kept(report.final_plan, report.model)
    command = trace_command(report, settings, plan_file)
    what = by_method(report, plugins, policy)
    day = date.today().isoformat()
    write_page(path, report_html(report, door, what, kept, command, day))


def trace_command(report: Report, settings: Sequence[str], plan_file: str = "") -> str:
    """Return the command that traces what a report would start, for a shell."""
    from preflight.render.words import shell_command

    edited = {name for tried in report.applied for name in tried.remedy.edits}
    rewrite = report.rewrite if report.applied else None
    words = ["preflight", "trace"]
    for setting in settings:
        # What a remedy edited is in the rewritten copy; the option would undo it.
        if rewrite is None or setting.partition("=")[0].partition(".")[0] not in edited:
            words += ["--set", setting]
    if "dataset" in report.extra:
        words += ["--set", f"seq_len={report.final_plan.seq_len}"]
    if report.command is None:
        return shell_command((*words, "--plan", plan_file), {})
    argv = report.command.argv if rewrite is None else rewrite.argv
    return shell_command((*words, "--", *argv), {} if rewrite is None else rewrite.env)


def write_page(path: str, text: str) -> None:
    """Write a page whole or not at all; raise BadInput where it cannot be written."""
    if not path.endswith((".html", ".htm")):
        raise BadInput.one(
            f"--report writes an HTML file, and {path} is not called one", fix=f"{path}.html"
        )
    write_asked(path, text, "--report")


def write_asked(path: str, text: str | bytes, option: str) -> None:
    """Write the file that an option names, whole or not at all; raise BadInput where it cannot be written."""
    from preflight.whole_file import write_whole  # few commands write any

    try:
        write_whole(os.path.realpath(path), text)
    except OSError as error:
        raise BadInput.one(f"{path} cannot be written: {error.strerror}", option) from error


def print_json(value: Any, stream: IO[str]) -> None:
    """Print a value as JSON, for people to read too."""
    say(json.dumps(value, indent=2) + "\n", stream)


def print_review(log: Log, output_format: str) -> None:
    """Print results for a code review, as SARIF or as workflow commands of GitHub."""
    if output_format == "sarif":
        print_json(log.to_dict(), sys.stdout)
        return
    from preflight.render.github import github_lines

    for line in github_lines(log):
        say(line + "\n", sys.stdout)


def print_json_list(
    before: Mapping[str, Any],
    name: str,
    items: Iterable[Any],
    after: Mapping[str, Any],
    stream: IO[str],
) -> None:
    """Print what print_json would of a value with a list in it, item by item: the list may be longer than memory."""
    head = json.dumps({**before, name: []}, indent=2)
    say(head.removesuffix("]\n}"), stream)
    separator = "\n"
    for item in items:
        lines = json.dumps(item, indent=2).splitlines(keepends=True)
        say(separator + "".join([f"    {line}" for line in lines]), stream)
        separator = ",\n"
    end = "]" if separator == "\n" else "\n  ]"
    say(end + "," + json.dumps(after, indent=2).removeprefix("{") + "\n", stream)


def print_lines(lines: list[str], stream: IO[str]) -> None:
    """Print an answer in one write, so that other processes' lines do not fall between its own."""
    from preflight.render.terminal import lines_for

    say(text_of(lines_for(stream, lines)) + "\n", stream)
