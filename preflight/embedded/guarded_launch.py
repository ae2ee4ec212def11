"""What a guard does about a launch that somebody started without us: check, say, and tell whether it may start."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from typing import Any

from preflight.errors import BadInput, PreflightError
from preflight.printable import text_of
from preflight.report import Report
from preflight.repository.settings import find_repository
from preflight.streams import say


def may_start(argv: list[str], mode: str) -> bool:
    """Check a launch and print its report to stderr; return False where `enforce` refuses it.

    A failure of ours lets the launch start and is told in a line: a bug in a guard must not stop
    anybody's training.
    """
    from preflight.render.terminal import lines_for

    try:
        report = _checked(argv)
        is_refused = _is_refused_as_written(report)
        lines = _lines(report, mode, is_refused)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        lines, is_refused = _not_checked(error), False
    say(text_of(lines_for(sys.stderr, lines)) + "\n")
    return not is_refused or mode == "warn"


def _checked(argv: list[str]) -> Report:
    from preflight.api import check

    return check(argv[1:] if _names_a_program(argv) else argv, here=True)


def _names_a_program(argv: list[str]) -> bool:
    """Tell `python /venv/bin/torchrun ...`, which a shell started as torchrun, from `python train.py`."""
    return len(argv) > 1 and not argv[1].startswith("-") and not argv[1].endswith(".py")


def _is_refused_as_written(report: Report) -> bool:
    """Tell whether the policy refuses the launch as it is: a guard comes too late to start another."""
    from preflight.policy import Policy, policy_from_dict

    keys = find_repository(os.getcwd()).policy
    policy = policy_from_dict(keys) if keys else Policy()
    return report.is_refused_by_findings or policy.refuses(report.verdict.answer)


def _lines(report: Report, mode: str, is_refused: bool) -> list[str]:
    from preflight.render.page import page_for
    from preflight.render.report import head_lines, left_alone_lines, report_lines
    from preflight.render.words import shell_command

    page = page_for(sys.stderr)
    if not is_refused:
        return [
            *head_lines(replace(report, applied=(), rewrite=None), page),
            *_errors(report, page),
            *left_alone_lines(report.left_alone, page),
        ]
    lines = report_lines(report, "run", page)[:-1]
    command = shell_command(report.command.argv, {}) if report.command else "..."
    if mode == "warn":
        lines.append("next: starts the launch as written, because the guard only warns")
    elif report.may_launch:
        lines.append(f"next: nothing was started; start it rewritten: preflight run -- {command}")
    else:
        lines.append("next: nothing was started; PREFLIGHT=off starts it unchecked")
    return lines


def _errors(report: Report, page: Any) -> list[str]:
    from preflight.render.report import finding_lines

    return [
        line
        for finding in report.findings
        if finding.severity == "error"
        for line in finding_lines(finding, page)
    ]


def _not_checked(error: BaseException) -> list[str]:
    if isinstance(error, BadInput):
        from preflight.render.problems import problem_lines

        return [*problem_lines(error.problems), "next: the launch starts unchecked"]
    what = str(error) if isinstance(error, PreflightError) else f"{type(error).__name__}: {error}"
    if os.environ.get("PREFLIGHT_TRACE") == "1":
        import traceback

        traceback.print_exception(error)
    return [f"preflight: not checked: {what}", "next: the launch starts unchecked"]
