"""Formulas against traces in several releases of transformers, for docs/versions.md.

`python -m preflight.derive.version_table llama qwen2 --python VENV/bin/python ...` traces the families in every one of
these environments, each with what is installed there, and sets the formulas of that release beside the traces.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from preflight.derive.target import ROOT, put_between, read

PAGE = "docs/versions.md"
BEGIN, END = "<!-- formulas by release -->", "<!-- end of formulas by release -->"
METHODS = ("full", "LoRA")
LIBRARIES = ("transformers", "peft", "torch")
WORST_OFF = 0.02
"""What a cell may be off before it is marked."""


def rows_here(families: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Trace families with the libraries of this process; yield the worst moment of each, or why there is none."""
    import warnings
    from importlib.metadata import version

    import preflight
    from preflight.derive.formula_table import compare
    from preflight.plugins import load_plugins

    warnings.simplefilter("ignore")
    preflight.__path__.append(str(ROOT))  # hooks, where nothing is installed
    versions = {name: version(name).partition("+")[0] for name in LIBRARIES}
    plugins = load_plugins(str(ROOT))
    for family in families:
        for method in METHODS:
            row: dict[str, Any] = {**versions, "family": family, "method": method}
            try:
                found = [
                    compared
                    for checkpointing in (False, True)
                    for compared in compare(
                        family, method, checkpointing, plugins, versions=versions
                    )
                ]
                worst = max(found, key=lambda compared: abs(compared.error))
                yield {**row, "error": worst.error, "moment": worst.moment.value}
            except Exception as error:  # a release that has no such type, or cannot be traced
                yield {**row, "error": None, "why": f"{type(error).__name__}: {error}"[:200]}


def rows_of(python: str, families: Sequence[str]) -> list[dict[str, Any]]:
    """Return the rows of another environment, traced by its own interpreter."""
    command = [python, "-m", "preflight.derive.version_table", "--here", *families]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "TRANSFORMERS_VERBOSITY": "error"}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.stderr.write(done.stderr)
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def table_lines(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Return the table in Markdown: a family by release, full training and LoRA."""
    releases = list(dict.fromkeys(row["transformers"] for row in rows))
    lines = [
        "| % off, full / LoRA | " + " | ".join(releases) + " |",
        "|---" + "|--:" * len(releases) + "|",
    ]
    cells = {(row["family"], row["transformers"], row["method"]): row["error"] for row in rows}
    for family in dict.fromkeys(row["family"] for row in rows):
        own = [
            " / ".join(_said(cells.get((family, release, method))) for method in METHODS)
            for release in releases
        ]
        lines.append(f"| {family} | " + " | ".join(own) + " |")
    return lines


def _said(error: float | None) -> str:
    if error is None:
        return "-"
    return f"**{100 * error:+.1f}**" if abs(error) > WORST_OFF else f"{100 * error:+.2f}"


def main() -> int:
    """Print the table, or write it into the page; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m preflight.derive.version_table", description=__doc__
    )
    parser.add_argument("families", nargs="+", metavar="FAMILY")
    parser.add_argument("--python", action="append", default=[], help="of another environment")
    parser.add_argument("--here", action="store_true", help="rows of this environment, as JSON")
    parser.add_argument("--write", action="store_true", help=f"into {PAGE}")
    options = parser.parse_args()
    if options.here:
        for row in rows_here(options.families):
            print(json.dumps(row), flush=True)
        return 0
    rows: list[dict[str, Any]] = []
    for python in [*options.python, sys.executable]:
        for row in rows_of(python, options.families):
            print(json.dumps(row), file=sys.stderr, flush=True)
            rows.append(row)
    lines = table_lines(rows)
    if options.write:
        (ROOT / PAGE).write_text(put_between(read(PAGE), BEGIN, END, lines), encoding="utf-8")
    else:
        print("\n".join(lines))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
