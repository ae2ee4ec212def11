"""How an error looks: what is wrong, where, what to do."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from preflight.errors import BadInput, HookFailed, Problem
from preflight.report import SCHEMA_VERSION


def problem_lines(problems: Iterable[Problem], label: str = "preflight") -> list[str]:
    """Return every problem as a message with its place and its fix below it, in their order; hints after what is wrong."""
    lines = []
    for problem in sorted(problems, key=lambda problem: problem.severity == "info"):
        mark = f" ({problem.id})" if problem.id else ""
        message = problem.message.splitlines() or [""]
        kind = "" if problem.severity == "error" else f" {problem.severity}:"
        lines.append(f"{label}:{kind} {message[0]}{mark if len(message) == 1 else ''}")
        lines.extend(f"  {line}" for line in message[1:])
        if problem.where and not problem.message.startswith(f"{problem.where} "):
            lines.append(f"  at   {problem.where}")
        if problem.fix:
            lines.append(f"  fix  {problem.fix}")
    return lines


def bad_input_to_dict(error: BadInput) -> dict[str, Any]:
    """Return bad input as the JSON object that stands in place of a report."""
    return _error(
        "bad_input",
        problems=[
            {
                "message": p.message,
                "where": p.where,
                "fix": p.fix,
                "id": p.id,
                "severity": p.severity,
            }
            for p in error.problems
        ],
    )


def hook_failed_to_dict(error: HookFailed) -> dict[str, Any]:
    """Return a plugin's failure as the JSON object that stands in place of a report."""
    return _error("hook_failed", plugin=error.plugin, hook=error.hook, message=error.reason)


def bug_to_dict(error: BaseException) -> dict[str, Any]:
    """Return an unexpected exception as the JSON object that stands in place of a report."""
    return _error("bug", message=f"{type(error).__name__}: {error}")


def _error(kind: str, **details: Any) -> dict[str, Any]:
    return {"schema_version": SCHEMA_VERSION, "error": {"kind": kind, **details}}
