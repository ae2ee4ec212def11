"""Formulas against traces in several releases of transformers, for docs/versions.md.

`python -m preflight.derive.pages.version_table llama qwen2 --python VENV/bin/python ... --write` traces the families in every
one of these environments, each with what is installed there, and keeps what was alive; `python -m preflight.derive
releases` sets the formulas of today beside what is kept.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from preflight.derive.costs.formula_table import ends_of_kinds, formulas_of, moments_of
from preflight.derive.costs.release_costs import LIBRARIES, installed
from preflight.derive.layouts.small_models import small_config, small_launch
from preflight.derive.layouts.small_sizes import NUM_VARIANTS
from preflight.derive.target import ROOT, Files, Say, put_between, read, write
from preflight.launch import LaunchPlan
from preflight.memory import Moment
from preflight.model import ModelSpec
from preflight.models import describe
from preflight.plugin_manager import PluginManager
from preflight.plugins import load_plugins
from preflight.trace.job import job_of
from preflight.versions.boundary import release

PAGE = "docs/versions.md"
BEGIN, END = "<!-- formulas by release -->", "<!-- end of formulas by release -->"
ROWS = "tests/formulas/older_layers.jsonl"
"""What was traced: a line for each family, release, method and way of checkpointing."""
COLUMNS = {
    "full": ("full", "full, autocast"),
    "LoRA": ("LoRA", "LoRA, autocast"),
    "QLoRA": ("QLoRA, autocast", "QLoRA, prepared, autocast"),
    "fp32": ("full, fp32", "LoRA, fp32"),
}
"""Part of a cell -> the methods of which it has the one that is off most."""
WORST_OFF = 0.01
"""What a cell may be off before it is marked."""
Row = dict[str, Any]


def rows_here(families: Sequence[str]) -> Iterator[Row]:
    """Trace families with the libraries of this process; yield live bytes by moment, or why there are none."""
    import warnings

    warnings.simplefilter("ignore")
    versions = installed()
    for family in families:
        for method in (method for methods in COLUMNS.values() for method in methods):
            for checkpointing in (False, True):
                row: Row = {**versions, "family": family, "method": method}
                row["checkpointing"] = checkpointing
                try:
                    yield {**row, "traced": traced(family, method, checkpointing, versions)}
                except Exception as error:  # a release that has no such type, or cannot be traced
                    yield {**row, "why": f"{type(error).__name__}: {error}"[:120]}


def traced(
    family: str, method: str, checkpointing: bool, versions: Mapping[str, str]
) -> dict[str, int]:
    """Return the live bytes of a small launch at every moment of its first step."""
    from preflight.trace.run import trace

    plan, spec = launch_of(family, method, checkpointing, versions)
    found = moments_of(trace(job_of(plan, spec)).levels, ends_of_kinds(plan, spec))
    return {moment.value: num_bytes for moment, num_bytes in found.items()}


def launch_of(
    family: str, method: str, checkpointing: bool, versions: Mapping[str, str]
) -> tuple[LaunchPlan, ModelSpec]:
    """Return a small launch of a family in some releases, in a size that no table was made from."""
    spec = describe(small_config(family, NUM_VARIANTS), family, "small_models.py")
    return small_launch(family, method, checkpointing, versions=dict(versions)), spec


def worst_of(row: Row, plugins: PluginManager) -> float:
    """Return how far formulas are from a traced row at the moment at which they are off most.

    Rows were traced with the backward of layer 0 as that of the first layer: of a model with several kinds of layers it
    is what formulas may not be below, since the lowest layer of another kind may need more.
    """
    versions = {name: row[name] for name in LIBRARIES}
    plan, spec = launch_of(row["family"], row["method"], row["checkpointing"], versions)
    formulas = formulas_of(plan, spec, plugins)
    off: dict[str, float] = {
        moment: formulas[Moment(moment)] / num - 1 for moment, num in row["traced"].items()
    }
    first = Moment.FIRST_LAYER_BACKWARD.value
    if first in off and len(spec.layers) > 1:
        off[first] = min(0.0, off[first])
    return max(off.values(), key=abs)


def rows_of(python: str, families: Sequence[str]) -> list[Row]:
    """Return the rows of another environment, traced by its own interpreter."""
    command = [python, "-m", "preflight.derive.pages.version_table", "--here", *families]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "TRANSFORMERS_VERBOSITY": "error"}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.stderr.write(done.stderr)
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def kept_rows() -> list[Row]:
    """Return the rows that are kept."""
    return [json.loads(line) for line in read(ROWS).splitlines()]


def with_rows(kept: Sequence[Row], new: Sequence[Row]) -> list[Row]:
    """Return all rows, the new ones in the place of those of the same families in the same release."""
    made = {(row["family"], row["transformers"]) for row in new}
    rows = [row for row in kept if (row["family"], row["transformers"]) not in made]
    return sorted([*rows, *new], key=lambda row: release(row["transformers"]))


def table_lines(rows: Sequence[Row], plugins: PluginManager) -> list[str]:
    """Return the table in Markdown: a family by release; full training, LoRA and QLoRA."""
    releases = sorted({row["transformers"] for row in rows}, key=release)
    lines = [
        f"| % off, {' / '.join(COLUMNS)} | " + " | ".join(releases) + " |",
        "|---" + "|--:" * len(releases) + "|",
    ]
    off: dict[tuple[str, str, str], list[float]] = {}
    for row in rows:
        if "traced" in row:
            cell = (row["family"], row["transformers"], row["method"])
            off.setdefault(cell, []).append(worst_of(row, plugins))
    for family in sorted({row["family"] for row in rows}):
        cells = [
            " / ".join(
                _said([e for m in methods for e in off.get((family, one, m), ())])
                for methods in COLUMNS.values()
            )
            for one in releases
        ]
        lines.append(f"| {family} | " + " | ".join(cells) + " |")
    return lines


def _said(errors: Sequence[float]) -> str:
    if not errors:
        return "-"
    error = max(errors, key=abs)
    return f"**{100 * error:+.1f}**" if abs(error) > WORST_OFF else f"{100 * error:+.2f}"


def files(say: Say) -> Files:
    """Yield the page with the table of the rows that are kept."""
    lines = table_lines(kept_rows(), load_plugins(str(ROOT)))
    yield PAGE, put_between(read(PAGE), BEGIN, END, lines)


def main() -> int:
    """Trace families in environments and print the table, or write it and the rows; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m preflight.derive.pages.version_table", description=__doc__
    )
    parser.add_argument("families", nargs="+", metavar="FAMILY")
    parser.add_argument("--python", action="append", default=[], help="of another environment")
    parser.add_argument("--here", action="store_true", help="rows of this environment, as JSON")
    parser.add_argument("--write", action="store_true", help=f"into {PAGE} and {ROWS}")
    options = parser.parse_args()
    if options.here:
        for row in rows_here(options.families):
            print(json.dumps(row), flush=True)
        return 0
    rows: list[Row] = []
    for python in options.python or [sys.executable]:
        rows += rows_of(python, options.families)
        print(f"{python}: {len(rows)} rows", file=sys.stderr, flush=True)
    if not options.write:
        print("\n".join(table_lines(rows, load_plugins(str(ROOT)))))
        return 0
    kept = with_rows(kept_rows(), rows)
    write(ROWS, "".join(json.dumps(row) + "\n" for row in kept))
    for path, text in files(print):
        write(path, text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
