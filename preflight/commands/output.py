"""Printing a report to a stream, as text or as JSON."""

from __future__ import annotations

from typing import IO, Any

from preflight.report import Report


def print_report(report: Report, door: str, options: Any, stream: IO[str]) -> None:
    """Print the report of a door and flush it."""
    if options.format == "json":
        print_json(report.to_dict(), stream)
        return
    from preflight.render.page import page_for
    from preflight.render.report import report_lines

    page = page_for(stream, options.color)
    print_lines(report_lines(report, door, page, options.verbose), stream)


def print_json(value: Any, stream: IO[str]) -> None:
    """Print a value as JSON, for people to read too."""
    import json

    stream.write(json.dumps(value, indent=2) + "\n")
    stream.flush()


def print_lines(lines: list[str], stream: IO[str]) -> None:
    """Print lines in one write, so that other processes' lines do not fall between them."""
    stream.write("\n".join(lines) + "\n")
    stream.flush()
