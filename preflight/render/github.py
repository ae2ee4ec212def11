"""Results as workflow commands of GitHub Actions, which show them at their lines of a pull request, with no upload.

Source: docs.github.com, "Workflow commands for GitHub Actions": `::error file={name},line={line},title={title}::{message}`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from preflight.render.sarif import Log

LEVELS = {"error": "error", "warning": "warning", "note": "notice"}
"""A level of SARIF -> the command."""


def github_lines(log: Log) -> Iterator[str]:
    """Yield a command for every result; one without a place stands at the run."""
    (run,) = log.to_dict()["runs"]
    for result in run["results"]:
        named = {**_place(result), "title": f"preflight {result['ruleId']}"}
        properties = ",".join(f"{name}={_property(str(value))}" for name, value in named.items())
        text = _escaped(result["message"]["text"])
        yield f"::{LEVELS[result['level']]} {properties}::{text}"


def _place(result: dict[str, Any]) -> dict[str, Any]:
    for location in result.get("locations", ()):
        physical = location["physicalLocation"]
        line = physical["region"]["startLine"]
        return {"file": physical["artifactLocation"]["uri"], "line": line}
    return {}


def _escaped(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _escaped(text).replace(":", "%3A").replace(",", "%2C")
